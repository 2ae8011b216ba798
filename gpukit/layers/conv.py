"""Convolution layers over images (N, H, W, C)."""

from __future__ import annotations

from typing import Any, Unpack

from gpukit import ops
from gpukit.core.config import extends, flag, whole
from gpukit.errors import ShapeError
from gpukit.layers.base import register
from gpukit.layers.batch_shape import Shape, show_shape
from gpukit.layers.weighted import WeightedLayer, WeightOptions
from gpukit.layers.windowed import checked_padding, strictness, window_outputs
from gpukit.primitives import geometry


class ConvOptions(WeightOptions, total=False):
    """What every convolution takes beside its windows."""

    activation: Any
    strict: bool | None


class _Convolution(WeightedLayer):
    """Cross-correlation with learned filters; the subclass says how many there are."""

    rank = 4
    axes = "(N, H, W, C)"

    @extends(WeightedLayer, last=("name", "input_shape", "dtype", "trainable"))
    def __init__(
        self,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = "valid",
        dilation_rate: Any = (1, 1),
        activation: Any = None,
        *,
        strict: bool | None = None,
        **options: Unpack[WeightOptions],
    ) -> None:
        super().__init__(activation, **options)
        self._groups = 1
        self.kernel_size = geometry.as_pair(kernel_size, "kernel_size")
        self.strides = geometry.as_pair(strides, "strides")
        self.dilation_rate = geometry.as_pair(dilation_rate, "dilation_rate")
        self.padding = checked_padding(padding)
        self.strict = None if strict is None else flag("strict", strict)

    def channels(self, input_shape: Shape) -> tuple[int, int, int]:
        """(input channels, filters, groups) for an input, checked."""
        raise NotImplementedError

    def known_channels(self, input_shape: Shape) -> int:
        """The input's channels, which a kernel cannot leave open."""
        if input_shape[3] is None:
            raise ShapeError(f"the channels of {show_shape(input_shape)} must be known")
        return input_shape[3]

    def output_shape(self, input_shape: Shape) -> Shape:
        _, filters, _ = self.channels(input_shape)
        rows, columns = window_outputs(
            input_shape,
            self.kernel_size,
            stride=self.strides,
            padding=self.padding,
            dilation=self.dilation_rate,
            strict=self.strict,
        )
        return input_shape[0], rows, columns, filters

    def create_parameters(self, input_shape: Shape) -> None:
        channels, filters, groups = self.channels(input_shape)
        self._groups = groups
        self.add_weights(channels, (*self.kernel_size, channels // groups, filters), groups)

    @property
    def settings(self) -> dict[str, Any]:
        """What `ops.conv2d` takes beside arrays and activation."""
        return {
            "stride": self.strides,
            "padding": self.padding,
            "dilation": self.dilation_rate,
            "groups": self._groups,
            "algo": self.algo,
        }

    def weigh(self, inputs: Any, activation: str | None) -> Any:
        with strictness(self.strict):
            return ops.conv2d(
                inputs, self.kernel, self.bias, activation=activation, **self.settings
            )


@register
class Conv2D(_Convolution):
    """`filters` filters over images: (N, H, W, C) → (N, H', W', filters).

    Weights (rows, columns, C/groups, filters) and a bias for each filter. `padding` is "valid",
    "same", a whole number, (rows, columns) or ((top, bottom), (left, right)); `groups` cuts the
    channels into towers that do not see each other. `strict` refuses windows that do not tile the
    input exactly (None: as `gpukit.strict` says). Raises SettingError, ShapeError.
    """

    @extends(_Convolution)
    def __init__(
        self,
        filters: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = "valid",
        dilation_rate: Any = (1, 1),
        groups: int = 1,
        **options: Unpack[ConvOptions],
    ) -> None:
        super().__init__(kernel_size, strides, padding, dilation_rate, **options)
        self.filters = whole("filters", filters)
        self.groups = whole("groups", groups)

    def channels(self, input_shape: Shape) -> tuple[int, int, int]:
        channels = self.known_channels(input_shape)
        return channels, self.filters, geometry.check_groups(channels, self.filters, self.groups)


@register
class DepthwiseConv2D(_Convolution):
    """Filters that each see one channel: (N, H, W, C) → (N, H', W', C·depth_multiplier).

    Output channel c·depth_multiplier + j comes from input channel c. Weights are a grouped
    convolution's, (rows, columns, 1, C·depth_multiplier).
    """

    @extends(_Convolution)
    def __init__(
        self,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = "valid",
        depth_multiplier: int = 1,
        dilation_rate: Any = (1, 1),
        **options: Unpack[ConvOptions],
    ) -> None:
        super().__init__(kernel_size, strides, padding, dilation_rate, **options)
        self.depth_multiplier = whole("depth_multiplier", depth_multiplier)

    def channels(self, input_shape: Shape) -> tuple[int, int, int]:
        channels = self.known_channels(input_shape)
        return channels, channels * self.depth_multiplier, channels

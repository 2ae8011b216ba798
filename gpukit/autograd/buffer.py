"""The parameter buffer: all trainable parameters of a model on one device, and their gradients.

Two contiguous arrays, so that an optimiser's step is one pass whatever the number of layers. Each
parameter begins at a multiple of 16 bytes, as vector loads of kernels need: a weight after an
odd-sized bias has the same speed and the same results. The elements between are padding: they begin
as zeros, belong to no parameter and are in no checkpoint.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpukit.autograd import Parameter, Tensor
from gpukit.device import Device

ALIGNMENT = 16  # bytes


class ParameterBuffer:
    """Trainable parameters of one device and dtype, as views of `weights` and `grads`.

    `weights` and `grads` are 1-D arrays; `slices[i]` is where `parameters[i]` lives in them. What
    lies between slices is padding, of which `grads` are always zero.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[Tensor],
        slices: Sequence[slice],
        weights: Any,
        grads: Any,
    ) -> None:
        self.name = name
        self.parameters = list(parameters)
        self.slices = list(slices)
        self.weights = weights
        self.grads = grads
        self._grad_views = self._grad_buffers()

    @classmethod
    def of(cls, name: str, parameters: Sequence[Parameter], device: Device) -> ParameterBuffer:
        """Move `parameters`, which share a dtype and live on `device`, into one new buffer."""
        step = ALIGNMENT // parameters[0].dtype.itemsize  # elements
        slices, end = [], 0
        for parameter in parameters:
            slices.append(slice(end, end + parameter.size))
            end += -(-parameter.size // step) * step
        weights = device.zeros((end,), parameters[0].dtype)
        grads = device.zeros((end,), parameters[0].dtype)
        with device.current():
            for parameter, place in zip(parameters, slices):
                shape = parameter.shape
                parameter.bind(weights[place].reshape(shape), grads[place].reshape(shape))
        return cls(name, parameters, slices, weights, grads)

    @classmethod
    def single(cls, name: str, tensor: Tensor) -> ParameterBuffer:
        """A buffer that is the memory of one leaf tensor, for loops without a model."""
        weights = tensor.flat_view()
        grads = None if tensor.grad is None else tensor.grad.array.reshape(-1)
        return cls(name, [tensor], [slice(0, tensor.size)], weights, grads)

    def holds_its_parameters(self) -> bool:
        """Whether no other buffer has taken over one of the parameters."""
        return all(a is b for a, b in zip(self._grad_views, self._grad_buffers()))

    def _grad_buffers(self) -> list[Any]:
        return [getattr(parameter, "_grad_buffer", None) for parameter in self.parameters]

    def gather_grads(self) -> None:
        """Zero the gradients of parameters that the last backward pass did not reach."""
        for parameter, place in zip(self.parameters, self.slices):
            if parameter.grad is None:
                with parameter.device.current():
                    self.grads[place] = 0

    def changed(self) -> None:
        """Tell every parameter that its values were written."""
        for parameter in self.parameters:
            parameter.version += 1


def parameter_buffers(parameters: Sequence[Parameter]) -> list[ParameterBuffer]:
    """Bring all trainable `parameters` into one buffer for each device and dtype."""
    groups: dict[tuple[Device, str], list[Parameter]] = {}
    for parameter in parameters:
        if parameter.trainable:
            groups.setdefault((parameter.device, parameter.dtype.name), []).append(parameter)
    return [
        ParameterBuffer.of(f"{device.name}/{dtype}", members, device)
        for (device, dtype), members in groups.items()
    ]

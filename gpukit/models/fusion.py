"""Steps of a plan computed together: convolution, response normalisation and max-pooling.

Where the values between are read by nobody else, bias, ReLU, normalisation and pooling become one
primitive that follows the bare convolution. In AlexNet this spares a training step the 37 MB of
conv1's activations (batch 32) twelve times, and the memory to keep them three times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from gpukit import primitives as p
from gpukit.device import Device
from gpukit.dispatch.primitive import REFERENCE
from gpukit.layers import Conv2D, Layer, LocalResponseNormalization, MaxPooling2D
from gpukit.models.execution import Step


@dataclass(frozen=True)
class Fused(Step):
    """A step that computes what several layers would; `together` are these, in their order."""

    together: tuple[Layer, ...] = ()

    @property
    def label(self) -> str:
        return " and ".join(layer.label for layer in self.together)


def fuse(steps: Sequence[Step]) -> list[Step]:
    """`steps` with every chain that has a primitive of its own computed by it.

    Conv2D → LocalResponseNormalization → MaxPooling2D takes bias and ReLU along where ReLU or
    nothing is the convolution's activation; else normalisation and pooling alone are joined. A
    chain stays as it is where another step, the model's output or a penalty on activities needs a
    value between, where a layer is of a subclass, or where it crosses devices.
    """
    readers: dict[int, list[Step]] = {}
    for step in steps:
        for value in step.inputs:
            readers.setdefault(value, []).append(step)
    by_value = {step.node: step for step in steps}
    instead: dict[int, Step | None] = {}
    for norm in steps:
        if not _plain(norm, LocalResponseNormalization) or not _has_kernel(norm.device):
            continue
        pool = _only_reader(norm, readers)
        if pool is None or not _plain(pool, MaxPooling2D):
            continue
        conv = by_value.get(norm.inputs[0])
        if conv is not None and _takes_along(conv, norm, readers):
            instead[conv.node] = replace(conv, call=conv.layer.bare)  # type: ignore[attr-defined]
            instead[pool.node] = _joined(pool, norm, conv)
        else:
            instead[pool.node] = _joined(pool, norm, None)
        instead[norm.node] = None
    rewritten = [instead.get(step.node, step) for step in steps]
    return [step for step in rewritten if step is not None]


def _plain(step: Step, kind: type[Layer]) -> bool:
    """Whether the step is a layer of exactly `kind`, called as it is, without a penalty."""
    layer = step.layer
    return type(layer) is kind and step.call is layer and layer.activity_regularizer is None


def _has_kernel(device: Device) -> bool:
    """Whether the chain is one primitive on `device`, not its definition in many passes."""
    passes = (p.bias_relu_lrn_pool, p.bias_relu_lrn_pool_grad)
    return all(set(one.implementations(device.kind)) - {REFERENCE} for one in passes)


def _only_reader(step: Step, readers: dict[int, list[Step]]) -> Step | None:
    """The one step that reads what `step` makes, on the same device; None where there are more."""
    found = readers.get(step.node, [])
    if len(found) != 1 or found[0].device is not step.device or len(found[0].inputs) != 1:
        return None
    return found[0]


def _takes_along(conv: Step, norm: Step, readers: dict[int, list[Step]]) -> bool:
    """Whether bias and activation of `conv` can be computed with what follows."""
    if not _plain(conv, Conv2D) or _only_reader(conv, readers) is not norm:
        return False
    assert isinstance(conv.layer, Conv2D)
    return conv.layer.activation in (None, "relu")


def _joined(pool: Step, norm: Step, conv: Step | None) -> Fused:
    layers = tuple(step.layer for step in (conv, norm, pool) if step is not None)
    return Fused(
        node=pool.node,
        inputs=norm.inputs if conv is None else (conv.node,),
        layer=pool.layer,
        call=partial(_call, pool.layer, norm.layer, None if conv is None else conv.layer),
        device=pool.device,
        together=layers,
    )


def _call(pool: Any, norm: Any, conv: Any, inputs: Any, training: bool | None) -> Any:
    if conv is None:
        return pool.normalised(inputs, norm, training=training)
    return pool.normalised(inputs, norm, conv.bias, conv.activation == "relu", training)

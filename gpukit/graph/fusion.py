"""Fusion: convolution, response normalisation and max-pooling computed as one.

Where nothing else reads the values between, bias, ReLU, normalisation and pooling become one
primitive after the convolution. In AlexNet this spares a training step the 37 MB of conv1's
activations (batch 32) twelve times, and the memory to keep them three times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from gpukit import ops
from gpukit import primitives as p
from gpukit.device import Device
from gpukit.dispatch.primitive import REFERENCE
from gpukit.graph.execution import Step
from gpukit.layers import Conv2D, Layer, LocalResponseNormalization, MaxPooling2D
from gpukit.layers.windowed import strictness


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
        if conv is not None and not _takes_along(conv, norm, readers):
            conv = None
        if conv is not None:
            instead[conv.node] = replace(conv, call=partial(_convolve, conv.layer))
        instead[norm.node] = None
        instead[pool.node] = _joined(pool, norm, conv)
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


def _joined(pool: Step, norm: Step, conv: Step | None) -> Step:
    """One step for `norm` and `pool`, and for bias and activation of `conv` where it is given."""
    return replace(
        pool,
        inputs=norm.inputs if conv is None else (conv.node,),
        call=partial(_normalise_and_pool, pool.layer, norm.layer, conv and conv.layer),
        together=tuple(step.layer for step in (conv, norm, pool) if step is not None),
    )


def _convolve(conv: Any, inputs: Any, training: bool | None) -> Any:
    """The outputs of `conv` without bias and activation."""

    def call(x: Any, _: bool) -> Any:
        conv.check_built(x.shape)
        with strictness(conv.strict):
            return ops.conv2d(x, conv.kernel, **conv.settings)

    return conv.run(call, inputs, training)


def _normalise_and_pool(pool: Any, norm: Any, conv: Any, inputs: Any, training: bool | None) -> Any:
    """The pooled outputs of `norm`, for relu(inputs + bias) as `conv` says; only a few rows of the
    values between exist at any time."""
    bias = None if conv is None else conv.bias
    relu = conv is not None and conv.activation == "relu"

    def call(x: Any, _: bool) -> Any:
        with strictness(pool.strict):
            return ops.bias_relu_lrn_pool(x, bias, relu=relu, **norm.settings, **pool.settings)

    return pool.run(call, inputs, training)

"""Launchers of kernels/loss.cu: softmax, cross-entropy of labels and targets, squared error."""

from __future__ import annotations

import math

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.reduction import EACH, REDUCE_KERNELS, reduce_middle
from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    MARGIN,
    MOST_INT,
    alike,
    contiguous,
    divide_up,
    empty_like,
    is_float,
)
from gpukit.device import device_of
from gpukit.dispatch.primitive import Primitive, with_signature
from gpukit.errors import ShapeError
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array

WARP = 32
WARP_CLASSES = 1024  # rows up to this long are a warp's, longer ones a block's

# Label types that are compiled; others are converted to the last, which holds them all.
LABELS = (np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64))

_softmax = Kernel("loss.cu", "softmax")
_softmax_gradient = Kernel("loss.cu", "softmax_gradient")
_labels = Kernel("loss.cu", "cross_entropy_labels")
_targets = Kernel("loss.cu", "cross_entropy_targets")
_labels_gradient = Kernel("loss.cu", "cross_entropy_labels_gradient")
_targets_gradient = Kernel("loss.cu", "cross_entropy_targets_gradient")
_squared = Kernel("loss.cu", "squared_error")
_squared_gradient = Kernel("loss.cu", "squared_error_gradient")


def teams(rows: int, classes: int) -> tuple[int, int]:
    """(blocks, threads of the team that has a row) for kernels/loss.cu."""
    most = MOST_INT - MARGIN
    if max(rows, classes) > most:
        raise ShapeError(
            f"softmax of {rows} rows of {classes} classes: kernels count either to {most}; cut the "
            f"batch into parts, or use algo='reference'"
        )
    team = WARP if classes <= WARP_CLASSES else BLOCK
    return divide_up(rows, BLOCK // team), team


def _have_rows(*arrays: Array) -> bool:
    x = arrays[0]
    return alike(*arrays) and x.ndim > 0 and (x.size == 0 or x.size // x.shape[-1] < 2**31)


def _register(primitive: Primitive, kernel: Kernel, log: bool) -> None:
    def run(*inputs: Array) -> Array:
        inputs = tuple(contiguous(x) for x in inputs)
        y = empty_like(inputs[0])
        if y.size:
            rows, classes = math.prod(y.shape[:-1]), y.shape[-1]
            grid, team = teams(rows, classes)
            kernel.launch(grid, BLOCK, *inputs, y, rows, classes, T=y.dtype, TEAM=team, LOG=log)
        return y

    run = with_signature(primitive, run)
    primitive.on("cuda", name="cuda", supports=_have_rows, kernels=(kernel,))(run)


_register(p.softmax, _softmax, log=False)
_register(p.softmax_grad, _softmax_gradient, log=False)
_register(p.log_softmax, _softmax, log=True)
_register(p.log_softmax_grad, _softmax_gradient, log=True)


def fits(scores: Array, targets: Array) -> bool:
    """Whether kernels take these scores (N,K), and targets (N,) or (N,K)."""
    if not is_float(scores) or scores.ndim != 2:
        return False
    if targets.ndim == 1:
        return bool(targets.dtype.kind in "iu")
    return is_float(scores, targets) and targets.shape == scores.shape


def gradient_fits(gloss: Array, probabilities: Array, targets: Array) -> bool:
    """The same of the gradient, gloss (N,)."""
    return is_float(gloss, probabilities) and fits(probabilities, targets)


def prepared(targets: Array) -> Array:
    """Contiguous targets, labels of a type that is compiled."""
    targets = contiguous(targets)
    if targets.ndim == 1 and targets.dtype not in LABELS:
        return targets.astype(LABELS[-1])
    return targets


@p.softmax_cross_entropy.on("cuda", name="cuda", supports=fits, kernels=(_labels, _targets))
def _(logits: Array, targets: Array) -> tuple[Array, Array]:
    logits = contiguous(logits)
    rows, classes = logits.shape
    loss, probabilities = empty_like(logits, (rows,)), empty_like(logits)
    if logits.size:
        grid, team = teams(rows, classes)
        targets = prepared(targets)
        kernel, types = (_labels, {"L": targets.dtype}) if targets.ndim == 1 else (_targets, {})
        kernel.launch(
            grid, BLOCK, logits, targets, loss, probabilities, rows, classes,
            T=logits.dtype, TEAM=team, **types,
        )  # fmt: skip
    return loss, probabilities


@p.softmax_cross_entropy_grad.on(
    "cuda",
    name="cuda",
    supports=gradient_fits,
    kernels=(_labels_gradient, _targets_gradient),
)
def _(gloss: Array, probabilities: Array, targets: Array) -> Array:
    gloss, probabilities = contiguous(gloss), contiguous(probabilities)
    rows, classes = probabilities.shape
    gx = empty_like(probabilities)
    if not gx.size:
        return gx
    grid, team = teams(rows, classes)
    targets = prepared(targets)
    if targets.ndim == 1:
        _labels_gradient.launch(
            divide_up(gx.size, BLOCK), BLOCK, gloss, probabilities, targets, gx, rows, classes,
            T=gx.dtype, L=targets.dtype,
        )  # fmt: skip
    else:
        _targets_gradient.launch(
            grid, BLOCK, gloss, probabilities, targets, gx, rows, classes,
            T=gx.dtype, TEAM=team,
        )  # fmt: skip
    return gx


def _examples(y: Array, t: Array) -> bool:
    return alike(y, t) and y.ndim > 0


@p.squared_error.on("cuda", name="cuda", supports=_examples, kernels=(_squared, *REDUCE_KERNELS))
def _(y: Array, t: Array) -> Array:
    y, t = contiguous(y), contiguous(t)
    rows, length = y.shape[0], math.prod(y.shape[1:])
    if not y.size:
        return device_of(y).zeros((rows,), y.dtype)
    team = WARP if length <= WARP_CLASSES else BLOCK
    parts = divide_up(length, team * EACH)
    part = divide_up(length, parts)
    loss = empty_like(y, (rows, parts))
    _squared.launch(
        divide_up(loss.size, BLOCK // team), BLOCK, y, t, loss, loss.size, length, part, parts,
        float(length) if parts == 1 else 1.0, T=y.dtype, TEAM=team,
    )  # fmt: skip
    if parts == 1:
        return loss.reshape(rows)
    return reduce_middle(loss, (rows, parts, 1), (rows,), "Sum", length)


@p.squared_error_grad.on(
    "cuda",
    name="cuda",
    supports=lambda gloss, y, t: _examples(y, t) and is_float(gloss, y),
    kernels=(_squared_gradient,),
)
def _(gloss: Array, y: Array, t: Array) -> Array:
    gloss, y, t = contiguous(gloss), contiguous(y), contiguous(t)
    gy = empty_like(y)
    if gy.size:
        length = math.prod(y.shape[1:])
        _squared_gradient.launch(
            divide_up(gy.size, BLOCK), BLOCK, gloss, y, t, gy, gy.size, length, 2 / length,
            T=y.dtype,
        )  # fmt: skip
    return gy

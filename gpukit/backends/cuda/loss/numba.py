"""Launchers of kernels/loss.py: softmax, and cross-entropy after it for labels or probabilities."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import contiguous, empty_like, is_float
from gpukit.dispatch.primitive import Primitive
from gpukit.launch.numba import MOST, NumbaKernel, team

Array = Any

ROW_BLOCK = 256  # threads of a block that has a row, at most

# Label types that the kernels take; others are converted to the last, which holds them all.
LABELS = (np.dtype(np.uint8), np.dtype(np.int32), np.dtype(np.int64))

_labels = NumbaKernel("loss", "cross_entropy_labels")
_targets = NumbaKernel("loss", "cross_entropy_targets")
_labels_gradient = NumbaKernel("loss", "cross_entropy_labels_gradient")
_targets_gradient = NumbaKernel("loss", "cross_entropy_targets_gradient")


def _by_row(kernel: NumbaKernel, *inputs: Array) -> Array:
    inputs = tuple(contiguous(x) for x in inputs)
    result = empty_like(inputs[0])
    if result.size:
        rows, classes = math.prod(result.shape[:-1]), result.shape[-1]
        matrices = [a.reshape(rows, classes) for a in (*inputs, result)]
        kernel.launch(rows, team(classes, ROW_BLOCK), *matrices)
    return result


def _has_rows(x: Array) -> bool:
    return is_float(x) and x.size <= MOST and x.ndim > 0


def _has_row_pairs(gy: Array, y: Array) -> bool:
    return is_float(gy, y) and gy.shape == y.shape and _has_rows(gy)


def _register(name: str) -> None:
    """A softmax and its gradient from y, whose kernels have the primitives' names."""
    kernel, gradient = NumbaKernel("loss", name), NumbaKernel("loss", f"{name}_gradient")
    forward: Primitive = getattr(p, name)
    backward: Primitive = getattr(p, f"{name}_grad")

    @forward.on("cuda", name="numba", supports=_has_rows, emulated=False, kernels=(kernel,))
    def _(x: Array) -> Array:
        return _by_row(kernel, x)

    @backward.on("cuda", name="numba", supports=_has_row_pairs, emulated=False, kernels=(gradient,))
    def _(gy: Array, y: Array) -> Array:
        return _by_row(gradient, gy, y)


for _name in ("softmax", "log_softmax"):
    _register(_name)


def _fits(scores: Array, targets: Array) -> bool:
    if not is_float(scores) or scores.ndim != 2 or scores.size > MOST:
        return False
    if targets.ndim == 1:
        return bool(targets.dtype.kind in "iu")
    return is_float(scores, targets) and targets.shape == scores.shape


def _prepared(targets: Array) -> Array:
    targets = contiguous(targets)
    if targets.ndim == 1 and targets.dtype not in LABELS:
        return targets.astype(LABELS[-1])
    return targets


@p.softmax_cross_entropy.on(
    "cuda", name="numba", supports=_fits, emulated=False, kernels=(_labels, _targets)
)
def _(logits: Array, targets: Array) -> tuple[Array, Array]:
    logits, targets = contiguous(logits), _prepared(targets)
    rows, classes = logits.shape
    loss, probabilities = empty_like(logits, (rows,)), empty_like(logits)
    if logits.size:
        kernel = _labels if targets.ndim == 1 else _targets
        kernel.launch(rows, team(classes, ROW_BLOCK), logits, targets, loss, probabilities)
    return loss, probabilities


@p.softmax_cross_entropy_grad.on(
    "cuda",
    name="numba",
    supports=lambda gloss, probabilities, targets: (
        is_float(gloss, probabilities) and _fits(probabilities, targets)
    ),
    emulated=False,
    kernels=(_labels_gradient, _targets_gradient),
)
def _(gloss: Array, probabilities: Array, targets: Array) -> Array:
    gloss, probabilities = contiguous(gloss), contiguous(probabilities)
    rows, classes = probabilities.shape
    gx = empty_like(probabilities)
    if gx.size:
        kernel = _labels_gradient if targets.ndim == 1 else _targets_gradient
        kernel.launch(rows, team(classes, ROW_BLOCK), gloss, probabilities, _prepared(targets), gx)
    return gx

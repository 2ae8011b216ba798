"""Launchers of kernels/loss.cu: softmax, cross-entropy of labels and targets, squared error."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.reduction.axes import EACH, REDUCE_KERNELS, reduce_middle
from gpukit.backends.cuda.runtime.common import (
    BLOCK,
    MARGIN,
    MOST_INT,
    contiguous,
    divide_up,
    empty_like,
    is_float,
)
from gpukit.device import device_of
from gpukit.errors import ShapeError
from gpukit.launch.kernel import Kernel

Array = Any

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


def _has_rows(x: Array) -> bool:
    return is_float(x) and x.ndim > 0 and (x.size == 0 or x.size // x.shape[-1] < 2**31)


def _rows(x: Array) -> tuple[int, int]:
    return math.prod(x.shape[:-1]), x.shape[-1]


def _row_forward(x: Array, log: bool) -> Array:
    x = contiguous(x)
    y = empty_like(x)
    if x.size:
        rows, classes = _rows(x)
        grid, team = teams(rows, classes)
        _softmax.launch(grid, BLOCK, x, y, rows, classes, T=x.dtype, TEAM=team, LOG=log)
    return y


def _row_backward(gy: Array, y: Array, log: bool) -> Array:
    gy, y = contiguous(gy), contiguous(y)
    gx = empty_like(gy)
    if gy.size:
        rows, classes = _rows(gy)
        grid, team = teams(rows, classes)
        _softmax_gradient.launch(
            grid, BLOCK, gy, y, gx, rows, classes, T=gy.dtype, TEAM=team, LOG=log
        )
    return gx


def _has_row_pairs(gy: Array, y: Array) -> bool:
    return is_float(gy, y) and gy.shape == y.shape and _has_rows(gy)


@p.softmax.on("cuda", name="cuda", supports=_has_rows, kernels=(_softmax,))
def _(x: Array) -> Array:
    return _row_forward(x, log=False)


@p.softmax_grad.on("cuda", name="cuda", supports=_has_row_pairs, kernels=(_softmax_gradient,))
def _(gy: Array, y: Array) -> Array:
    return _row_backward(gy, y, log=False)


@p.log_softmax.on("cuda", name="cuda", supports=_has_rows, kernels=(_softmax,))
def _(x: Array) -> Array:
    return _row_forward(x, log=True)


@p.log_softmax_grad.on("cuda", name="cuda", supports=_has_row_pairs, kernels=(_softmax_gradient,))
def _(gy: Array, y: Array) -> Array:
    return _row_backward(gy, y, log=True)


def _fits(scores: Array, targets: Array) -> bool:
    if not is_float(scores) or scores.ndim != 2:
        return False
    if targets.ndim == 1:
        return bool(targets.dtype.kind in "iu")
    return is_float(scores, targets) and targets.shape == scores.shape


def _as_labels(targets: Array) -> Array:
    targets = contiguous(targets)
    return targets if targets.dtype in LABELS else targets.astype(LABELS[-1])


@p.softmax_cross_entropy.on("cuda", name="cuda", supports=_fits, kernels=(_labels, _targets))
def _(logits: Array, targets: Array) -> tuple[Array, Array]:
    logits = contiguous(logits)
    rows, classes = logits.shape
    loss, probabilities = empty_like(logits, (rows,)), empty_like(logits)
    if logits.size:
        grid, team = teams(rows, classes)
        if targets.ndim == 1:
            targets = _as_labels(targets)
            kernel, types = _labels, {"L": targets.dtype}
        else:
            targets = contiguous(targets)
            kernel, types = _targets, {}
        kernel.launch(
            grid, BLOCK, logits, targets, loss, probabilities, rows, classes,
            T=logits.dtype, TEAM=team, **types,
        )  # fmt: skip
    return loss, probabilities


@p.softmax_cross_entropy_grad.on(
    "cuda",
    name="cuda",
    supports=lambda gloss, probabilities, targets: (
        is_float(gloss, probabilities) and _fits(probabilities, targets)
    ),
    kernels=(_labels_gradient, _targets_gradient),
)
def _(gloss: Array, probabilities: Array, targets: Array) -> Array:
    gloss, probabilities = contiguous(gloss), contiguous(probabilities)
    rows, classes = probabilities.shape
    gx = empty_like(probabilities)
    if not gx.size:
        return gx
    grid, team = teams(rows, classes)
    if targets.ndim == 1:
        targets = _as_labels(targets)
        _labels_gradient.launch(
            divide_up(gx.size, BLOCK), BLOCK, gloss, probabilities, targets, gx, rows, classes,
            T=gx.dtype, L=targets.dtype,
        )  # fmt: skip
    else:
        _targets_gradient.launch(
            grid, BLOCK, gloss, probabilities, contiguous(targets), gx, rows, classes,
            T=gx.dtype, TEAM=team,
        )  # fmt: skip
    return gx


def _alike(y: Array, t: Array) -> bool:
    return is_float(y, t) and y.shape == t.shape and y.ndim > 0


@p.squared_error.on("cuda", name="cuda", supports=_alike, kernels=(_squared, *REDUCE_KERNELS))
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
    supports=lambda gloss, y, t: _alike(y, t) and is_float(gloss, y),
    kernels=(_squared_gradient,),
)
def _(gloss: Array, y: Array, t: Array) -> Array:
    gloss, y, t = contiguous(gloss), contiguous(y), contiguous(t)
    gy = empty_like(y)
    if gy.size:
        length = math.prod(y.shape[1:])
        _squared_gradient.launch(
            divide_up(gy.size, BLOCK),
            BLOCK,
            gloss,
            y,
            t,
            gy,
            gy.size,
            length,
            2 / length,
            T=y.dtype,
        )
    return gy

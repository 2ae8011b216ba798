"""Softmax by pieces of rows; with cross-entropy in one pass over each row."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.activation.piecewise import pieces_of
from gpukit.backends.cpu.elementwise import HEAVY, same
from gpukit.backends.cpu.runtime.common import Array, is_float, plain
from gpukit.backends.cpu.runtime.jit import jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import cuts, parallel_for

# exp is the cost: a row element is worth some 5 ns.
_TASK_SIZE = 20_000


def _by_rows(function: Callable[..., None], *inputs: Array) -> Array:
    """y with `function(y_rows, *input_rows)` called for pieces of whole rows (…,K)."""
    x = inputs[0]
    y = empty(x.shape, x.dtype)
    if y.size == 0:
        return y
    width = x.shape[-1]
    out = y.reshape(-1, width)
    values = [np.ascontiguousarray(v).reshape(-1, width) for v in inputs]
    tasks = cuts(len(out), min(len(out), len(pieces_of(x.size, HEAVY))))

    def task(i: int) -> None:
        rows = slice(*tasks[i])
        function(out[rows], *[v[rows] for v in values])

    parallel_for(len(tasks), task)
    return y


def _sums(x: Array) -> Array:
    """Row sums, kept as a column; pairwise, as NumPy adds along a contiguous axis."""
    return np.asarray(np.sum(x, axis=-1, keepdims=True))


def _softmax(out: Array, x: Array) -> None:
    np.subtract(x, np.max(x, axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= _sums(out)


def _softmax_grad(out: Array, gy: Array, y: Array) -> None:
    np.multiply(gy, y, out=out)
    np.subtract(gy, _sums(out), out=out)
    out *= y


def _log_softmax(out: Array, x: Array) -> None:
    np.subtract(x, np.max(x, axis=-1, keepdims=True), out=out)
    out -= np.log(_sums(np.exp(out)))


def _log_softmax_grad(out: Array, gy: Array, y: Array) -> None:
    np.exp(y, out=out)
    out *= _sums(gy)
    np.subtract(gy, out, out=out)


def _register_rows(primitive: Any, function: Callable[..., None], inputs: int) -> None:
    if inputs == 1:

        @primitive.on("cpu", name="rows", supports=is_float)
        def _(x: Array) -> Array:
            return _by_rows(function, x)
    else:

        @primitive.on("cpu", name="rows", supports=same)
        def _(gy: Array, y: Array) -> Array:
            return _by_rows(function, gy, y)


_register_rows(p.softmax, _softmax, 1)
_register_rows(p.softmax_grad, _softmax_grad, 2)
_register_rows(p.log_softmax, _log_softmax, 1)
_register_rows(p.log_softmax_grad, _log_softmax_grad, 2)


@jit
def _labels_forward(logits, labels, loss, probabilities, first, last):  # type: ignore[no-untyped-def]
    """Rows first … last; False if a label is out of range."""
    classes = logits.shape[1]
    for n in range(first, last):
        label = labels[n]
        if label < 0:
            label += classes
        if label < 0 or label >= classes:
            return False
        top = logits[n, 0]
        for k in range(1, classes):
            v = logits[n, k]
            if not v <= top:
                top = v
        total = 0.0
        for k in range(classes):
            e = math.exp(logits[n, k] - top)
            probabilities[n, k] = e
            total += e
        loss[n] = math.log(total) - (logits[n, label] - top)
        scale = 1 / total
        for k in range(classes):
            probabilities[n, k] *= scale
    return True


@jit
def _labels_backward(gloss, probabilities, labels, gx, first, last):  # type: ignore[no-untyped-def]
    classes = probabilities.shape[1]
    for n in range(first, last):
        g = gloss[n]
        for k in range(classes):
            gx[n, k] = g * probabilities[n, k]
        label = labels[n]
        if label < 0:
            label += classes
        if 0 <= label < classes:
            gx[n, label] = g * (probabilities[n, label] - 1)


def _labels(x: Array, targets: Array) -> bool:
    return is_float(x) and x.shape[-1] > 0 and targets.ndim == 1 and targets.dtype.kind in "iu"


def _rows(x: Array) -> list[tuple[int, int]]:
    tasks = len(pieces_of(x.size, _TASK_SIZE))
    return [(x.shape[0] * i // tasks, x.shape[0] * (i + 1) // tasks) for i in range(tasks)]


@p.softmax_cross_entropy.on("cpu", name="labels", supports=_labels)
def _(logits: Array, targets: Array) -> tuple[Array, Array]:
    loss = np.empty(logits.shape[0], logits.dtype)
    probabilities = np.empty(logits.shape, logits.dtype)
    x, labels, rows = plain(logits), plain(targets.astype(np.int64, copy=False)), _rows(logits)

    def task(i: int) -> None:
        if not _labels_forward(x, labels, loss, probabilities, *rows[i]):
            raise IndexError(f"a label is outside 0 … {x.shape[1] - 1}")

    parallel_for(len(rows), task)
    return loss, probabilities


def _labels_grad(gloss: Array, probabilities: Array, targets: Array) -> bool:
    return gloss.dtype == probabilities.dtype and _labels(probabilities, targets)


@p.softmax_cross_entropy_grad.on("cpu", name="labels", supports=_labels_grad)
def _(gloss: Array, probabilities: Array, targets: Array) -> Array:
    gx = np.empty(probabilities.shape, probabilities.dtype)
    g, y, labels = plain(gloss), plain(probabilities), plain(targets.astype(np.int64, copy=False))
    rows = _rows(gx)
    parallel_for(len(rows), lambda i: _labels_backward(g, y, labels, gx, *rows[i]))
    return gx

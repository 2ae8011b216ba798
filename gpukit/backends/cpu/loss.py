"""Softmax with cross-entropy in one pass over each row."""

from __future__ import annotations

import math

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.activation.piecewise import pieces_of
from gpukit.backends.cpu.runtime.common import Array, is_float, plain
from gpukit.backends.cpu.runtime.jit import jit
from gpukit.backends.cpu.runtime.threads import parallel_for

# exp is the cost: a row element is worth some 5 ns.
_TASK_SIZE = 20_000


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

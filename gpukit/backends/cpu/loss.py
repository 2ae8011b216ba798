"""Softmax by pieces of rows; with cross-entropy in one pass over each row."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cpu.elementwise import HEAVY, same
from gpukit.backends.cpu.runtime.common import Array, is_float, plain
from gpukit.backends.cpu.runtime.jit import jit
from gpukit.backends.cpu.runtime.memory import empty
from gpukit.backends.cpu.runtime.threads import Ranges, for_ranges, tasks_of
from gpukit.dispatch.primitive import Primitive, with_signature

# exp is the cost: a row element is worth some 5 ns.
_TASK_SIZE = 20_000


def _rows(x: Array, task_size: int) -> Ranges:
    return tasks_of(math.prod(x.shape[:-1]), x.size, task_size)


def _by_rows(primitive: Primitive) -> Callable[[Callable[..., None]], None]:
    """Register `function(y_rows, *input_rows)`, called for whole rows (…,K)."""

    def register(function: Callable[..., None]) -> None:
        def run(*inputs: Array) -> Array:
            x = inputs[0]
            y = empty(x.shape, x.dtype)
            if y.size:
                matrices = [np.ascontiguousarray(v).reshape(-1, x.shape[-1]) for v in (y, *inputs)]

                def task(first: int, last: int) -> None:
                    function(*[m[first:last] for m in matrices])

                for_ranges(_rows(x, HEAVY), task)
            return y

        primitive.on("cpu", name="rows", supports=same)(with_signature(primitive, run))

    return register


def _sums(x: Array) -> Array:
    """Row sums, kept as a column; pairwise, as NumPy adds along a contiguous axis."""
    return np.asarray(np.sum(x, axis=-1, keepdims=True))


@_by_rows(p.softmax)
def _(out: Array, x: Array) -> None:
    np.subtract(x, np.max(x, axis=-1, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= _sums(out)


@_by_rows(p.softmax_grad)
def _(out: Array, gy: Array, y: Array) -> None:
    np.multiply(gy, y, out=out)
    np.subtract(gy, _sums(out), out=out)
    out *= y


@_by_rows(p.log_softmax)
def _(out: Array, x: Array) -> None:
    np.subtract(x, np.max(x, axis=-1, keepdims=True), out=out)
    out -= np.log(_sums(np.exp(out)))


@_by_rows(p.log_softmax_grad)
def _(out: Array, gy: Array, y: Array) -> None:
    np.exp(y, out=out)
    out *= _sums(gy)
    np.subtract(gy, out, out=out)


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


@p.softmax_cross_entropy.on("cpu", name="labels", supports=_labels)
def _(logits: Array, targets: Array) -> tuple[Array, Array]:
    loss = np.empty(logits.shape[0], logits.dtype)
    probabilities = np.empty(logits.shape, logits.dtype)
    x, labels = plain(logits), plain(targets.astype(np.int64, copy=False))

    def task(first: int, last: int) -> None:
        if not _labels_forward(x, labels, loss, probabilities, first, last):
            raise IndexError(f"a label is outside 0 … {x.shape[1] - 1}")

    for_ranges(_rows(x, _TASK_SIZE), task)
    return loss, probabilities


def _labels_grad(gloss: Array, probabilities: Array, targets: Array) -> bool:
    return gloss.dtype == probabilities.dtype and _labels(probabilities, targets)


@p.softmax_cross_entropy_grad.on("cpu", name="labels", supports=_labels_grad)
def _(gloss: Array, probabilities: Array, targets: Array) -> Array:
    gx = np.empty(probabilities.shape, probabilities.dtype)
    g, y, labels = plain(gloss), plain(probabilities), plain(targets.astype(np.int64, copy=False))
    for_ranges(_rows(gx, _TASK_SIZE), _labels_backward, g, y, labels, gx)
    return gx

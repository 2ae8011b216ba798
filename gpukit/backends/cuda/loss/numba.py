"""Launchers of kernels/loss.py: softmax, and cross-entropy after it for labels or probabilities."""

from __future__ import annotations

import math

from gpukit import primitives as p
from gpukit.backends.cuda.loss.cuda_c import fits, gradient_fits, prepared
from gpukit.backends.cuda.runtime.common import alike, contiguous, empty_like
from gpukit.dispatch.primitive import Primitive, with_signature
from gpukit.launch.numba import MOST, NumbaKernel, team
from gpukit.primitives.accumulate import Array

ROW_BLOCK = 256  # threads of a block that has a row, at most

_labels = NumbaKernel("loss", "cross_entropy_labels")
_targets = NumbaKernel("loss", "cross_entropy_targets")
_labels_gradient = NumbaKernel("loss", "cross_entropy_labels_gradient")
_targets_gradient = NumbaKernel("loss", "cross_entropy_targets_gradient")


def _have_rows(*arrays: Array) -> bool:
    return alike(*arrays) and arrays[0].size <= MOST and arrays[0].ndim > 0


def _register(primitive: Primitive, kernel: NumbaKernel) -> None:
    def run(*inputs: Array) -> Array:
        inputs = tuple(contiguous(x) for x in inputs)
        result = empty_like(inputs[0])
        if result.size:
            rows, classes = math.prod(result.shape[:-1]), result.shape[-1]
            matrices = [a.reshape(rows, classes) for a in (*inputs, result)]
            kernel.launch(rows, team(classes, ROW_BLOCK), *matrices)
        return result

    run = with_signature(primitive, run)
    primitive.on("cuda", name="numba", supports=_have_rows, emulated=False, kernels=(kernel,))(run)


for _name in ("softmax", "log_softmax"):
    _register(getattr(p, _name), NumbaKernel("loss", _name))
    _register(getattr(p, f"{_name}_grad"), NumbaKernel("loss", f"{_name}_gradient"))


@p.softmax_cross_entropy.on(
    "cuda",
    name="numba",
    supports=lambda x, t: fits(x, t) and x.size <= MOST,
    emulated=False,
    kernels=(_labels, _targets),
)
def _(logits: Array, targets: Array) -> tuple[Array, Array]:
    logits, targets = contiguous(logits), prepared(targets)
    rows, classes = logits.shape
    loss, probabilities = empty_like(logits, (rows,)), empty_like(logits)
    if logits.size:
        kernel = _labels if targets.ndim == 1 else _targets
        kernel.launch(rows, team(classes, ROW_BLOCK), logits, targets, loss, probabilities)
    return loss, probabilities


@p.softmax_cross_entropy_grad.on(
    "cuda",
    name="numba",
    supports=lambda gloss, y, targets: gradient_fits(gloss, y, targets) and y.size <= MOST,
    emulated=False,
    kernels=(_labels_gradient, _targets_gradient),
)
def _(gloss: Array, probabilities: Array, targets: Array) -> Array:
    gloss, probabilities = contiguous(gloss), contiguous(probabilities)
    rows, classes = probabilities.shape
    gx = empty_like(probabilities)
    if gx.size:
        kernel = _labels_gradient if targets.ndim == 1 else _targets_gradient
        kernel.launch(rows, team(classes, ROW_BLOCK), gloss, probabilities, prepared(targets), gx)
    return gx

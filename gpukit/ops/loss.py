"""Softmax over the last axis, and losses of each sample, whose mean training minimises."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.autograd import differentiable
from gpukit.device import device_of
from gpukit.errors import DataError, ShapeError
from gpukit.ops.passes import gradient_by

__all__ = ["log_softmax", "softmax", "softmax_cross_entropy", "squared_error"]


@differentiable
def softmax(x: Any, *, algo: str | None = None) -> Any:
    """exp(x) / Σ exp(x) over the last axis, without overflow."""
    y = p.softmax(x, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.softmax_grad, gy, y),)


@differentiable
def log_softmax(x: Any, *, algo: str | None = None) -> Any:
    """x − ln Σ exp(x) over the last axis, without overflow."""
    y = p.log_softmax(x, algo=algo)
    return y, (lambda gy: gradient_by(algo, p.log_softmax_grad, gy, y),)


@differentiable(integers=("targets",))
def softmax_cross_entropy(logits: Any, targets: Any, *, algo: str | None = None) -> Any:
    """−Σ t ln softmax(logits) for each sample: logits (N, K) → (N,).

    `targets` are class numbers (N,), integers from 0 to K − 1, or probabilities (N, K) of the
    logits' dtype; host arrays of them are brought to the logits' device. Raises ShapeError, and
    DataError for a class number out of range.
    """
    if isinstance(targets, np.ndarray):
        if not targets.dtype.isnative:  # as files of the IDX kind are read
            targets = targets.astype(targets.dtype.newbyteorder("="))
        targets = device_of(logits).asarray(targets)
    shape = tuple(logits.shape)
    wanted = shape[:1] if targets.dtype.kind in "iu" else shape
    if logits.ndim != 2 or tuple(targets.shape) != wanted:
        raise ShapeError(
            f"softmax_cross_entropy: targets {tuple(targets.shape)} of {targets.dtype} do not fit "
            f"logits {shape}; pass class numbers (N,) as integers or probabilities (N, K)"
        )
    if targets.dtype.kind in "iu":
        check_labels(targets, shape[1])
    loss, probabilities = p.softmax_cross_entropy(logits, targets, algo=algo)

    def gradient(gy: Any) -> Any:
        return gradient_by(algo, p.softmax_cross_entropy_grad, gy, probabilities, targets)

    return loss, (gradient, None)


def check_labels(labels: Any, classes: int) -> None:
    """Raise DataError where a class number is not in 0 … classes − 1."""
    # One pass: negative numbers become huge as unsigned ones.
    if labels.size and int(labels.view(labels.dtype.str.replace("i", "u")).max()) >= classes:
        low, high = int(np.min(labels)), int(np.max(labels))
        wrong = low if low < 0 else high
        raise DataError(
            f"label {wrong} is out of range: {classes} classes are numbered 0 to {classes - 1}"
        )


@differentiable
def squared_error(y: Any, t: Any, *, algo: str | None = None) -> Any:
    """Mean of (y − t)² over all axes but the first: (N, …) → (N,)."""
    if tuple(y.shape) != tuple(t.shape):
        raise ShapeError(
            f"squared_error: {tuple(y.shape)} and {tuple(t.shape)} differ; give both one shape"
        )

    def gradient(gy: Any) -> Any:
        return gradient_by(algo, p.squared_error_grad, gy, y, t)

    return p.squared_error(y, t, algo=algo), (gradient, lambda gy: p.negative(gradient(gy)))

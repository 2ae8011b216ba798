"""Losses per example, with gradients; the mean over the batch is taken one level up."""

from __future__ import annotations

import math

import numpy as np

from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_mean, long_sum
from gpukit.primitives.activation import log_normalised


def _one_hot(labels: Array, like: Array) -> Array:
    """labels (N,) integers -> (N,K) of `like`'s shape and dtype, 1 at the label."""
    classes = np.cumsum(np.ones_like(labels, shape=like.shape[1:]), axis=0) - 1
    return (classes == np.reshape(labels, (-1, 1))).astype(like.dtype)


@primitive
def softmax_cross_entropy(logits: Array, targets: Array) -> tuple[Array, Array]:
    """-Σ t·log softmax(logits) per example, and the softmax for the gradient.

    logits (N,K) float; targets (N,) integer labels in 0 … K-1, or (N,K) floats of logits' dtype
    -> loss (N,), probabilities (N,K). Goodfellow et al., "Deep Learning", 6.2.2.3.
    """
    log_probabilities = log_normalised(logits)
    if targets.ndim == 1:
        chosen = np.take_along_axis(log_probabilities, np.reshape(targets, (-1, 1)), axis=1)
        loss = -np.reshape(chosen, (-1,))
    else:
        loss = -long_sum(targets * log_probabilities, 1)
    return loss, np.exp(log_probabilities)


@primitive
def softmax_cross_entropy_grad(gloss: Array, probabilities: Array, targets: Array) -> Array:
    """Gradient by the logits: gloss·(p·Σt - t), which is gloss·(p - t) for targets that sum to 1.

    gloss (N,), probabilities (N,K), targets as in the forward pass -> (N,K).
    """
    if targets.ndim == 1:
        difference = probabilities - _one_hot(targets, probabilities)
    else:
        difference = probabilities * long_sum(targets, 1, keepdims=True) - targets
    return np.reshape(gloss, (-1, 1)) * difference


@primitive
def squared_error(y: Array, t: Array) -> Array:
    """Mean of (y - t)² over all axes but the first: y, t (N,…) -> (N,)."""
    return long_mean(np.square(y - t), tuple(range(1, y.ndim)))


@primitive
def squared_error_grad(gloss: Array, y: Array, t: Array) -> Array:
    """Gradient by y: gloss·2·(y - t)/M, M values an example -> shape of y; by t its negative."""
    per_example = np.reshape(gloss, (-1,) + (1,) * (y.ndim - 1))
    return per_example * (2 / max(math.prod(y.shape[1:]), 1)) * (y - t)

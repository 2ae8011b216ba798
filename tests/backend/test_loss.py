"""Softmax and losses: large logits, every kind of labels, and gradients by differences."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from cases import assert_close, assert_sums_close, values

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.primitives("softmax", "softmax_grad", "log_softmax", "log_softmax_grad")
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_gradient_by_differences(backend, name):
    forward, gradient = getattr(p, name), getattr(p, f"{name}_grad")
    x, gy = values((4, 5), 1, np.float64), values((4, 5), 2, np.float64)
    gx = backend(gradient, gy, backend(forward, x))
    expected = naive.numerical_gradient(lambda v: backend(forward, v), x, gy)
    np.testing.assert_allclose(gx, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.primitives("softmax", "log_softmax", "softmax_cross_entropy")
@DTYPES
def test_softmax_of_large_logits(backend, dtype):
    """Shifted by the maximum: nothing overflows, and small probabilities keep their logarithms."""
    x = np.array([[1e4, 0.0, -1e4], [-1e4, -1e4, -1e4], [700.0, 710.0, 720.0]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y, log_y = backend(p.softmax, x), backend(p.log_softmax, x)
        loss, probabilities = backend(p.softmax_cross_entropy, x, np.array([1, 0, 2]))
    assert_close(y, naive.softmax(x))
    assert_close(probabilities, naive.softmax(x))
    np.testing.assert_allclose(log_y[0], [0.0, -1e4, -2e4], rtol=1e-6)
    np.testing.assert_allclose(loss, [1e4, math.log(3), math.log1p(math.exp(-10))], rtol=2e-2)


@pytest.mark.primitives("softmax", "softmax_cross_entropy", "softmax_cross_entropy_grad")
@DTYPES
@pytest.mark.parametrize("labels", [np.int32, np.int64, np.uint8, np.float64])
def test_cross_entropy_against_loops(backend, labels, dtype):
    x = 3 * values((6, 5), 1, dtype)
    picks = [4, 0, 2, 2, 1, 3]
    probabilities = naive.softmax(x)
    one_hot = np.eye(5)[picks]
    targets = one_hot.astype(dtype) if labels == np.float64 else np.array(picks, labels)
    loss, ours = backend(p.softmax_cross_entropy, x, targets)
    assert_sums_close(loss, -np.log(probabilities)[range(6), picks], 1, labels, scale=8)
    assert_close(ours, probabilities)
    gloss = values((6,), 2, dtype)
    gx = backend(p.softmax_cross_entropy_grad, gloss, ours, targets)
    assert gx.dtype == loss.dtype == dtype
    assert_close(gx, gloss[:, None].astype(np.float64) * (probabilities - one_hot))


@pytest.mark.primitives("softmax_cross_entropy", "softmax_cross_entropy_grad", "squared_error")
def test_loss_gradients_by_differences(backend):
    """Also for targets that do not sum to 1."""
    x, gloss = values((3, 4), 1, np.float64), values((3,), 2, np.float64)
    for targets in (np.array([1, 3, 0]), np.abs(values((3, 4), 3, np.float64))):
        _, probabilities = backend(p.softmax_cross_entropy, x, targets)
        gx = backend(p.softmax_cross_entropy_grad, gloss, probabilities, targets)
        loss = lambda v, t=targets: backend(p.softmax_cross_entropy, v, t)[0]  # noqa: E731
        expected = numerical_row_gradient(loss, x, gloss)
        np.testing.assert_allclose(gx, expected, rtol=1e-7, atol=1e-8)
    t = values((3, 4), 4, np.float64)
    expected = numerical_row_gradient(lambda v: backend(p.squared_error, v, t), x, gloss)
    gx = backend(p.squared_error_grad, gloss, x, t)
    np.testing.assert_allclose(gx, expected, rtol=1e-7, atol=1e-8)


def numerical_row_gradient(loss, x: np.ndarray, gloss: np.ndarray) -> np.ndarray:
    return naive.numerical_gradient(loss, x, gloss)

"""Dense layers and matrix products against naive loops."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from cases import assert_close, assert_sums_close, values

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SHAPES = [(1, 1, 1), (3, 5, 7), (0, 4, 3), (1, 40, 9), (9, 2, 31), (17, 16, 1)]
FAMILY = ("dense", "dense_input_grad", "dense_weight_grad", "matmul")


@pytest.mark.primitives(*FAMILY)
@DTYPES
@pytest.mark.parametrize("whole", [False, True])
def test_products(backend, whole, dtype):
    for i, (n, c, k) in enumerate(SHAPES):
        x, w = values((n, c), i, dtype, whole), values((c, k), 10 + i, dtype, whole)
        b, gy = values((k,), 20 + i, dtype, whole), values((n, k), 30 + i, dtype, whole)
        pairs = [
            (backend(p.dense, x, w, b), naive.dense(x, w, b), c),
            (backend(p.dense, x, w), naive.dense(x, w), c),
            (backend(p.matmul, x, w), naive.dense(x, w), c),
            (backend(p.dense_input_grad, gy, w), naive.dense(gy, w.T), k),
            (backend(p.dense_weight_grad, x, gy), naive.dense(x.T, gy), n),
        ]
        for actual, exact, length in pairs:
            assert actual.dtype == dtype
            if whole:
                np.testing.assert_array_equal(actual, exact, str((n, c, k)))
            else:
                assert_sums_close(actual, exact, length, (n, c, k))


@pytest.mark.primitives("dense")
@DTYPES
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activation_in_passing(backend, activation, dtype):
    applied = {
        "relu": lambda y: np.maximum(y, 0),
        "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
        "tanh": np.tanh,
    }[activation]
    for i, (n, c, k) in enumerate(SHAPES):
        x, w, b = values((n, c), i, dtype), values((c, k), 10 + i, dtype), values((k,), 20, dtype)
        y = backend(p.dense, x, w, b, activation=activation)
        assert y.dtype == dtype
        assert_close(y, applied(naive.dense(x, w, b)), (n, c, k), ulps=64)
        y = backend(p.dense, x, w, activation=activation)
        assert_close(y, applied(naive.dense(x, w)), (n, c, k), ulps=64)


@pytest.mark.primitives(*FAMILY)
def test_larger_than_a_task(backend):
    x, w = values((130, 600), 1, np.float32, True), values((600, 257), 2, np.float32, True)
    gy = values((130, 257), 3, np.float32, True)
    exact = [a.astype(np.int64) for a in (x, w, gy)]
    np.testing.assert_array_equal(backend(p.dense, x, w), exact[0] @ exact[1])
    np.testing.assert_array_equal(backend(p.matmul, x, w), exact[0] @ exact[1])
    np.testing.assert_array_equal(backend(p.dense_input_grad, gy, w), exact[2] @ exact[1].T)
    np.testing.assert_array_equal(backend(p.dense_weight_grad, x, gy), exact[0].T @ exact[2])


@pytest.mark.primitives(*FAMILY)
def test_arrays_that_are_not_contiguous(backend):
    x, w = values((9, 8), 1, np.float32, True)[::2, ::-1], values((5, 8), 2, np.float32, True).T
    gy = values((5, 10), 3, np.float32, True)[:, ::2]
    np.testing.assert_array_equal(backend(p.dense, x, w), naive.dense(x, w))
    np.testing.assert_array_equal(backend(p.matmul, x, w), naive.dense(x, w))
    np.testing.assert_array_equal(backend(p.dense_input_grad, gy, w), naive.dense(gy, w.T))
    np.testing.assert_array_equal(backend(p.dense_weight_grad, x, gy), naive.dense(x.T, gy))

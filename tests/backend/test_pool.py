"""Pooling and its gradients against naive loops; ties, NaN, and wide windows."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from cases import TIMES, assert_close, pool_case, values

from gpukit import primitives as p
from gpukit.primitives import Window

PLAIN = {"window": Window((2, 2), stride=(2, 2))}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
CHUNKS, CASES = 3 * TIMES, 20


def check(backend, x, settings, what) -> None:
    """Values, indices and gradient, all exact: x holds whole numbers, NaN or infinities."""
    y, index = backend(p.max_pool2d, x, **settings)
    y_naive, index_naive = naive.max_pool2d(x, **settings)
    assert y.dtype == x.dtype, what
    np.testing.assert_array_equal(y, y_naive, str(what))
    np.testing.assert_array_equal(index, index_naive, str(what))
    gy = values(y.shape, 7, x.dtype, whole=True)
    gx = backend(p.max_pool2d_grad, gy, index, input_shape=x.shape, **settings)
    expected = naive.max_pool2d_grad(gy, index_naive, input_shape=x.shape, **settings)
    assert gx.dtype == x.dtype, what
    np.testing.assert_array_equal(gx, expected, str(what))


@pytest.mark.primitives("max_pool2d", "max_pool2d_grad")
@DTYPES
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_max_pool(backend, chunk, dtype):
    for seed in range(chunk * CASES, (chunk + 1) * CASES):
        case = pool_case(seed, most=7)
        check(backend, case.array(case.x, 1, dtype, whole=True), case.settings, case)


@pytest.mark.primitives("max_pool2d", "max_pool2d_grad")
@DTYPES
@pytest.mark.parametrize("special", [np.nan, -np.inf, np.inf])
def test_max_pool_of_special_values(backend, special, dtype):
    """Where a fifth or all of the pixels are NaN or infinite."""
    for seed in range(12):
        case = pool_case(seed, most=7)
        x = case.array(case.x, 1, dtype, whole=True)
        x[np.random.default_rng(seed).random(x.shape) < (1.0 if seed % 3 == 0 else 0.2)] = special
        check(backend, x, case.settings, case)


@pytest.mark.primitives("max_pool2d", "max_pool2d_grad")
@pytest.mark.parametrize(
    "window, dtype", [((16, 16), np.uint8), ((257, 1), np.uint16), ((16, 17), np.uint16)]
)
def test_index_is_as_narrow_as_the_window_allows(backend, window, dtype):
    x = values((1, window[0], window[1], 2), 1, np.float32)
    x[0, -1, -1, 0] = 100  # the last cell of all wins
    settings = {"window": Window(window, stride=(2, 2))}
    y, index = backend(p.max_pool2d, x, **settings)
    assert index.dtype == dtype
    assert index[0, 0, 0, 0] == window[0] * window[1] - 1
    assert y[0, 0, 0, 0] == 100
    gx = backend(p.max_pool2d_grad, np.ones_like(y), index, input_shape=x.shape, **settings)
    assert gx[0, -1, -1, 0] == 1
    assert gx.sum() == 2


@pytest.mark.primitives("avg_pool2d", "avg_pool2d_grad")
@DTYPES
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_average_pool(backend, chunk, dtype):
    for seed in range(100 + chunk * CASES, 100 + (chunk + 1) * CASES):
        case = pool_case(seed, most=7)
        x = case.array(case.x, 1, dtype)
        y = backend(p.avg_pool2d, x, **case.settings)
        gy = case.array(y.shape, 2, dtype)
        gx = backend(p.avg_pool2d_grad, gy, input_shape=case.x, **case.settings)
        assert y.dtype == gx.dtype == dtype
        assert_close(y, naive.avg_pool2d(x, **case.settings), case)
        exact = naive.avg_pool2d_grad(gy, input_shape=case.x, **case.settings)
        assert_close(gx, exact, case)


@pytest.mark.primitives("global_avg_pool2d", "global_avg_pool2d_grad")
@DTYPES
def test_global_average(backend, dtype):
    for i, shape in enumerate([(1, 1, 1, 1), (2, 3, 5, 7), (0, 4, 4, 2), (2, 56, 56, 3)]):
        x = values(shape, i, dtype) + 3
        y = backend(p.global_avg_pool2d, x)
        exact = x.astype(np.float64).mean(axis=(1, 2))
        assert y.dtype == dtype
        assert_close(y, exact, shape, ulps=4)
        gy = values(y.shape, 10 + i, dtype)
        gx = backend(p.global_avg_pool2d_grad, gy, input_shape=shape)
        share = gy.astype(np.float64)[:, None, None, :] / (shape[1] * shape[2])
        assert_close(gx, np.broadcast_to(share, shape), shape)


@pytest.mark.primitives("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
def test_larger_than_a_task(backend):
    """Enough pixels that an implementation splits the work, and channels beside its vectors."""
    x = values((5, 37, 41, 67), 1, np.float32, whole=True)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))[:, ::2, ::2]
    settings = {"window": Window((3, 3), stride=(2, 2))}
    y, index = backend(p.max_pool2d, x, **settings)
    flat = windows.reshape(*windows.shape[:4], 9)
    np.testing.assert_array_equal(y, flat.max(axis=-1))
    np.testing.assert_array_equal(index, flat.argmax(axis=-1))
    gx = backend(p.max_pool2d_grad, y, index, input_shape=x.shape, **settings)
    by_definition = p.max_pool2d_grad(y, index, input_shape=x.shape, algo="reference", **settings)
    np.testing.assert_array_equal(gx, by_definition)
    mean = backend(p.avg_pool2d, x, **settings)
    assert_close(mean, flat.mean(axis=-1, dtype=np.float64))
    gx = backend(p.avg_pool2d_grad, mean, input_shape=x.shape, **settings)
    by_definition = p.avg_pool2d_grad(
        mean.astype(np.float64), input_shape=x.shape, algo="reference", **settings
    )
    assert_close(gx, by_definition)


@pytest.mark.primitives("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")
def test_arrays_that_are_not_contiguous(backend):
    x = values((3, 6, 7, 2), 1, np.float32, whole=True).transpose(3, 2, 1, 0)[:, ::-1]
    check(backend, x, PLAIN, "transposed")
    y = backend(p.avg_pool2d, x, **PLAIN)
    assert_close(y, naive.avg_pool2d(x, **PLAIN))
    gy = values(y.shape[::-1], 2, np.float32).transpose()
    gx = backend(p.avg_pool2d_grad, gy, input_shape=x.shape, **PLAIN)
    assert_close(gx, naive.avg_pool2d_grad(gy, input_shape=x.shape, **PLAIN))

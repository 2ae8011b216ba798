"""Reductions along every axis, long sums, argmax and the check for numbers that are not finite."""

from __future__ import annotations

import numpy as np
import pytest
from cases import values

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
AXES = [None, 0, -1, (0,), (1, 2), (0, 2), (-1, 0), (0, 1, 2)]


@pytest.mark.primitives("reduce_sum", "reduce_mean", "reduce_max")
@DTYPES
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_reductions(backend, axis, dtype):
    x = values((3, 4, 5), 1, dtype)
    wide = x.astype(np.float64)
    relative = 1e-13 if dtype == np.float64 else 1e-6
    for keepdims in (False, True):
        same = {"axis": axis, "keepdims": keepdims}
        for primitive, exact in [
            (p.reduce_sum, wide.sum(**same)),
            (p.reduce_mean, wide.mean(**same)),
            (p.reduce_max, wide.max(**same)),
        ]:
            y = backend(primitive, x, **same)
            assert y.dtype == dtype
            assert y.shape == exact.shape
            np.testing.assert_allclose(y, exact, rtol=relative, atol=relative)


@pytest.mark.primitives("reduce_sum", "reduce_mean")
@pytest.mark.parametrize(
    "axis, shape", [(0, (1_000_003, 2)), (1, (2, 1_000_003)), (None, (999, 1001))]
)
def test_long_float32_sums_keep_their_digits(backend, axis, shape):
    """A running float32 sum of a million values in [0, 1) is wrong in the fourth digit."""
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    exact = x.astype(np.float64).sum(axis=axis)
    total = backend(p.reduce_sum, x, axis=axis, keepdims=False)
    np.testing.assert_allclose(total, exact, rtol=3e-6)
    mean = backend(p.reduce_mean, x, axis=axis, keepdims=False)
    np.testing.assert_allclose(mean, exact * (total.size / x.size), rtol=3e-6)


@pytest.mark.primitives("reduce_sum", "reduce_mean")
def test_sums_of_nothing_are_zero(backend):
    x = np.zeros((0, 3), np.float32)
    for primitive in (p.reduce_sum, p.reduce_mean):
        np.testing.assert_array_equal(backend(primitive, x, axis=0, keepdims=False), np.zeros(3))
        assert backend(primitive, x, axis=1, keepdims=False).shape == (0,)


@pytest.mark.primitives("argmax")
def test_argmax_takes_the_first_and_nan(backend):
    x = np.array([[1, 3, 3], [2, np.nan, np.nan], [0, 0, 0]], np.float32)
    y = backend(p.argmax, x, axis=1)
    assert y.dtype == np.int64
    assert y.tolist() == [1, 1, 0]
    assert backend(p.argmax, x[[0, 2]], axis=0).tolist() == [0, 0, 0]


@pytest.mark.primitives("argmax")
@DTYPES
def test_argmax_along_long_axes(backend, dtype):
    for shape, axis in [((40_000,), 0), ((3, 20_000, 2), 1), ((50_000, 3), 0), ((7, 40), -1)]:
        x = np.random.default_rng(1).integers(0, 50, shape).astype(dtype)  # many are equal
        np.testing.assert_array_equal(backend(p.argmax, x, axis=axis), np.argmax(x, axis=axis))
        x.reshape(-1)[x.size // 2 :] = np.nan
        np.testing.assert_array_equal(backend(p.argmax, x, axis=axis), np.argmax(x, axis=axis))


@pytest.mark.primitives("all_finite")
@DTYPES
def test_one_number_that_is_not_finite_is_found(backend, dtype):
    for size in (0, 1, 5, 4096, 300_001):
        x = values((size,), 1, dtype)
        assert backend(p.all_finite, x) == np.True_
        for at in {0, size // 2, size - 1} if size else ():
            for odd in (np.nan, np.inf, -np.inf):
                wrong = x.copy()
                wrong[at] = odd
                assert backend(p.all_finite, wrong) == np.False_
    largest = np.full(10, np.finfo(dtype).max)
    assert backend(p.all_finite, largest).shape == ()
    assert backend(p.all_finite, largest) == np.True_

"""Bias, ReLU, LRN and max-pooling as one primitive, against loops."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from cases import assert_close, assert_sums_close, values

from gpukit import primitives as p
from gpukit.primitives import Response, Window

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PAPER = Response(size=5, alpha=0.5, beta=0.75, k=2.0)
POOL = Window((3, 3), stride=(2, 2))
# The paper's shapes and odd ones: windows that overlap and do not, padding, groups, a segment of
# channels that is no multiple of 16 bytes, more rows and columns than one thread takes.
CASES = [
    ((2, 7, 7, 8), {"groups": 1}, {}),
    ((1, 8, 9, 16), {"groups": 2}, {}),
    ((2, 3, 3, 96), {"groups": 2}, {}),
    ((1, 21, 17, 4), {"groups": 1}, {}),
    ((1, 5, 6, 12), {"groups": 3, "beta": 0.6}, {"padding": ((1, 1), (2, 1))}),
    ((2, 6, 5, 6), {"groups": 2, "size": 3}, {"size": (2, 2)}),
    ((1, 6, 7, 8), {"groups": 2, "size": 4}, {"size": (2, 3), "stride": (1, 2)}),
    ((2, 5, 5, 3), {"groups": 1}, {"padding": ((1, 0), (0, 1))}),
    ((1, 1, 1, 5), {"groups": 1}, {"padding": ((1, 1), (1, 1))}),
    ((3, 1, 1, 8), {"groups": 1}, {"size": (1, 1), "stride": (1, 1)}),
    ((0, 5, 5, 8), {"groups": 1}, {}),
]


def settings_of(response: dict, pool: dict, relu: bool) -> dict:
    window = POOL._replace(**pool)
    return {"response": PAPER._replace(**response), "window": window, "relu": relu}


def by_loops(x, bias, settings):
    """Values, winners and the value before normalisation, in float64."""
    a = x.astype(np.float64) + (0 if bias is None else bias.astype(np.float64))
    a = np.where(a > 0, a, 0) if settings["relu"] else a
    return *naive.max_pool2d(
        naive.lrn(a, response=settings["response"]), window=settings["window"]
    ), a


@pytest.mark.primitives("bias_relu_lrn_pool")
@DTYPES
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c[0]))
def test_forward(backend, case, relu, dtype):
    shape, response, pool = case
    settings = settings_of(response, pool, relu)
    # Whole numbers: equal values are equal in every precision, so winners are, too.
    x, bias = values(shape, 1, dtype, whole=True), values(shape[3:], 2, dtype, whole=True)
    for b in (bias, None):
        y, index = backend(p.bias_relu_lrn_pool, x, b, **settings)
        exact, winners, _ = by_loops(x, b, settings)
        assert y.dtype == dtype
        assert index.dtype == np.uint8
        assert_close(y, exact, case)
        np.testing.assert_array_equal(index, winners)


@pytest.mark.primitives("bias_relu_lrn_pool")
@DTYPES
def test_exact_where_nothing_rounds(backend, dtype):
    """With alpha 0 and k 1 only bias, ReLU and pooling are left: equal to the bit."""
    x, bias = values((2, 9, 11, 8), 1, dtype, whole=True), values((8,), 2, dtype, whole=True)
    exact, winners = naive.max_pool2d(np.maximum(x + bias, 0), window=POOL)
    for size in (1, 5):
        settings = settings_of({"groups": 1, "alpha": 0.0, "k": 1.0, "size": size}, {}, True)
        y, index = backend(p.bias_relu_lrn_pool, x, bias, **settings)
        np.testing.assert_array_equal(y, exact)
        np.testing.assert_array_equal(index, winners)


@pytest.mark.primitives("bias_relu_lrn_pool")
def test_not_a_number_wins_its_windows(backend):
    """A NaN spreads to the channels around it, and the first cell that has one wins."""
    x = values((1, 7, 7, 16), 1, np.float32)
    x[0, 2, 2, 5] = np.nan
    settings = settings_of({"groups": 1}, {}, True)
    y, index = backend(p.bias_relu_lrn_pool, x, None, **settings)
    expected = p.bias_relu_lrn_pool.reference(x, None, **settings)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected[0]))
    assert np.isnan(y).sum() == 4 * 5
    np.testing.assert_array_equal(index[np.isnan(y)], expected[1][np.isnan(y)])


@pytest.mark.primitives("bias_relu_lrn_pool", "bias_relu_lrn_pool_grad")
@DTYPES
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c[0]))
def test_gradient(backend, case, relu, dtype):
    """By differences along random directions, with winners held: a small step changes none."""
    shape, response, pool = case
    settings = settings_of(response, pool, relu)
    x, bias = values(shape, 1, dtype), values(shape[3:], 2, dtype)
    _, winners, a = by_loops(x, bias, settings)
    winners = winners.astype(np.uint8)
    gy = values(winners.shape, 3, dtype)
    gx, gbias = backend(p.bias_relu_lrn_pool_grad, gy, x, bias, winners, **settings)
    assert gx.dtype == gbias.dtype == dtype
    response, window = settings["response"], settings["window"]
    g, step = naive.max_pool2d_grad(gy, winners, input_shape=shape, window=window), 1e-5
    for direction in range(3):
        v = values(shape, 10 + direction, np.float64) * ((a > 0) | (not relu))
        above, below = (naive.lrn(a + side * step * v, response=response) for side in (1, -1))
        exact = (g * (above - below)).sum() / (2 * step)
        tolerance = 1e-4 if dtype == np.float32 else 1e-7
        np.testing.assert_allclose((gx * v).sum(), exact, rtol=tolerance, atol=tolerance)
    if relu:
        assert not gx[a <= 0].any()
    assert_sums_close(gbias, gx.sum(axis=(0, 1, 2), dtype=np.float64), gx[..., 0].size, case)
    gx_bare, none = backend(p.bias_relu_lrn_pool_grad, gy, x + bias, None, winners, **settings)
    assert none is None
    np.testing.assert_allclose(gx_bare, gx, rtol=1e-4, atol=1e-5)


@pytest.mark.primitives("bias_relu_lrn_pool", "bias_relu_lrn_pool_grad")
def test_gradient_to_ten_digits(backend):
    """float64 against the definition, which other tests hold to differences."""
    for shape, response, pool in CASES:
        settings = settings_of(response, pool, True)
        x, bias = values(shape, 1, np.float64), values(shape[3:], 2, np.float64)
        y, index = backend(p.bias_relu_lrn_pool, x, bias, **settings)
        gy = values(y.shape, 3, np.float64)
        ours = backend(p.bias_relu_lrn_pool_grad, gy, x, bias, index, **settings)
        theirs = p.bias_relu_lrn_pool_grad.reference(gy, x, bias, index, **settings)
        for mine, exact in zip(ours, theirs, strict=True):
            assert_close(mine, exact, shape)


@pytest.mark.primitives("bias_relu_lrn_pool", "bias_relu_lrn_pool_grad")
def test_arrays_that_are_not_contiguous(backend):
    x = values((8, 7, 6, 2), 1, np.float32, whole=True).transpose(3, 2, 1, 0)[:, ::-1]
    bias = values((16,), 2, np.float32, whole=True)[::2]
    settings = settings_of({"groups": 2}, {}, True)
    y, index = backend(p.bias_relu_lrn_pool, x, bias, **settings)
    exact, winners, _ = by_loops(x, bias, settings)
    assert_close(y, exact)
    np.testing.assert_array_equal(index, winners)
    gy = values(y.shape[::-1], 3, np.float32).transpose()
    gx, gbias = backend(p.bias_relu_lrn_pool_grad, gy, x, bias, index, **settings)
    wide = [a.astype(np.float64) for a in (gy, x, bias)]
    expected = p.bias_relu_lrn_pool_grad.reference(*wide, index, **settings)
    assert_close(gx, expected[0], ulps=64)
    assert_close(gbias, expected[1], ulps=256)


@pytest.mark.primitives("bias_relu_lrn_pool", "bias_relu_lrn_pool_grad", "lrn", "lrn_grad")
def test_views_that_begin_anywhere(backend):
    """Inside a flat buffer arrays lie at odd addresses: no packs of 16 bytes there."""
    shape, settings = (1, 5, 5, 8), settings_of({"groups": 1}, {}, True)
    flat, bias = values((201,), 1, np.float32, whole=True), values((9,), 2, np.float32, whole=True)
    x, b = backend._put(flat)[1:].reshape(shape), backend._put(bias)[1:]
    here = flat[1:].reshape(shape)
    y, index = p.bias_relu_lrn_pool(x, b, **settings)
    exact, winners, _ = by_loops(here, bias[1:], settings)
    assert_close(backend._get(y), exact)
    np.testing.assert_array_equal(backend._get(index), winners)
    response = {"response": settings["response"]}
    assert_close(backend._get(p.lrn(x, **response)), naive.lrn(here, **response))
    gx = backend._get(p.lrn_grad(x, x, **response))
    assert_close(gx, p.lrn_grad.reference(*[here.astype(np.float64)] * 2, **response), ulps=64)

"""Batch norm and LRN against loops, by differences, and on data that is hard on float32."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from cases import assert_close, values

from gpukit import primitives as p
from gpukit.primitives import Response

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
LRN = [
    Response(size=5, alpha=5e-4, beta=0.75, k=2.0),
    Response(size=3, alpha=1.5, beta=0.6, k=1.0, groups=2),
    Response(size=4, alpha=0.9, beta=1.2, k=0.5),
    Response(size=9, alpha=0.9, beta=0.75, k=1.0, groups=4),
    Response(size=1, alpha=0.9, beta=0.5, k=1.0),
]


@pytest.mark.primitives("lrn", "lrn_grad")
@DTYPES
@pytest.mark.parametrize("response", LRN, ids=lambda r: f"size {r.size} groups {r.groups}")
def test_lrn(backend, response, dtype):
    for i, shape in enumerate([(2, 2, 3, 8), (1, 1, 1, 4), (0, 2, 2, 4), (3, 12)]):
        x, gy = values(shape, i, dtype), values(shape, 10 + i, dtype)
        y = backend(p.lrn, x, response=response)
        assert y.dtype == dtype
        assert_close(y, naive.lrn(x, response=response), (shape, response))
        gx = backend(p.lrn_grad, gy, x, response=response)
        assert gx.dtype == dtype
        wide = x.astype(np.float64)
        exact = naive.numerical_gradient(lambda v: naive.lrn(v, response=response), wide, gy)
        np.testing.assert_allclose(gx, exact, rtol=1e-5, atol=1e-5 if dtype == np.float32 else 1e-7)


@pytest.mark.primitives("batch_norm", "batch_norm_inference", "batch_norm_grad")
@DTYPES
def test_batch_norm(backend, dtype):
    for i, shape in enumerate([(6, 3), (2, 3, 2, 4), (1, 2, 2, 1), (1, 1, 1, 2)]):
        c = shape[-1]
        x, gy = values(shape, i, dtype), values(shape, 10 + i, dtype)
        gamma, beta = values((c,), 20 + i, dtype), values((c,), 30 + i, dtype)
        y, mean, variance = backend(p.batch_norm, x, gamma, beta, epsilon=1e-3)
        exact = naive.batch_norm(x, gamma, beta, epsilon=1e-3)
        for ours, theirs in zip((y, mean, variance), exact):
            assert ours.dtype == dtype
            assert_close(ours, theirs, shape, ulps=64)
        results = backend(p.batch_norm_grad, gy, x, gamma, mean, variance, epsilon=1e-3)
        arguments = [a.astype(np.float64) for a in (x, gamma, beta)]
        for j, result in enumerate(results):

            def forward(v, j=j, arguments=arguments):
                changed = [v if k == j else a for k, a in enumerate(arguments)]
                return naive.batch_norm(*changed, epsilon=1e-3)[0]

            expected = naive.numerical_gradient(forward, arguments[j], gy)
            assert result.dtype == dtype
            tolerance = 2e-4 if dtype == np.float32 else 1e-6
            np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.primitives("batch_norm", "batch_norm_grad")
@DTYPES
def test_batch_norm_of_an_empty_batch(backend, dtype):
    x, ones = np.zeros((0, 2, 2, 3), dtype), np.ones(3, dtype)
    y, mean, variance = backend(p.batch_norm, x, ones, ones, epsilon=1e-3)
    assert y.shape == x.shape
    np.testing.assert_array_equal([mean, variance], np.zeros((2, 3)))
    gx, ggamma, gbeta = backend(p.batch_norm_grad, y, x, ones, mean, variance, epsilon=1e-3)
    assert gx.shape == x.shape
    np.testing.assert_array_equal([ggamma, gbeta], np.zeros((2, 3)))


@pytest.mark.primitives("batch_norm")
def test_variance_beside_a_large_mean(backend):
    """E[x²] - E[x]² would lose every digit here: mean 1000, standard deviation 0.1."""
    x = (1000 + 0.1 * values((16, 25, 25, 3), 1, np.float64)).astype(np.float32)
    _, mean, variance = backend(
        p.batch_norm, x, np.ones(3, np.float32), np.zeros(3, np.float32), epsilon=1e-3
    )
    rows = x.reshape(-1, 3).astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=1e-3)


@pytest.mark.primitives("batch_norm")
def test_statistics_of_many_pixels(backend):
    """A running float32 sum over 400,000 one-sided values would be off in the third digit."""
    x = np.random.default_rng(0).random((100, 63, 64, 2), dtype=np.float32)
    _, mean, variance = backend(
        p.batch_norm, x, np.ones(2, np.float32), np.zeros(2, np.float32), epsilon=1e-3
    )
    rows = x.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=3e-6)
    np.testing.assert_allclose(variance, rows.var(axis=0), rtol=1e-5)


@pytest.mark.primitives("lrn", "lrn_grad")
@DTYPES
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_lrn_over_many_channels(backend, groups, dtype):
    """Segments across several warps, and several segments in one; to ten digits in float64."""
    settings = {"response": Response(size=5, alpha=0.5, beta=0.75, k=2.0, groups=groups)}
    for shape in [(3, 256), (7, 5, 3, 96), (1, 4096), (41, 32)]:
        x, gy = values(shape, 1, dtype), values(shape, 2, dtype)
        wide = x.astype(np.float64)
        y, gx = backend(p.lrn, x, **settings), backend(p.lrn_grad, gy, x, **settings)
        assert_close(y, p.lrn.reference(wide, **settings), shape)
        exact = p.lrn_grad.reference(gy.astype(np.float64), wide, **settings)
        assert_close(gx, exact, shape, ulps=64)

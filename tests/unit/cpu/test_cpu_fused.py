"""Bias, ReLU, LRN and max-pooling in one pass, and stored images: against their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpukit import primitives as p
from gpukit.backends.cpu.runtime import threads
from gpukit.primitives import Response, Window

# shape, groups, size, beta, window, stride, padding
CASES: list[tuple[Any, ...]] = [
    ((2, 13, 13, 96), 2, 5, 0.75, (3, 3), (2, 2), ((0, 0), (0, 0))),
    ((3, 9, 8, 20), 1, 5, 0.75, (3, 2), (2, 3), ((1, 1), (0, 1))),
    ((1, 7, 7, 6), 2, 4, 0.5, (3, 3), (1, 1), ((1, 0), (2, 1))),
    ((2, 5, 5, 17), 1, 3, 0.75, (2, 2), (3, 3), ((0, 0), (0, 0))),
    ((2, 6, 6, 4), 4, 7, 0.75, (2, 2), (2, 2), ((0, 0), (0, 0))),
    ((1, 40, 3, 33), 3, 5, 0.75, (3, 3), (2, 2), ((2, 2), (1, 1))),
    ((1, 12, 90, 48), 2, 5, 1.0, (5, 3), (2, 1), ((0, 0), (0, 0))),
    ((2, 1, 1, 5), 1, 5, 0.75, (1, 1), (1, 1), ((0, 0), (0, 0))),
]


def call(case: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray, dict[str, Any]]:
    shape, groups, size, beta, window, stride, padding = case
    rng = np.random.default_rng(0)
    settings = {
        "response": Response(size=size, alpha=0.3, beta=beta, k=1.5, groups=groups),
        "window": Window(window, stride, padding),
    }
    return rng.standard_normal(shape) * 3, rng.standard_normal(shape[3]), settings


@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 3e-6), (np.float64, 1e-13)])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case[0])))
def test_against_the_definition_in_float64(case, dtype, tolerance, biased, relu):
    x, bias, settings = call(case)
    x = x.astype(dtype)
    b = bias.astype(dtype) if biased else None
    wide = None if b is None else b.astype(np.float64)
    settings["relu"] = relu
    y, index = p.bias_relu_lrn_pool(x, b, algo="numba", **settings)
    exact, _ = p.bias_relu_lrn_pool(x.astype(np.float64), wide, algo="reference", **settings)
    assert y.dtype == dtype and index.dtype == np.uint8
    np.testing.assert_allclose(y, exact, rtol=tolerance, atol=tolerance)
    gy = np.random.default_rng(1).standard_normal(y.shape).astype(dtype)
    gx, gbias = p.bias_relu_lrn_pool_grad(gy, x, b, index, algo="numba", **settings)
    wanted, wanted_bias = p.bias_relu_lrn_pool_grad(
        gy.astype(np.float64), x.astype(np.float64), wide, index, algo="reference", **settings
    )
    np.testing.assert_allclose(gx, wanted, rtol=tolerance, atol=10 * tolerance)
    if biased:
        np.testing.assert_allclose(gbias, wanted_bias, rtol=tolerance, atol=1e3 * tolerance)
    else:
        assert gbias is None


def test_nan_wins_and_the_first_of_equals():
    x = np.zeros((1, 3, 3, 16), np.float32)
    x[0, 1, 1, 3] = x[0, 2, 2, 3] = np.nan
    x[0, 0, 2, 15] = x[0, 2, 0, 15] = 1
    settings = call(CASES[0])[2] | {"relu": True}
    settings["response"] = settings["response"]._replace(groups=16)
    y, index = p.bias_relu_lrn_pool(x, None, algo="numba", **settings)
    assert np.isnan(y[0, 0, 0, 3]) and index[0, 0, 0, 3] == 4
    assert index[0, 0, 0, 15] == 2 and index[0, 0, 0, 0] == 0


def test_bits_do_not_depend_on_the_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, b = rng.standard_normal((4, 55, 55, 48), dtype=np.float32), np.ones(48, np.float32)
    settings = call(CASES[0])[2] | {"relu": True}
    found = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "_pool", threads.ThreadPool(count))
        y, index = p.bias_relu_lrn_pool(x, b, algo="numba", **settings)
        grads = p.bias_relu_lrn_pool_grad(y, x, b, index, algo="numba", **settings)
        found.append([array.tobytes() for array in (y, index, *grads)])
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shifted", [True, False])
@pytest.mark.parametrize("shape", [(5, 37, 41, 3), (1, 2, 2, 1), (2, 3, 3, 700)])
def test_normalised_images_are_the_definition_s_to_the_bit(shape, shifted, dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, shape).astype(np.uint8)
    mean, scale = rng.random(shape[3]) * 100, rng.random(shape[3])
    shift = rng.standard_normal((shape[0], shape[3])) if shifted else None
    y = p.normalise_images(x, mean, scale, shift, dtype=dtype, algo="numba")
    wanted = p.normalise_images(x, mean, scale, shift, dtype=dtype, algo="reference")
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, wanted)

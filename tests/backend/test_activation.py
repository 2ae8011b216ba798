"""Activations: the whole range of numbers, NaN, and gradients by differences."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from cases import values

from gpukit import ops
from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SETTINGS = {"leaky_relu": {"slope": 0.1}, "elu": {"alpha": 0.7}}


def log1p_exp(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


# By name: the function of one number, and its values at infinity and -infinity.
SCALAR = {
    "relu": (lambda x: max(x, 0.0), (np.inf, 0.0)),
    "leaky_relu": (lambda x: x if x > 0 else 0.1 * x, (np.inf, -np.inf)),
    "elu": (lambda x: x if x > 0 else 0.7 * math.expm1(x), (np.inf, -0.7)),
    "sigmoid": (lambda x: math.exp(-log1p_exp(-x)), (1.0, 0.0)),
    "tanh": (math.tanh, (1.0, -1.0)),
    "softplus": (log1p_exp, (np.inf, 0.0)),
    "softsign": (lambda x: x / (1 + abs(x)), (np.nan, np.nan)),
}
FAMILY = (*SCALAR, "softmax", "log_softmax")


def test_every_activation_is_here():
    assert sorted(SCALAR) == sorted(ops.activation.__all__)


@pytest.mark.primitives(*SCALAR)
@DTYPES
@pytest.mark.parametrize("name", SCALAR)
def test_whole_range(backend, name, dtype):
    """Every magnitude, without overflow, warning or loss of the dtype."""
    steps = np.concatenate([np.geomspace(1e-30, 1e4, 400), [0.0, 87.0, 88.8, 104.0, 709.0, 745.0]])
    x = np.concatenate([-steps, steps]).astype(dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        y = backend(getattr(p, name), x, **SETTINGS.get(name, {}))
    assert y.dtype == dtype
    of_number, _ = SCALAR[name]
    exact = np.array([of_number(float(v)) for v in x])
    relative = 1e-12 if dtype == np.float64 else 2e-6
    np.testing.assert_allclose(y, exact, rtol=relative, atol=1e-37)


@pytest.mark.primitives(*SCALAR)
@pytest.mark.parametrize("name", SCALAR)
def test_infinities_and_nan(backend, name):
    x = np.array([np.inf, -np.inf, np.nan, 1.0], np.float32)
    y = backend(getattr(p, name), x, **SETTINGS.get(name, {}))
    _, ends = SCALAR[name]
    np.testing.assert_allclose(y[:2], ends, rtol=1e-6)
    assert np.isnan(y[2])
    assert np.isfinite(y[3])


@pytest.mark.primitives(*FAMILY, *(f"{name}_grad" for name in FAMILY))
@pytest.mark.parametrize("name", FAMILY)
def test_gradient_by_differences(backend, name):
    forward, gradient = getattr(p, name), getattr(p, f"{name}_grad")
    settings = SETTINGS.get(name, {})
    x = 2 * values((4, 5), 1, np.float64) + 0.01  # no element within a step of the kink at 0
    gy = values((4, 5), 2, np.float64)
    y = backend(forward, x, **settings)
    gx = backend(gradient, gy, x if "x" in gradient.signature.parameters else y, **settings)
    expected = naive.numerical_gradient(lambda v: backend(forward, v, **settings), x, gy)
    np.testing.assert_allclose(gx, expected, rtol=1e-7, atol=1e-8)


@pytest.mark.primitives("relu", "relu_grad")
@DTYPES
def test_relu_is_exact(backend, dtype):
    x = values((7, 5, 3), 1, dtype, whole=True)
    gy = values(x.shape, 2, dtype, whole=True)
    y = backend(p.relu, x)
    np.testing.assert_array_equal(y, [[[max(v, 0) for v in r] for r in a] for a in x.tolist()])
    np.testing.assert_array_equal(backend(p.relu_grad, gy, y), gy * (x > 0))

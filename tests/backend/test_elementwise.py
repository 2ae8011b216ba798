"""Elementwise primitives against what Python's scalars give."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import values

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "maximum": max,
    "minimum": min,
}
UNARY = {
    "negative": lambda a: -a,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "square": lambda a: a * a,
    "absolute": abs,
    "sign": lambda a: math.copysign(1.0, a),
}


def positive(shape, seed, dtype) -> np.ndarray:
    return np.asarray(np.abs(values(shape, seed, dtype)) + 0.5, dtype)


@pytest.mark.primitives(*BINARY)
@DTYPES
@pytest.mark.parametrize("name", BINARY)
def test_binary_with_broadcasting(backend, name, dtype):
    for i, (a, b) in enumerate(
        [
            ((3, 4), (3, 4)),
            ((3, 4), (4,)),
            ((3, 1, 2), (5, 1)),
            ((0, 3), (3,)),
            ((), ()),
            ((2,), ()),
        ]
    ):
        x = positive(a, i, dtype)
        y = positive(b, 10 + i, dtype)
        z = backend(getattr(p, name), x, y)
        wide = np.broadcast_arrays(x.astype(np.float64), y.astype(np.float64))
        exact = [BINARY[name](float(u), float(v)) for u, v in zip(*(w.reshape(-1) for w in wide))]
        assert z.dtype == dtype
        assert z.shape == np.broadcast_shapes(a, b)
        relative = 1e-14 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(z.reshape(-1), exact, rtol=relative, atol=relative)


@pytest.mark.primitives("add")
def test_broadcasting_along_every_other_axis(backend):
    x = values((2, 1, 3, 1, 2, 1), 1, np.float32, whole=True)
    y = values((1, 2, 1, 4, 1, 3), 2, np.float32, whole=True)
    np.testing.assert_array_equal(backend(p.add, x, y), x + y)


@pytest.mark.primitives(*UNARY)
@DTYPES
@pytest.mark.parametrize("name", UNARY)
def test_unary(backend, name, dtype):
    for i, shape in enumerate([(3, 4), (1,), (0, 2), (), (2, 3, 4, 5)]):
        x = (positive if name in ("log", "sqrt") else values)(shape, i, dtype)
        y = backend(getattr(p, name), x)
        exact = [UNARY[name](float(v)) for v in x.reshape(-1)]
        assert y.dtype == dtype
        assert y.shape == shape
        relative = 1e-14 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(y.reshape(-1), exact, rtol=relative, atol=relative / 10)


@pytest.mark.primitives("maximum", "minimum", "sign")
def test_nan_is_never_lost(backend):
    x, y = np.array([np.nan, 1.0, 0.0], np.float32), np.array([1.0, np.nan, -0.0], np.float32)
    for name in ("maximum", "minimum"):
        assert np.isnan(backend(getattr(p, name), x, y)).tolist() == [True, True, False]
    np.testing.assert_array_equal(backend(p.sign, x), [np.nan, 1.0, 0.0])

"""Stored images, normalised on the device, against loops."""

from __future__ import annotations

import numpy as np
import pytest
from cases import values

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.mark.primitives("normalise_images")
@DTYPES
@pytest.mark.parametrize("shape", [(2, 5, 7, 3), (3, 1, 1, 1), (0, 4, 4, 3), (1, 8, 8, 4)])
def test_normalised_images(backend, shape, dtype):
    """To the bit: an addition, a subtraction and a product in this order."""
    channels = shape[3:]
    x = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    mean, scale = values(channels, 2, dtype) * 100, values(channels, 3, dtype)
    shift = values((shape[0], *channels), 4, dtype)
    for moved in (shift, None):
        y = backend(p.normalise_images, x, mean, scale, moved, dtype=dtype)
        assert y.dtype == dtype
        expected = np.zeros(shape, dtype)
        for n, h, w, c in np.ndindex(*shape):
            value = dtype(x[n, h, w, c]) + (dtype(0) if moved is None else moved[n, c])
            expected[n, h, w, c] = (value - mean[c]) * scale[c]
        np.testing.assert_array_equal(y, expected)


@pytest.mark.primitives("normalise_images")
def test_normalisation_takes_what_is_at_hand(backend):
    """Strided images, and numbers of another float type than is asked for."""
    x = np.random.default_rng(1).integers(0, 256, (3, 6, 5, 4)).astype(np.uint8)[:, ::2, :, 1:]
    mean, scale = values((3,), 2, np.float64), values((3,), 3, np.float64)
    y = backend(p.normalise_images, x, mean, scale, None, dtype=np.float32)
    expected = (x.astype(np.float32) - mean.astype(np.float32)) * scale.astype(np.float32)
    np.testing.assert_array_equal(y, expected)
    assert y.dtype == np.float32

"""Flat buffers of more than 2²⁴ elements, where a float32 index would stop counting.

AlexNet's 61 million parameters are one buffer. Whole numbers and halves: results are exact.
"""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import primitives as p
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

SIZE = 2**24 + 1029  # the last block is partly empty, the last pack too


def counting(modulus: int) -> np.ndarray:
    return (np.arange(SIZE) % modulus).astype(np.float32)


def test_momentum_with_weight_decay():
    device = get_device("emu")
    w, v, g = counting(7), counting(5), counting(3)
    here = [device.asarray(a) for a in (w, v, g)]
    p.sgd_update(*here, lr=0.5, momentum=0.5, weight_decay=0.25, nesterov=False)
    expected = 0.5 * v - 0.5 * (g + 0.25 * w)
    np.testing.assert_array_equal(to_host(here[1]), expected)
    np.testing.assert_array_equal(to_host(here[0]), w + expected)


def test_dropout():
    x = counting(7) + 1
    settings = {"rate": 0.5, "seed": 2**40 + 1, "layer": 2, "step": 3, "scale": 2.0}
    y = to_host(p.dropout(get_device("emu").asarray(x), **settings))
    np.testing.assert_array_equal(y, p.dropout(x, **settings))

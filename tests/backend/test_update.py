"""Optimiser steps against their formulas, one Python float at a time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import assert_close, values

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SIZES = [0, 1, 5, 1031]
LR, WD = 0.05, 0.1


def buffers(count: int, size: int, dtype) -> list[np.ndarray]:
    return [values((size,), (size, i), dtype) for i in range(count)]


def elementwise(formula, *arrays: np.ndarray) -> list[np.ndarray]:
    """`formula` on the floats of each position; its results as float64 arrays."""
    rows = [formula(*(float(a[i]) for a in arrays)) for i in range(arrays[0].size)]
    return [np.array(column) for column in zip(*rows)] or [np.zeros(0)] * len(arrays)


@pytest.mark.primitives("sgd_update")
@DTYPES
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("weight_decay", [0.0, WD])
def test_sgd(backend, weight_decay, nesterov, dtype):
    """v ← μv - lr·(g + wd·w); w ← w + v, or w + μv - lr·(g + wd·w)."""
    settings = {"lr": LR, "momentum": 0.9, "weight_decay": weight_decay, "nesterov": nesterov}

    def step(w, v, g):
        g += weight_decay * w
        v = 0.9 * v - LR * g
        return w + (0.9 * v - LR * g if nesterov else v), v

    for size in SIZES:
        w, v, g = buffers(3, size, dtype)
        expected = elementwise(step, w, v, g)
        ours = backend.update(p.sgd_update, w, v, g, **settings)
        assert_close(ours[0], expected[0], size)
        assert_close(ours[1], expected[1], size)
        np.testing.assert_array_equal(ours[2], g)


@pytest.mark.primitives("sgd_update")
@DTYPES
@pytest.mark.parametrize("weight_decay", [0.0, WD])
def test_sgd_without_momentum_keeps_no_state(backend, weight_decay, dtype):
    settings = {"lr": LR, "momentum": 0.0, "weight_decay": weight_decay, "nesterov": False}
    for size in SIZES:
        w, g = buffers(2, size, dtype)
        ours, state, _ = backend.update(p.sgd_update, w, None, g, **settings)
        assert state is None
        assert_close(ours, elementwise(lambda w, g: (w - LR * (g + weight_decay * w), 0), w, g)[0])


@pytest.mark.primitives("adam_update")
@DTYPES
@pytest.mark.parametrize("number", [1, 2, 1000])
def test_adam(backend, number, dtype):
    settings = {"lr": LR, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7, "weight_decay": WD}

    def step(w, m, v, g):
        g += WD * w
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        corrected = v / (1 - 0.999**number)
        return w - LR * m / (1 - 0.9**number) / (math.sqrt(corrected) + 1e-7), m, v

    for size in SIZES:
        w, m, v, g = buffers(4, size, dtype)
        v = np.abs(v)
        expected = elementwise(step, w, m, v, g)
        ours = backend.update(p.adam_update, w, m, v, g, step=number, **settings)
        for a, b in zip(ours, expected):
            assert_close(a, b, size, ulps=64)
        np.testing.assert_array_equal(ours[3], g)


@pytest.mark.primitives("rmsprop_update")
@DTYPES
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_rmsprop(backend, momentum, dtype):
    settings = {
        "lr": LR, "rho": 0.9, "epsilon": 1e-3, "momentum": momentum, "weight_decay": WD,
    }  # fmt: skip

    def step(w, a, v, g):
        g += WD * w
        a = 0.9 * a + 0.1 * g * g
        v = momentum * v - LR * g / (math.sqrt(a) + 1e-3)
        return w + v, a, v

    for size in SIZES:
        w, a, v, g = buffers(4, size, dtype)
        a = np.abs(a)
        expected = elementwise(step, w, a, v, g)
        ours = backend.update(p.rmsprop_update, w, a, v if momentum else None, g, **settings)
        assert_close(ours[0], expected[0], size, ulps=64)
        assert_close(ours[1], expected[1], size)
        if momentum:
            assert_close(ours[2], expected[2], size, ulps=64)


@pytest.mark.primitives("adagrad_update")
@DTYPES
def test_adagrad(backend, dtype):
    def step(w, a, g):
        g += WD * w
        return w - LR * g / (math.sqrt(a + g * g) + 1e-7), a + g * g

    for size in SIZES:
        w, a, g = buffers(3, size, dtype)
        a = np.abs(a)
        expected = elementwise(step, w, a, g)
        ours = backend.update(p.adagrad_update, w, a, g, lr=LR, epsilon=1e-7, weight_decay=WD)
        assert_close(ours[0], expected[0], size, ulps=64)
        assert_close(ours[1], expected[1], size)


@pytest.mark.primitives("sgd_update", "adam_update", "rmsprop_update", "adagrad_update")
def test_a_slice_of_a_buffer_is_updated_where_it_lies(backend):
    """Layers are views of one flat buffer: nothing beside the view may change."""
    buffer = np.zeros(300, np.float32)
    here = backend._put(buffer)
    w, g = here[100:201], backend._put(np.ones(101, np.float32))
    assert p.sgd_update(w, None, g, lr=1.0, momentum=0.0, weight_decay=0.0, nesterov=False) is None
    after = backend._get(here)
    np.testing.assert_array_equal(after[100:201], -np.ones(101))
    assert not after[:100].any()
    assert not after[201:].any()

"""Batch norm's two stages: parts of any number and size, the same bits in whatever order."""

from __future__ import annotations

import numpy as np
import pytest
from backend.cases import assert_close, values

from gpukit import primitives as p
from gpukit.backends.cuda.normalisation import batch_norm
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem

needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())


@pytest.mark.parametrize("rows", [1, 7, 64, 65, 4097, 401_408, 12_845_056])
@pytest.mark.parametrize("columns", [1, 3, 32, 33, 64, 2048])
def test_parts(rows, columns):
    parts, each, lanes = batch_norm.parts_of(rows, columns)
    assert (parts - 1) * each < rows <= parts * each
    assert parts <= batch_norm.MOST_PARTS
    assert lanes == min(32, 1 << (columns - 1).bit_length())
    assert each >= 256 // lanes * batch_norm.TOGETHER


def everything(x, gy, gamma, beta) -> list[np.ndarray]:
    """All that the training passes give, on emu."""
    here = [get_device("emu").asarray(a) for a in (x, gy, gamma, beta)]
    y, mean, variance = p.batch_norm(here[0], here[2], here[3], epsilon=1e-3)
    back = p.batch_norm_grad(here[1], here[0], here[2], mean, variance, epsilon=1e-3)
    return [to_host(a) for a in (y, mean, variance, *back)]


@needs_compiler
@pytest.mark.parametrize("columns", [3, 40])
@pytest.mark.parametrize("most", [1, 2, 7, 256])
def test_any_number_of_parts(monkeypatch, most, columns):
    """Parts whose last one is short, threads without a row: against float64."""
    monkeypatch.setattr(batch_norm, "MOST_PARTS", most)
    rows = 1601
    x, gy = values((rows, columns), 1, np.float64) + 5, values((rows, columns), 2, np.float64)
    gamma, beta = values((columns,), 3, np.float64), values((columns,), 4, np.float64)
    y, mean, variance, gx, ggamma, gbeta = everything(x, gy, gamma, beta)
    exact = p.batch_norm.reference(x, gamma, beta, epsilon=1e-3)
    for ours, theirs in zip((y, mean, variance), exact):
        assert_close(ours, theirs)
    back = p.batch_norm_grad.reference(gy, x, gamma, *exact[1:], epsilon=1e-3)
    for ours, theirs in zip((gx, ggamma, gbeta), back):
        assert_close(ours, theirs)


@needs_compiler
def test_same_bits_in_every_order(monkeypatch):
    shapes = [(3000, 5), (3000, 5), (5,), (5,)]
    arrays = [values(shape, i, np.float32) for i, shape in enumerate(shapes)]
    results = []
    for seed in ("0", "1", "5"):
        monkeypatch.setenv("GPUKIT_EMU_SEED", seed)
        results.append([a.tobytes() for a in everything(*arrays)])
    assert results[0] == results[1] == results[2]


@needs_compiler
def test_variance_far_from_zero():
    """Mean 10,000, deviation 0.1: float32 has three digits of it left, E[x²] - E[x]² has none."""
    x = (10_000 + 0.1 * values((20_000, 2), 1, np.float64)).astype(np.float32)
    ones = np.ones(2, np.float32)
    _, mean, variance, *_ = everything(x, x, ones, ones)
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mean, wide.mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(variance, wide.var(axis=0), rtol=5e-5)


@needs_compiler
def test_one_row_has_no_variance():
    x = np.array([[3e10, -1.5, 0.0]], np.float32)
    ones = np.ones(3, np.float32)
    y, mean, variance, *_ = everything(x, x, ones, ones)
    np.testing.assert_array_equal(mean, x[0])
    np.testing.assert_array_equal(variance, np.zeros(3))
    np.testing.assert_array_equal(y, np.ones((1, 3)))

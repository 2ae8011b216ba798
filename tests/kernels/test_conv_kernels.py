"""Every tile, split and panel of convolution and GEMM, whatever the shape would choose.

The primitives' own tests run on emu with the choices that launchers make for small shapes; here the
choices are forced. Whole numbers, so results are exact, against the definition.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from backend.cases import ConvCase, conv_case, values

from gpukit.backends import reference as p
from gpukit.backends.cuda import conv, conv_implicit, gemm, im2col
from gpukit.backends.emulator import compiler_problem
from gpukit.device import get_device, to_host

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ALGOS = pytest.mark.parametrize("algo", ["direct", "im2col", "implicit"])
TILES = pytest.mark.parametrize("tile", [gemm.LARGE, gemm.SQUARE, gemm.SLIM], ids=str)


def on_emu(primitive, *arrays, **settings):
    """The primitive's result on emu, of NumPy arrays."""
    device = get_device("emu")
    here = [a if a is None else device.asarray(a) for a in arrays]
    return to_host(primitive(*here, **settings))


def choose(monkeypatch, tile) -> None:
    """Take `tile` wherever it fits: 128×128 is made for float32 only."""

    def chosen(m, n, batch, itemsize, packed):
        return gemm.SQUARE if tile == gemm.LARGE and itemsize == 8 else tile

    monkeypatch.setattr(gemm, "choose_tile", chosen)
    monkeypatch.setattr(conv, "choose_tile", chosen)
    monkeypatch.setattr(conv_implicit, "choose_tile", chosen)


def wide_case(seed: int) -> ConvCase:
    """A convolution with more channels and filters a group than the narrow kernels take."""
    case, pick = conv_case(seed, most=9), random.Random(seed)
    groups = pick.choice([1, 1, 2, 3])
    depth, filters = pick.choice([1, 3, 4, 6, 8, 20]), pick.choice([5, 8, 12, 17, 20])
    return case._replace(
        x=(*case.x[:3], groups * depth),
        w=(*case.w[:2], depth, groups * filters),
        settings=case.settings | {"groups": groups},
    )


def check(case: ConvCase, dtype, algo: str) -> None:
    """All passes of a case against the definition."""
    x, w = case.array(case.x, 1, dtype, True), case.array(case.w, 2, dtype, True)
    b = case.array(case.w[3:], 3, dtype, True) if case.bias else None
    y = p.conv2d(x, w, b, algo="reference", **case.settings)
    gy = case.array(y.shape, 4, dtype, True)
    shapes = {"input_shape": case.x}, {"kernel_shape": case.w}
    gx = p.conv2d_input_grad(gy, w, algo="reference", **shapes[0], **case.settings)
    gw = p.conv2d_weight_grad(x, gy, algo="reference", **shapes[1], **case.settings)
    same, settings = np.testing.assert_array_equal, {"algo": algo, **case.settings}
    same(on_emu(p.conv2d, x, w, b, **settings), y, str(case))
    same(on_emu(p.conv2d_input_grad, gy, w, **shapes[0], **settings), gx, str(case))
    same(on_emu(p.conv2d_weight_grad, x, gy, **shapes[1], **settings), gw, str(case))


@DTYPES
@TILES
@ALGOS
def test_every_tile(monkeypatch, algo, tile, dtype):
    choose(monkeypatch, tile)
    monkeypatch.setattr(conv, "_NARROW", 0)
    for seed in range(12):
        check(wide_case(seed), dtype, algo)
    for seed in range(6):
        check(conv_case(seed, most=7), dtype, algo)


@DTYPES
@ALGOS
def test_more_than_a_tile_each_way(monkeypatch, algo, dtype):
    """150 columns, 12·13 pixels, strides that leave phases of unequal size, some without a tap."""
    settings = {
        "stride": (2, 3),
        "padding": ((1, 2), (0, 3)),
        "dilation": (2, 1),
        "groups": 1,
    }
    case = ConvCase(1, (2, 23, 31, 72), (3, 2, 72, 148), settings, True)
    choose(monkeypatch, gemm.LARGE)
    check(case, dtype, algo)


@DTYPES
@ALGOS
@pytest.mark.parametrize("narrow", [0, 4], ids=["tiles", "narrow"])
def test_sums_in_parts(monkeypatch, algo, narrow, dtype):
    """Ranges of a few pixels and of a few channels, panels of one image, the last range short."""
    monkeypatch.setattr(gemm, "_SHORTEST", 16)
    monkeypatch.setattr(im2col, "PANEL_BYTES", 1)
    monkeypatch.setattr(conv, "_NARROW", narrow)
    for seed in range(8):
        check(wide_case(seed), dtype, algo)
        check(conv_case(seed), dtype, algo)


@DTYPES
@ALGOS
def test_views_that_begin_anywhere(algo, dtype):
    """Weights inside a flat buffer lie at odd addresses: no packs of 16 bytes there."""
    settings = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    device, shape = get_device("emu"), (3, 3, 8, 8)
    x, flat = values((2, 6, 5, 8), 1, dtype, True), values((577,), 2, dtype, True)
    w = device.asarray(flat)[1:].reshape(shape)
    y = p.conv2d(device.asarray(x), w, algo=algo, **settings)
    exact = p.conv2d(x, flat[1:].reshape(shape), algo="reference", **settings)
    np.testing.assert_array_equal(to_host(y), exact)


@DTYPES
@TILES
def test_products_in_every_transposition(monkeypatch, tile, dtype):
    choose(monkeypatch, tile)
    for i, (m, n, k) in enumerate([(1, 1, 1), (129, 131, 33), (64, 8, 40), (7, 130, 5), (8, 8, 0)]):
        a, b = values((m, k), i, dtype, True), values((k, n), 50 + i, dtype, True)
        exact = a @ b
        for result in (
            on_emu(p.matmul, a, b),
            on_emu(p.dense_input_grad, a, b.T.copy()),
            on_emu(p.dense_weight_grad, a.T.copy(), b),
        ):
            np.testing.assert_array_equal(result, exact, str((m, n, k)))


def test_split_products_are_the_same_bits_every_run():
    a, b = values((30, 4000), 1, np.float32), values((4000, 20), 2, np.float32)
    bias = values((20,), 3, np.float32)
    splits = gemm.choose_splits(gemm.tiles(30, 20, gemm.SLIM), 4000, 2400)
    assert splits.parts > 8
    first = on_emu(p.dense, a, b, bias, activation="tanh")
    np.testing.assert_array_equal(on_emu(p.dense, a, b, bias, activation="tanh"), first)
    exact = np.tanh(a.astype(np.float64) @ b.astype(np.float64) + bias)
    np.testing.assert_allclose(first, exact, atol=2e-4)


def test_bias_gradient_in_two_passes():
    gy = values((70_001, 5), 1, np.float32, True)
    np.testing.assert_array_equal(on_emu(p.bias_grad, gy), gy.sum(axis=0))
    gy = values((300, 77), 2, np.float64, True)
    np.testing.assert_array_equal(on_emu(p.bias_grad, gy), gy.sum(axis=0))

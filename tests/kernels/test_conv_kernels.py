"""Every tile, split and panel of convolution and GEMM, whatever the shape would choose.

The primitives' own tests run on emu with the choices that launchers make for small shapes; here the
choices are forced. Whole numbers, so results are exact, against the definition.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from backend.cases import TIMES, ConvCase, assert_sums_close, conv_case, values

from gpukit import primitives as p
from gpukit.backends.cuda.conv import choice as conv
from gpukit.backends.cuda.conv import first as conv_first
from gpukit.backends.cuda.conv import im2col
from gpukit.backends.cuda.conv import implicit as conv_implicit
from gpukit.backends.cuda.conv.shape import ConvShape
from gpukit.backends.cuda.linear import gemm
from gpukit.backends.cuda.runtime import tiling
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.primitives import Conv

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ALGOS = pytest.mark.parametrize("algo", ["direct", "im2col", "implicit"])
TILES = pytest.mark.parametrize("tile", tiling.TILES, ids=lambda tile: f"{tile.m}x{tile.n}")


def on_emu(primitive, *arrays, **settings):
    """The primitive's result on emu, of NumPy arrays."""
    device = get_device("emu")
    here = [a if a is None else device.asarray(a) for a in arrays]
    return to_host(primitive(*here, **settings))


def choose(monkeypatch, tile) -> None:
    """Take `tile` wherever it fits: 8×8 sums are made for float32 in packs only."""

    def chosen(m, n, batch, k, itemsize, packed, most=tiling.MOST_DEEP, built=tiling.BUILT):
        fits = tile not in tiling.EIGHTS or (itemsize == 4 and packed)
        one = tile if fits and tile in dict(built) else tiling.SQUARE
        return tiling.plan(m, n, batch, k, 4, True, most, ((one, 2),))

    for module in (gemm, conv, conv_implicit):
        monkeypatch.setattr(module, "plan", chosen)


def wide_case(seed: int) -> ConvCase:
    """A convolution with more channels and filters a group than the narrow kernels take."""
    case, pick = conv_case(seed, most=9), random.Random(seed)
    groups = pick.choice([1, 1, 2, 3])
    depth, filters = pick.choice([1, 3, 4, 6, 8, 20]), pick.choice([5, 8, 12, 17, 20])
    return case._replace(
        x=(*case.x[:3], groups * depth),
        w=(*case.w[:2], depth, groups * filters),
        settings={"conv": case.settings["conv"]._replace(groups=groups)},
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
    if algo in p.conv2d_input_grad.implementations("emu"):
        same(on_emu(p.conv2d_input_grad, gy, w, **shapes[0], **settings), gx, str(case))
    same(on_emu(p.conv2d_weight_grad, x, gy, **shapes[1], **settings), gw, str(case))


@DTYPES
@TILES
@ALGOS
def test_every_tile(monkeypatch, algo, tile, dtype):
    choose(monkeypatch, tile)
    monkeypatch.setattr(conv, "_NARROW", 0)
    for seed in range(5 * TIMES):
        check(wide_case(seed), dtype, algo)
    for seed in range(3 * TIMES):
        check(conv_case(seed, most=7), dtype, algo)


@DTYPES
@ALGOS
def test_more_than_a_tile_each_way(monkeypatch, algo, dtype):
    """150 columns, 12·13 pixels, strides that leave phases of unequal size, some without a tap."""
    settings = {"conv": Conv(stride=(2, 3), padding=((1, 2), (0, 3)), dilation=(2, 1))}
    case = ConvCase(1, (2, 23, 31, 72), (3, 2, 72, 148), settings, True)
    choose(monkeypatch, tiling.LARGE)
    check(case, dtype, algo)


@DTYPES
@ALGOS
@pytest.mark.parametrize("narrow", [0, 4], ids=["tiles", "narrow"])
def test_sums_in_parts(monkeypatch, algo, narrow, dtype):
    """Ranges of a few pixels and of a few channels, panels of one image, the last range short."""
    monkeypatch.setattr(tiling, "SHORTEST", 16)
    for module in (gemm, conv, conv_implicit):
        monkeypatch.setattr(module, "plan", tiling.plan.__wrapped__)  # keeps nothing
    monkeypatch.setattr(conv, "split", tiling.split.__wrapped__)
    monkeypatch.setattr(im2col, "PANEL_BYTES", 1)
    monkeypatch.setattr(conv, "_NARROW", narrow)
    for seed in range(8):
        check(wide_case(seed), dtype, algo)
        check(conv_case(seed), dtype, algo)


@DTYPES
@pytest.mark.parametrize(
    ("depth", "filters", "groups"),
    [(3, 64, 1), (4, 36, 1), (64, 4, 1), (4, 4, 9), (2, 2, 5), (3, 21, 2), (20, 3, 2), (1, 1, 3)],
)
def test_few_channels_or_filters_a_group(depth, filters, groups, dtype):
    """Packs of filters and of channels, and none; one lane a pixel, and eight with uneven turns."""
    conv = Conv(stride=(1, 2), padding=((1, 0), (2, 1)), dilation=(2, 1), groups=groups)
    x, w = (3, 7, 9, groups * depth), (2, 3, depth, groups * filters)
    check(ConvCase(1, x, w, {"conv": conv}, True), dtype, "direct")


@ALGOS
def test_no_filters(algo):
    settings = {"conv": Conv()}
    check(ConvCase(0, (1, 3, 3, 2), (1, 1, 2, 0), settings, False), np.float32, algo)


@DTYPES
@ALGOS
def test_views_that_begin_anywhere(algo, dtype):
    """Weights inside a flat buffer lie at odd addresses: no packs of 16 bytes there."""
    settings = {"conv": Conv(padding=((1, 1), (1, 1)))}
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
    _, splits, _ = tiling.plan(30, 20, 1, 4000, 4, True)
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


FIRST = [  # x, w, stride, padding: conv1 of AlexNet and of others, and awkward ones
    ((2, 39, 31, 3), (11, 11, 3, 96), (4, 4), ((0, 0), (0, 0))),
    ((1, 30, 47, 3), (11, 11, 3, 48), (4, 4), ((2, 1), (0, 3))),
    ((2, 17, 20, 3), (7, 7, 3, 64), (2, 2), ((3, 3), (3, 2))),
    ((1, 9, 11, 1), (3, 5, 1, 33), (1, 1), ((1, 1), (2, 2))),
    ((3, 10, 9, 4), (3, 3, 4, 130), (3, 1), ((0, 0), (0, 0))),
    ((2, 1, 1, 2), (1, 1, 2, 25), (1, 1), ((0, 0), (0, 0))),
    ((1, 14, 40, 2), (2, 3, 2, 24), (5, 7), ((0, 1), (2, 0))),
    ((0, 11, 11, 3), (11, 11, 3, 96), (4, 4), ((0, 0), (0, 0))),
]


def first_case(number: int) -> ConvCase:
    x, w, stride, padding = FIRST[number]
    settings = {"conv": Conv(stride=stride, padding=padding)}
    return ConvCase(number, x, w, settings, number % 2 == 0)


@DTYPES
@pytest.mark.parametrize("tile", conv_first.TILES, ids=str)
def test_images_in_every_tile(monkeypatch, tile, dtype):
    """Forward and weight gradient of first layers, whatever tile the shape would choose."""
    monkeypatch.setattr(conv_first, "TILES", (tile,))
    for number in range(len(FIRST)):
        case = first_case(number)
        if conv_first.forward_tile(ConvShape(case.x, case.w, **case.settings), dtype().itemsize):
            check(case, dtype, "first")


@pytest.mark.parametrize("number", range(len(FIRST)))
def test_images_take_their_own_kernel(number):
    """Each of these shapes fits, so it is the default."""
    case, device = first_case(number), get_device("emu")
    x, w = (device.asarray(case.array(shape, 1, np.float32)) for shape in (case.x, case.w))
    y = p.conv2d(x, w, None, **case.settings)
    for primitive, arrays, settings in (
        (p.conv2d, (x, w), case.settings),
        (p.conv2d_weight_grad, (x, y), case.settings | {"kernel_shape": case.w}),
    ):
        assert primitive.choose(device, None, arrays, settings).name == "first"


@pytest.mark.parametrize(
    ("x", "w", "changed"),
    [
        ((1, 9, 9, 5), (3, 3, 5, 32), {}),
        ((1, 9, 9, 3), (3, 3, 3, 16), {}),
        ((1, 9, 9, 4), (3, 3, 2, 32), {"groups": 2}),
        ((1, 9, 9, 3), (3, 3, 3, 32), {"dilation": (1, 2)}),
        ((1, 99, 199, 4), (31, 99, 4, 32), {}),
    ],
)
def test_what_is_no_first_layer_goes_another_way(x, w, changed):
    settings = {"conv": Conv(stride=(2, 2), **changed)}
    arrays = np.zeros(x, np.float32), np.zeros(w, np.float32)
    chosen = p.conv2d.choose(get_device("emu"), None, arrays, settings)
    assert chosen.name in ("depthwise", "implicit", "direct")


@DTYPES
@pytest.mark.parametrize("activation", [None, "relu", "sigmoid", "tanh"])
def test_images_with_an_activation(activation, dtype):
    case = first_case(0)
    x, w, b = (case.array(s, i, dtype) for i, s in enumerate((case.x, case.w, case.w[3:])))
    settings = case.settings | {"activation": activation}
    y = on_emu(p.conv2d, x, w, b, algo="first", **settings)
    exact = p.conv2d.reference(*(a.astype(np.float64) for a in (x, w, b)), **settings)
    bound = 1e-10 if dtype == np.float64 else 2e-4
    np.testing.assert_allclose(y, exact, rtol=bound, atol=bound)


@DTYPES
def test_images_summed_in_ranges(monkeypatch, dtype):
    """A block for each tile of pixels, or one for all; the same bits run after run."""
    case = first_case(0)
    x = case.array(case.x, 1, dtype)
    gy = case.array(ConvShape(case.x, case.w, **case.settings).y, 2, dtype)
    settings = case.settings | {"kernel_shape": case.w, "algo": "first"}
    wide = (a.astype(np.float64) for a in (x, gy))
    exact = p.conv2d_weight_grad(*wide, **settings | {"algo": "reference"})
    for shortest in (10_000, 96, 1):
        monkeypatch.setattr(tiling, "SHORTEST", shortest)
        monkeypatch.setattr(conv_first, "split", tiling.split.__wrapped__)  # keeps nothing
        gw = on_emu(p.conv2d_weight_grad, x, gy, **settings)
        assert_sums_close(gw, exact, gy[..., 0].size, shortest)
        np.testing.assert_array_equal(gw, on_emu(p.conv2d_weight_grad, x, gy, **settings))


@DTYPES
def test_images_that_begin_anywhere(dtype):
    """Strided images, weights and gradients at odd addresses."""
    case, device = first_case(2), get_device("emu")
    x = case.array(case.x[::-1], 1, dtype, True).transpose()
    flat = case.array((7 * 7 * 3 * 64 + 1,), 2, dtype, True)
    w = flat[1:].reshape(case.w)
    y = p.conv2d(
        device.wrap(x), device.asarray(flat)[1:].reshape(case.w), algo="first", **case.settings
    )
    exact = p.conv2d.reference(x, w, **case.settings)
    np.testing.assert_array_equal(to_host(y), exact)
    gw = on_emu(p.conv2d_weight_grad, x, exact, kernel_shape=case.w, algo="first", **case.settings)
    expected = p.conv2d_weight_grad.reference(x, exact, kernel_shape=case.w, **case.settings)
    np.testing.assert_array_equal(gw, expected)

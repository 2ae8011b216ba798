"""Depthwise kernels: each instance, in packs and one by one, exactly; and what is the default."""

from __future__ import annotations

import numpy as np
import pytest
from backend.cases import ConvCase, values
from kernels.test_conv_kernels import check

from gpukit import primitives as p
from gpukit.backends.cuda.conv import depthwise as conv_depthwise
from gpukit.backends.cuda.runtime import tiling
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.primitives import Conv

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def case(channels, each=1, image=(9, 11), taps=(3, 3), stride=(1, 1), dilation=(1, 1), n=2):
    """`each` filters for each of `channels`, padded by 1 above, 2 below, 0 left, 1 right."""
    conv = Conv(stride=stride, padding=((1, 2), (0, 1)), dilation=dilation, groups=channels)
    x, w = (n, *image, channels), (*taps, 1, channels * each)
    return ConvCase(sum((*x, *w, *stride)), x, w, {"conv": conv}, True)


@DTYPES
@pytest.mark.parametrize("taps", [(3, 3), (1, 3), (5, 5), (2, 4), (4, 1)], ids=str)
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (1, 2), (3, 3)], ids=str)
def test_packs(taps, stride, dtype):
    check(case(8, taps=taps, stride=stride), dtype, "depthwise")


@DTYPES
@pytest.mark.parametrize("channels, each", [(5, 1), (1, 1), (3, 2), (1, 7), (4, 3)])
def test_filters_one_by_one(channels, each, dtype):
    check(case(channels, each), dtype, "depthwise")
    check(case(channels, each, taps=(2, 3), stride=(2, 3), dilation=(3, 2)), dtype, "depthwise")


@DTYPES
def test_dilated_packs(dtype):
    check(case(4, dilation=(2, 3)), dtype, "depthwise")
    check(case(8, taps=(3, 5), dilation=(3, 1)), dtype, "depthwise")


@DTYPES
def test_padding_beyond_the_taps(dtype):
    """Turned around, the taps begin inside gy: the padding of the flipped pass is negative."""
    settings = {"conv": Conv(padding=((4, 3), (5, 4)), groups=4)}
    check(ConvCase(1, (1, 3, 2, 4), (3, 3, 1, 4), settings, False), dtype, "depthwise")


@DTYPES
def test_many_channels_rows_and_splits(monkeypatch, dtype):
    """More packs than lanes, more rows than turns, sums in parts, the last range short."""
    monkeypatch.setattr(tiling, "SHORTEST", 16)
    monkeypatch.setattr(conv_depthwise, "split", tiling.split.__wrapped__)  # keeps nothing
    check(case(152, image=(13, 6), n=3), dtype, "depthwise")
    check(case(70, 2, image=(7, 5), taps=(4, 4), n=5), dtype, "depthwise")


def test_more_images_than_blocks_across(monkeypatch):
    monkeypatch.setattr(conv_depthwise, "_MOST_ACROSS", 2)
    check(case(4, n=5), np.float32, "depthwise")
    check(case(3, n=5, stride=(2, 2)), np.float32, "depthwise")


@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activation_in_passing(activation):
    x, w, b = (values(s, 1, np.float64) for s in [(1, 5, 6, 4), (3, 3, 1, 4), (4,)])
    settings = case(4).settings
    emu = get_device("emu")
    y = p.conv2d(
        *(emu.asarray(a) for a in (x, w, b)), algo="depthwise", activation=activation, **settings
    )
    exact = p.conv2d.reference(x, w, b, activation=activation, **settings)
    np.testing.assert_allclose(to_host(y), exact, rtol=1e-12, atol=1e-13)


def test_weights_that_begin_anywhere():
    emu, flat = get_device("emu"), values((73,), 1, np.float32, True)
    x = values((1, 6, 5, 8), 2, np.float32, True)
    settings = case(8).settings
    w = emu.asarray(flat)[1:].reshape((3, 3, 1, 8))
    y = p.conv2d(emu.asarray(x), w, algo="depthwise", **settings)
    exact = p.conv2d.reference(x, flat[1:].reshape(3, 3, 1, 8), **settings)
    np.testing.assert_array_equal(to_host(y), exact)


def taken(primitive, x, w, groups=1, **settings) -> str:
    """The name of what emu computes a call by, without algo."""
    emu = get_device("emu")
    shapes = [emu.wrap(np.broadcast_to(np.float32(0), s)) for s in (x, w)]
    given = {"conv": Conv(padding=((1, 1), (1, 1)), groups=groups)}
    return primitive.choose(emu, None, tuple(shapes), given | settings).name


def test_what_is_the_default():
    assert taken(p.conv2d, (8, 56, 56, 32), (3, 3, 1, 32), groups=32) == "depthwise"
    assert taken(p.conv2d, (8, 56, 56, 32), (3, 3, 1, 128), groups=32) == "depthwise"
    assert taken(p.conv2d, (8, 56, 56, 32), (3, 3, 1, 256), groups=32) == "direct"
    assert taken(p.conv2d, (8, 56, 56, 1), (3, 3, 1, 64)) == "first"
    assert taken(p.conv2d, (8, 56, 56, 1), (3, 3, 1, 8)) == "direct"
    assert taken(p.conv2d, (8, 56, 56, 64), (3, 3, 64, 64)) == "direct"
    # 8 tiles for a whole card, sums of 4,608 products
    assert taken(p.conv2d, (1, 7, 7, 512), (3, 3, 512, 512)) == "implicit"
    assert taken(p.conv2d, (1, 7, 7, 16), (3, 3, 16, 512)) == "direct"  # short sums
    gy, shape = (1, 7, 7, 512), {"input_shape": (1, 7, 7, 512)}
    assert taken(p.conv2d_input_grad, gy, (3, 3, 512, 512), **shape) == "implicit"
    shape = {"kernel_shape": (3, 3, 512, 512)}
    assert taken(p.conv2d_weight_grad, (1, 7, 7, 512), gy, **shape) == "direct"

"""Convolutions and products of more than 2³¹ elements: runs of images, last blocks, refusals.

Memory is reserved and not filled, and only the ends of grids run: see test_large_arrays.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from backend.cases import values
from kernels.test_conv_kernels import check, wide_case
from kernels.test_large_arrays import emu as emu  # the fixture
from kernels.test_large_arrays import ends_of, reserved

from gpukit import primitives as p
from gpukit.backends.cuda.conv import depthwise as conv_depthwise
from gpukit.backends.cuda.conv import im2col
from gpukit.backends.cuda.conv import implicit as conv_implicit
from gpukit.backends.cuda.conv.shape import ConvShape
from gpukit.backends.cuda.linear import gemm
from gpukit.backends.cuda.loss.cuda_c import teams
from gpukit.backends.cuda.runtime import tiling
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.errors import ShapeError
from gpukit.primitives import Conv

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

PLAIN = {"conv": Conv()}
SPARSE = {"conv": Conv(stride=(8, 8))}  # one pixel of y for 64 of x
X = (3, 2**14, 2**15, 2)  # 3·2³⁰ elements
Y = (3, 2**11, 2**12, 5)
END = 64  # pixels of the last row of y


def runs_of(most):
    whole = ConvShape.runs
    return lambda self: whole(self, most)


@pytest.mark.parametrize("algo", ["direct", "implicit", "im2col"])
def test_runs_of_images_add_up(monkeypatch, algo):
    """Pixels beyond an int's are cut into runs; here beyond 60, an image or two a run."""
    monkeypatch.setattr(ConvShape, "runs", runs_of(60))
    monkeypatch.setattr(im2col, "MOST", 2**20)
    for seed in range(8):
        check(wide_case(seed), np.float32, algo)


def test_runs_of_depthwise_images(monkeypatch):
    monkeypatch.setattr(ConvShape, "runs", runs_of(60))
    x, gy = values((5, 6, 7, 4), 1, np.float32, True), values((5, 4, 5, 4), 2, np.float32, True)
    settings = {"conv": Conv(groups=4), "kernel_shape": (3, 3, 1, 4)}
    device = get_device("emu")
    gw = p.conv2d_weight_grad(device.asarray(x), device.asarray(gy), algo="depthwise", **settings)
    exact = p.conv2d_weight_grad.reference(x, gy, **settings)
    np.testing.assert_array_equal(to_host(gw), exact)


def test_runs_are_cut_by_pixels():
    def shape(*x):
        return ConvShape(x, (1, 1, 1, 1), Conv())

    assert shape(5, 2**15, 2**15, 1).runs() == [slice(i, i + 1) for i in range(5)]
    assert shape(5, 2, 2, 1).runs(9) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert shape(0, 2, 2, 1).runs() == []


@pytest.mark.parametrize("algo", ["direct", "implicit", "im2col"])
def test_forward_beyond(emu, monkeypatch, algo):
    x, w = reserved(X, np.float32), values((3, 3, 2, 5), 1, np.float32, True)
    x[-1, -8:, -8 * END :] = values((8, 8 * END, 2), 2, np.float32, True)
    monkeypatch.setattr(im2col, "PANEL_BYTES", 1)  # an image a panel
    y = to_host(ends_of(emu, lambda a, b: p.conv2d(a, b, algo=algo, **SPARSE), x, w))
    exact = p.conv2d.reference(x[-1:, -8:, -8 * END :], w, **SPARSE)
    last = 20  # pixels, as many as im2col's last two blocks fill
    np.testing.assert_array_equal(y[-1, -1, -last:], exact[0, 0, -last:])


@pytest.mark.parametrize("algo", ["direct", "implicit"])
def test_input_gradient_beyond(emu, algo):
    """Windows side by side: each pixel of x is seen by one, the last by tap (7, 7)."""
    gy, w = reserved(Y, np.float32), values((8, 8, 2, 5), 1, np.float32, True)
    gy[-1, -1, -END:] = values((END, 5), 2, np.float32, True)
    settings = SPARSE | {"input_shape": X}
    gx = ends_of(emu, lambda a, b: p.conv2d_input_grad(a, b, algo=algo, **settings), gy, w)
    pixels = to_host(gx)[-1, -1, 7 - 8 * 8 :: 8]  # of the last eight windows
    np.testing.assert_array_equal(pixels, gy[-1, -1, -8:] @ w[7, 7].T)


def test_weight_gradient_beyond(emu, monkeypatch):
    """Of all ranges of pixels the last one; what the others would have written is zeros."""
    monkeypatch.setattr(conv_implicit, "empty_like", lambda x, s: emu.zeros(s, x.dtype))
    monkeypatch.setattr(tiling, "LONGEST", 1024)
    monkeypatch.setattr(conv_implicit, "plan", tiling.plan.__wrapped__)  # keeps nothing
    x, gy = reserved(X, np.float32), reserved(Y, np.float32)
    x[-1, -8:, -8 * END :] = values((8, 8 * END, 2), 1, np.float32, True)
    gy[-1, -1, -END:] = values((END, 5), 2, np.float32, True)
    settings = SPARSE | {"kernel_shape": (8, 8, 2, 5)}
    gw = ends_of(emu, lambda a, b: p.conv2d_weight_grad(a, b, algo="implicit", **settings), x, gy)
    ends = x[-1:, -8:, -8 * END :], gy[-1:, -1:, -END:]
    exact = p.conv2d_weight_grad.reference(*ends, **settings)
    # A grid's last two blocks are the last rows (r, s, c) of the last range.
    np.testing.assert_array_equal(to_host(gw).reshape(128, 5)[-8:], exact.reshape(128, 5)[-8:])


def test_depthwise_beyond(emu, monkeypatch):
    """One image of 2³⁰ elements after the other: the last is reached by a block's loop."""
    monkeypatch.setattr(conv_depthwise, "_MOST_ACROSS", 1)
    settings = {"conv": Conv(groups=4)}
    x, w = reserved((3, 2**13, 2**15, 4), np.float32), values((3, 3, 1, 4), 1, np.float32, True)
    x[-1, -3:, -END:] = values((3, END, 4), 2, np.float32, True)
    y = to_host(ends_of(emu, lambda a, b: p.conv2d(a, b, algo="depthwise", **settings), x, w))
    exact = p.conv2d.reference(x[-1:, -3:, -END:], w, **settings)
    np.testing.assert_array_equal(y[-1, -1, -END + 2 :], exact[0, 0])


@pytest.mark.parametrize("turned", [False, True])
def test_dense_beyond(emu, turned):
    """(2²¹ + 3, 1024) · (1024, 8): the last rows begin beyond 2³¹."""
    a, b = reserved((2**21 + 3, 1024), np.float32), values((1024, 8), 1, np.float32, True)
    a[-3:] = values((3, 1024), 2, np.float32, True)
    y = ends_of(emu, p.dense_input_grad, a, b.T.copy()) if turned else ends_of(emu, p.dense, a, b)
    np.testing.assert_array_equal(to_host(y)[-3:], a[-3:] @ b)


@pytest.mark.parametrize("algo", ["direct", "implicit", "im2col"])
def test_one_image_beyond_is_refused(emu, algo):
    def convolve(x, w):
        p.conv2d(emu.wrap(reserved(x, np.float32)), emu.wrap(reserved(w, np.float32)), algo=algo,
                 **PLAIN)  # fmt: skip

    with pytest.raises(ShapeError, match=r"a padded image has 2147483648 elements, kernels count"):
        convolve((1, 2**16, 2**15, 1), (3, 3, 1, 1))
    with pytest.raises(ShapeError, match=r"an output image has .*cut the images, or use algo="):
        convolve((1, 2**14, 2**15, 1), (3, 3, 1, 8))
    with pytest.raises(ShapeError, match=r"the weights has .* elements"):
        convolve((1, 4, 4, 2**14), (4, 4, 2**14, 2**14))


def test_rows_and_columns_beyond_are_refused():
    one = get_device("emu").asarray(np.ones((1, 1), np.float32))
    with pytest.raises(ShapeError, match="beyond 2147418112; cut it into parts"):
        gemm.product(gemm.Operand(one, 1), gemm.Operand(one, 1), one, (2**31, 1, 1))
    for rows, classes in [(2**31, 1), (1, 2**31)]:
        with pytest.raises(ShapeError, match=r"softmax of .* count either to 2147418111; cut the"):
            teams(rows, classes)

"""cuBLAS's products, against a cuBLAS that counts columns first in NumPy, at the same addresses.

The stand-in takes CuPy's arguments (cupy_backends.cuda.libs.cublas) and reads and writes memory by
address and leading dimension, so that a swapped operand or a wrong distance shows in the numbers.
What only a card can show: that CuPy's real one takes these arguments.
"""

from __future__ import annotations

import ctypes
import sys
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from backend.cases import values

from gpukit import primitives as p
from gpukit.backends.cuda.conv import im2col
from gpukit.backends.cuda.conv.shape import ConvShape
from gpukit.backends.cuda.linear import cublas
from gpukit.backends.cuda.linear import dense as linear
from gpukit.backends.cuda.linear.gemm import Operand
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.errors import GpukitError, SettingError, ShapeError
from gpukit.primitives import Conv
from gpukit.verify.coverage import targets

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
EMULATED = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
HANDLE = 77


def columns_first(address, rows, columns, ld, dtype) -> np.ndarray:
    """The matrix that cuBLAS sees: element (i, j) at i + j·ld."""
    assert ld >= max(rows, 1)
    pointer = ctypes.cast(address, ctypes.POINTER(np.ctypeslib.as_ctypes_type(dtype)))
    flat = np.ctypeslib.as_array(pointer, ((columns - 1) * ld + rows,))
    return np.lib.stride_tricks.as_strided(
        flat, (rows, columns), (flat.itemsize, ld * flat.itemsize)
    )


class FakeCublas(ModuleType):
    """What gpukit uses of cupy_backends.cuda.libs.cublas; `log` lists calls and modes."""

    def __init__(self) -> None:
        super().__init__("cublas")
        self.log: list[tuple] = []
        self.math, self.pointers, self.fails = 2, 1, False

    def getMathMode(self, handle):
        assert handle == HANDLE
        return self.math

    def setMathMode(self, handle, mode):
        self.math = mode

    def getPointerMode(self, handle):
        return self.pointers

    def setPointerMode(self, handle, mode):
        self.pointers = mode

    def _one(self, dtype, ops, sizes, alpha, a, lda, b, ldb, beta, c, ldc):
        m, n, k = sizes
        left = columns_first(a, *((k, m) if ops[0] else (m, k)), lda, dtype)
        right = columns_first(b, *((n, k) if ops[1] else (k, n)), ldb, dtype)
        out = columns_first(c, m, n, ldc, dtype)
        scalars = [columns_first(s, 1, 1, 1, dtype)[0, 0] for s in (alpha, beta)]
        assert self.pointers == 0, "the scalars lie in the host's memory"
        total = (left.T if ops[0] else left) @ (right.T if ops[1] else right)
        out[:] = scalars[0] * total + (scalars[1] * out if scalars[1] else 0)

    def _gemm(self, dtype, handle, ta, tb, m, n, k, *rest):
        if self.fails:
            raise RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED")
        self.log.append(("gemm", np.dtype(dtype).name, self.math, (m, n, k)))
        self._one(dtype, (ta, tb), (m, n, k), *rest)

    def _batched(
        self, dtype, handle, ta, tb, m, n, k, alpha, a, lda, each_a, b, ldb, each_b, beta, c, ldc,
        each_c, count,
    ):  # fmt: skip
        self.log.append(("batched", np.dtype(dtype).name, self.math, (m, n, k), count))
        size = np.dtype(dtype).itemsize
        for i in range(count):
            self._one(
                dtype, (ta, tb), (m, n, k), alpha, a + i * each_a * size, lda,
                b + i * each_b * size, ldb, beta, c + i * each_c * size, ldc,
            )  # fmt: skip

    def sgemm(self, *arguments):
        self._gemm(np.float32, *arguments)

    def dgemm(self, *arguments):
        self._gemm(np.float64, *arguments)

    def sgemmStridedBatched(self, *arguments):
        self._batched(np.float32, *arguments)

    def dgemmStridedBatched(self, *arguments):
        self._batched(np.float64, *arguments)


@pytest.fixture
def fake(monkeypatch):
    """The stand-in in CuPy's place."""
    made = FakeCublas()

    @contextmanager
    def on_device(index):
        made.log.append(("device", index))
        yield

    device = SimpleNamespace(get_cublas_handle=lambda: HANDLE)
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=on_device, device=device))
    libraries = ModuleType("cupy_backends.cuda.libs")
    libraries.cublas = made
    for name in ("cupy_backends", "cupy_backends.cuda"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs", libraries)
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return made


def on_emu(*arrays):
    emu = get_device("emu")
    return [None if a is None else emu.asarray(a) for a in arrays]


@DTYPES
@pytest.mark.parametrize("sizes", [(3, 5, 7), (1, 1, 1), (8, 1, 6), (1, 9, 2)], ids=str)
def test_products_in_every_transposition(fake, sizes, dtype):
    m, n, k = sizes
    a, b = values((m, k), 1, dtype, True), values((k, n), 2, dtype, True)
    for turn_a in (False, True):
        for turn_b in (False, True):
            left, right = on_emu(a.T.copy() if turn_a else a, b.T.copy() if turn_b else b)
            c = linear.multiply(left, right, (m, n, k), turn_a, turn_b, by=cublas.product)
            np.testing.assert_array_equal(to_host(c), a @ b, str((turn_a, turn_b)))
    assert {entry[1:3] for entry in fake.log if entry[0] == "gemm"} == {(np.dtype(dtype).name, 0)}
    assert ("device", 0) in fake.log
    assert (fake.math, fake.pointers) == (2, 1), "the handle is left as it was"


def test_tf32_only_when_asked(fake):
    a = on_emu(values((4, 4), 1, np.float32))[0]
    linear.multiply(a, a, (4, 4, 4), by=cublas.product)
    linear.multiply(a, a, (4, 4, 4), by=lambda *x, **s: cublas.product(*x, mode=cublas.TF32, **s))
    assert [entry[2] for entry in fake.log if entry[0] == "gemm"] == [0, 3]


@EMULATED
@DTYPES
def test_bias_and_activation(fake, dtype):
    a, b, bias = (values(s, 1, dtype) for s in [(6, 5), (5, 7), (7,)])
    here = on_emu(a, b, bias)
    y = linear.multiply(*here[:2], (6, 7, 5), by=cublas.product, bias=here[2], activation="tanh")
    np.testing.assert_allclose(to_host(y), np.tanh(a @ b + bias), rtol=1e-5)
    empty = on_emu(np.ones((3, 0), dtype), np.ones((0, 7), dtype))
    y = linear.multiply(*empty, (3, 7, 0), by=cublas.product, bias=here[2], activation=None)
    np.testing.assert_array_equal(to_host(y), np.tile(bias, (3, 1)))


@EMULATED
@DTYPES
@pytest.mark.parametrize("groups, taps", [(1, (3, 2)), (3, (2, 3)), (2, (1, 1))])
def test_panels(fake, monkeypatch, groups, taps, dtype):
    """Groups in one call, rows of panels further apart than they are long, panels added up."""
    monkeypatch.setattr(im2col, "PANEL_BYTES", 1)
    pad = (0, 0) if taps == (1, 1) else (1, 1)
    settings = {"conv": Conv(padding=(pad, pad), groups=groups)}
    x, w = values((3, 5, 4, 6), 1, dtype, True), values((*taps, 6 // groups, 12), 2, dtype, True)
    b = values((12,), 3, dtype, True)
    shape = ConvShape(x.shape, w.shape, **settings)
    y = p.conv2d.reference(x, w, b, activation="relu", **settings)
    gy = values(y.shape, 4, dtype, True)
    here = dict(zip("xwbg", on_emu(x, w, b, gy)))
    ours = im2col.forward(here["x"], here["w"], here["b"], shape, "relu", cublas.product)
    np.testing.assert_array_equal(to_host(ours), y)
    gx = im2col.input_grad(here["g"], here["w"], shape, cublas.product)
    exact = p.conv2d_input_grad.reference(gy, w, input_shape=x.shape, **settings)
    np.testing.assert_array_equal(to_host(gx), exact)
    gw = im2col.weight_grad(here["x"], here["g"], shape, cublas.product)
    exact = p.conv2d_weight_grad.reference(x, gy, kernel_shape=w.shape, **settings)
    np.testing.assert_array_equal(to_host(gw), exact)
    assert {e[0] for e in fake.log} == {"device", "batched" if groups > 1 else "gemm"}


def test_its_errors_name_the_product(fake):
    fake.fails = True
    a = on_emu(values((2, 3), 1, np.float32))[0]
    with pytest.raises(GpukitError, match=r"m, n, k = \(2, 2, 3\).*float32: CUBLAS_STATUS"):
        linear.multiply(a, a, (2, 2, 3), transpose_b=True, by=cublas.product)
    assert (fake.math, fake.pointers) == (2, 1)
    out = on_emu(np.zeros((1, 1), np.float32))[0]
    with pytest.raises(ShapeError, match="cuBLAS counts to 2147483647; cut it"):
        cublas.product(Operand(a, 3), Operand(a, 3), out, (1, 1, 2**31))


def test_where_it_is_to_be_had():
    """On cards by name, never by default, and not on emu, whose checks leave it out."""
    names = {"dense", "dense_input_grad", "dense_weight_grad", "matmul"}
    names |= {"conv2d", "conv2d_input_grad", "conv2d_weight_grad"}
    from gpukit.dispatch.primitive import registry

    for name, primitive in registry.items():
        ways = primitive.implementations("cuda")
        assert ("cublas" in ways) == ("cublas_tf32" in ways) == (name in names)
        assert "cublas" not in primitive.implementations("emu")
    x, w = np.ones((2, 3), np.float32), np.ones((3, 2), np.float32)
    assert not p.dense.implementations("cuda")["cublas"].default_when(x, w)
    assert not p.dense.implementations("cuda")["cublas_tf32"].takes((x.astype(float), w), {})
    with pytest.raises(SettingError, match="needs a real card"):
        p.dense(*on_emu(x, w), algo="cublas")
    assert not [t for t in targets() if t.algo.startswith("cublas")]
    with pytest.raises(SettingError, match="only a card runs"):
        targets("dense:cublas")

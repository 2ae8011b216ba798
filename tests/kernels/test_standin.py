"""The stand-in for CuPy in tests/standin: its names are CuPy's, it refuses what CuPy refuses."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpukit.emulator import compiler_problem

STANDIN = Path(__file__).parents[1] / "standin"
SURFACE = json.loads((STANDIN / "cupy" / "surface.json").read_text(encoding="utf-8"))
ROOMS = ("cupy", "cupy_backends")

needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())


@pytest.fixture
def cupy(monkeypatch):
    """The stand-in as `import cupy` gives it for this test, with two cards."""
    monkeypatch.syspath_prepend(str(STANDIN))
    before = {n: m for n, m in sys.modules.items() if n.partition(".")[0] in ROOMS}
    for name in before:
        del sys.modules[name]
    for name in ("STANDIN_DEVICES", "STANDIN_ARCH", "STANDIN_PEER", "STANDIN_FTZ"):
        monkeypatch.delenv(name, raising=False)
    yield importlib.import_module("cupy")
    for name in [n for n in sys.modules if n.partition(".")[0] in ROOMS]:
        del sys.modules[name]
    sys.modules.update(before)


@pytest.fixture
def x(cupy):
    return cupy.asarray(np.arange(6, dtype=np.float32))


def installed() -> str:
    for name in ("cupy-cuda13x", "cupy-cuda12x"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return ""


@pytest.mark.skipif(
    installed() != SURFACE["cupy"],
    reason=f"surface.json is of CuPy {SURFACE['cupy']}, installed: {installed() or 'none'}",
)
def test_recorded_names_and_signatures_are_the_installed_cupys():
    done = subprocess.run(
        [sys.executable, str(STANDIN / "record.py"), "--check"],
        env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stand_in_has_no_name_or_parameter_of_its_own(cupy):
    cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
    compared = 0
    for module in (
        cupy, cupy.cuda, cupy.cuda.compiler, cupy.cuda.device, cupy.cuda.driver, cupy.cuda.nvrtc,
        cupy.cuda.runtime, cupy.lib.stride_tricks, cupy.random, cublas,
    ):  # fmt: skip
        own = {
            n for n, v in vars(module).items() if getattr(v, "__module__", "") == module.__name__
        }
        for name in sorted({*own, *getattr(module, "__all__", ())}):
            value, path = getattr(module, name), f"{module.__name__}.{name}"
            if name.startswith("_") or inspect.ismodule(value):
                continue
            if module is cublas and inspect.isclass(value):
                continue  # its error: the real module loads nowhere without cuBLAS
            assert path in SURFACE["names"], path
            compared += agrees(path, value)
            if inspect.isclass(value):
                for member, function in vars(value).items():
                    if member.startswith("_") or not inspect.isfunction(function):
                        continue
                    within = path.replace("cupy.cuda.device.Device", "cupy.cuda.Device")
                    assert f"{within}.{member}" in SURFACE["names"], f"{path}.{member}"
                    compared += agrees(f"{within}.{member}", function)
    assert compared > 60


def agrees(path: str, ours: object) -> bool:
    """Whether a signature was there to compare; AssertionError where it is another one."""
    text = SURFACE["names"][path]
    if not isinstance(text, str) or "*args" in text:
        return False
    if inspect.isclass(ours) and issubclass(ours, Exception):
        return False
    theirs = inspect.signature(eval(f"lambda {text[1:-1]}: None")).parameters
    mine = dict(inspect.signature(ours).parameters)  # type: ignore[arg-type]
    mine.pop("self", None)
    assert list(mine) == list(theirs), path
    for name, p in theirs.items():
        if p.default is not ...:
            assert mine[name].default == p.default, (path, name)
    return True


def test_constants_are_the_real_ones(cupy):
    for name in ("memcpyHostToDevice", "memcpyDeviceToHost", "memcpyDeviceToDevice"):
        assert getattr(cupy.cuda.runtime, name) == SURFACE["names"][f"cupy.cuda.runtime.{name}"]


HOST = np.ones(6, np.float32)
REFUSED = {
    "a NumPy operand": (lambda c, x: x + HOST, TypeError, "Unsupported type"),
    "a NumPy operand first": (lambda c, x: np.multiply(HOST, x), TypeError, "Unsupported type"),
    "one in a function": (lambda c, x: np.concatenate([x, HOST]), TypeError, "Unsupported type"),
    "one in an assignment": (lambda c, x: x.__setitem__(0, HOST[0:1]), TypeError, "Unsupported"),
    "implicit conversion": (lambda c, x: np.asarray(x), TypeError, "Implicit conversion"),
    "as an index": (lambda c, x: [1, 2, 3][x[0]], TypeError, "integers or slices"),
    "an argument that CuPy lacks": (lambda c, x: np.sum(x, where=True), TypeError, "where"),
    "where of a ufunc": (lambda c, x: np.add(x, x, where=True), TypeError, "Wrong arguments"),
    "a function that CuPy lacks": (lambda c, x: np.spacing(x), TypeError, "NotImplemented from"),
    "a name that CuPy lacks": (lambda c, x: c.relu, AttributeError, "CuPy .* has no cupy.relu"),
    "a method that CuPy lacks": (lambda c, x: x.tostring(), AttributeError, "no cupy.ndarray"),
    "reductions of other ufuncs": (lambda c, x: np.maximum.reduce(x), NotImplementedError, "max"),
    "types without a loop": (lambda c, x: np.bitwise_and(x, x), TypeError, "Wrong type"),
    "object arrays": (lambda c, x: c.asarray(np.array([None])), ValueError, "Unsupported dtype"),
    "no such card": (lambda c, x: c.cuda.Device(2), RuntimeError, "invalid device ordinal"),
    "astype's casting": (lambda c, x: x.astype("f8", casting="safe"), TypeError, "casting"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(cupy, x, what):
    call, error, words = REFUSED[what]
    with pytest.raises(error, match=words):
        call(cupy, x)


def test_taken(cupy, x):
    for made, wanted in (
        (np.add(x, 2), HOST * 0 + np.arange(6) + 2),
        (np.where(x > 3, x, 0.0), [0, 0, 0, 0, 4, 5]),
        (np.sum(x.reshape(2, 3), axis=1), [3, 12]),
        (x[np.array([1, 2])], [1, 2]),
        (np.float32(2) * x[::-1], 2 * np.arange(6)[::-1]),
        (np.stack([x, x])[1, 2:], [2, 3, 4, 5]),
    ):
        assert type(made) is cupy.ndarray
        assert made.dtype == np.float32
        np.testing.assert_array_equal(made.get(), wanted)
    assert np.sum(x).shape == ()
    assert not hasattr(x, "__index__")


def test_another_card_than_the_current_one_is_refused(cupy, x):
    with cupy.cuda.Device(1):
        y = cupy.zeros((6,), "float32")
        assert y.device == cupy.cuda.Device(1)
        with pytest.raises(ValueError, match=r"resides \(0\) is different from the current"):
            x + 1
        np.testing.assert_array_equal(x.reshape(2, 3).get(), np.arange(6).reshape(2, 3))
    with pytest.raises(ValueError, match=r"resides \(1\)"):
        x + y


def test_new_memory_is_not_zero(cupy):
    assert np.isnan(cupy.empty((5,), "float32").get()).all()
    assert np.isnan(np.empty_like(cupy.zeros((5,), "float64")).get()).all()
    assert cupy.empty((5,)).data.ptr % 512 == 0


def test_views_share_memory_and_stay_within_it(cupy, x):
    as_strided = cupy.lib.stride_tricks.as_strided
    x[1:3].fill(7)
    np.testing.assert_array_equal(as_strided(x, (3,), (8,)).get(), [0, 7, 4])
    with pytest.raises(RuntimeError, match="illegal memory access"):
        as_strided(x, (7,), (4,))


def streams(cupy):
    return [cupy.cuda.Stream(non_blocking=True) for _ in range(2)]


def test_work_on_two_streams_needs_an_event(cupy, x):
    one, other = streams(cupy)
    cupy.cuda.Device(0).synchronize()
    with one:
        y = x + 1
        written = one.record()
    with other, pytest.raises(RuntimeError, match=r"uses memory that stream 1 .* wrote"):
        y * 2
    other.wait_event(written)
    with other:
        z = y * 2
        read = other.record()
    with one:
        with pytest.raises(RuntimeError, match=r"uses memory that stream 2 .* reads"):
            y.fill(0)
        one.wait_event(read)
        y.fill(0)
    with other:
        np.testing.assert_array_equal(z.get(), 2 * (np.arange(6) + 1))


def test_the_host_s_waits_order_streams_too(cupy, x):
    one, other = streams(cupy)
    one.wait_event(cupy.cuda.Stream.null.record())
    with one:
        y = x + 1
    one.synchronize()
    with other:
        assert float(np.sum(y)) == 21


def test_the_null_stream_waits_for_blocking_streams(cupy, x):
    blocking = cupy.cuda.Stream()
    with blocking:
        y = x + 1
    assert float(np.sum(y)) == 21


def test_memory_that_a_stream_uses_must_be_kept(cupy):
    one, other = streams(cupy)
    with one:
        y = cupy.zeros((6,), "float32")
    other.wait_event(one.record())
    with other:
        z = y + 1
    del y
    with one, pytest.raises(RuntimeError, match="freed while stream 2 of cuda:0 uses it"):
        cupy.zeros((6,), "float32")
    other.synchronize()
    assert float(z[0]) == 1


def test_events_are_checked(cupy):
    event = cupy.cuda.Event()
    with pytest.raises(RuntimeError, match="nobody has recorded"):
        cupy.cuda.get_current_stream().wait_event(event)
    with cupy.cuda.Device(1), pytest.raises(RuntimeError, match="invalid resource handle"):
        event.record()
    event.record()
    assert [event.done, event.done] == [False, True]
    stream = cupy.cuda.Stream()
    with cupy.cuda.Device(1), pytest.raises(RuntimeError, match="does not match"), stream:
        pass


def test_copies_between_memories_are_checked(cupy, x):
    runtime = cupy.cuda.runtime
    pinned = cupy.cuda.alloc_pinned_memory(24)
    down, up = runtime.memcpyDeviceToHost, runtime.memcpyHostToDevice
    runtime.memcpyAsync(pinned.ptr, x.data.ptr, 24, down, 0)
    y = cupy.empty((6,), "float32")
    runtime.memcpyAsync(y.data.ptr, pinned.ptr, 24, up, 0)
    np.testing.assert_array_equal(y.get(), x.get())
    for error, arguments in {
        "invalid argument": (y.data.ptr, pinned.ptr, 24, down, 0),
        "illegal memory access": (y.data.ptr, pinned.ptr, 28, up, 0),
        "invalid resource handle": (y.data.ptr, pinned.ptr, 24, up, 12345),
    }.items():
        with pytest.raises(RuntimeError, match=error):
            runtime.memcpyAsync(*arguments)
    with cupy.cuda.Device(1), pytest.raises(RuntimeError, match="invalid argument"):
        runtime.memcpyAsync(y.data.ptr, pinned.ptr, 24, up, 0)
    with pytest.raises(RuntimeError, match="invalid argument"):
        runtime.memcpyPeerAsync(y.data.ptr, 1, x.data.ptr, 0, 24, 0)
    assert runtime.deviceCanAccessPeer(0, 1)
    runtime.deviceEnablePeerAccess(1)
    with pytest.raises(RuntimeError, match="already enabled"):
        runtime.deviceEnablePeerAccess(1)


def test_matrix_products_stay_within_their_memory(cupy):
    cublas = importlib.import_module("cupy_backends.cuda.libs.cublas")
    handle = cupy.cuda.device.get_cublas_handle()
    a, b = (np.random.default_rng(0).standard_normal((4, 4)).astype("f") for _ in range(2))
    on_card = [cupy.asarray(v) for v in (b, a, np.zeros_like(a))]
    right, left, out = (v.data.ptr for v in on_card)
    one, zero = np.ones((), "f"), np.zeros((), "f")

    def product(m=4, ld=4, handle=handle):
        numbers = (handle, 0, 0, m, 4, 4, one.ctypes.data)
        cublas.sgemm(*numbers, right, ld, left, 4, zero.ctypes.data, out, 4)
        return on_card[2].get()

    np.testing.assert_allclose(product(), a @ b, rtol=1e-5)
    cublas.setMathMode(handle, 3)
    assert 1e-5 < np.abs(product() - a @ b).max() < 1e-2
    for error, settings in {
        "leading dimension 3": {"ld": 3},
        "illegal memory access": {"ld": 5},
        "another card": {"handle": handle + 1},
    }.items():
        with pytest.raises(RuntimeError, match=error):
            product(**settings)


SOURCE = """
extern "C" __global__ void scale(const float* x, float* y, float factor, int n) {
    __shared__ float kept[16];
    for (int i = threadIdx.x; i < n; i += blockDim.x) {
        kept[i % 16] = x[i] * factor;
        y[i] = kept[i % 16];
    }
}
extern "C" __global__ void tiny(const float* x, float* y) {
    y[0] = x[0] / x[0];
    y[1] = sqrtf(x[0]);
    y[2] = x[0] > 0 ? 1.0f : 0.0f;
    y[3] = x[0] + x[0];
}
"""
ONE = ((1,), (1,))


def launched(cupy, x, *, grid=(1,), block=(1,), shared_mem=0, **changed):
    """`scale` by 2, with some arguments changed."""
    kernel = cupy.RawModule(code=SOURCE, options=("-std=c++17",)).get_function("scale")
    y = np.zeros_like(x)
    arguments = {"x": x, "y": y, "factor": np.float32(2), "n": np.int32(6), **changed}
    kernel(grid, block, tuple(arguments.values()), shared_mem=shared_mem)
    return y


@needs_compiler
def test_kernels_run(cupy, x):
    np.testing.assert_array_equal(launched(cupy, x).get(), 2 * np.arange(6))


@needs_compiler
def test_arrays_of_one_element_go_by_value(cupy, x):
    y = launched(cupy, x, factor=np.array([2], np.float32), n=np.array(6, np.int32))
    np.testing.assert_array_equal(y.get(), 2 * np.arange(6))


LAUNCHES = {
    "an array of two for a number": ({"n": np.zeros(2, np.int32)}, TypeError, "if of size one"),
    "an array of other numbers": ({"n": np.array([6])}, TypeError, "bytes of a int64"),
    "a Python float": ({"factor": 2.0}, TypeError, "bytes of a float64"),
    "an int of 8 bytes": ({"n": np.int64(6)}, TypeError, "bytes of a int64"),
    "an integer for a float": ({"factor": np.int32(2)}, TypeError, "bytes of a int32"),
    "an address for a number": ({"x": 12}, TypeError, "x is a pointer, got int"),
    "a NumPy array": ({"x": HOST}, TypeError, "x is a pointer, got ndarray"),
    "a list for the grid": ({"grid": [1]}, TypeError, "must be tuples"),
    "no block": ({"grid": (0,)}, RuntimeError, "invalid argument"),
    "a block of 1025": ({"block": (1025,)}, RuntimeError, "invalid argument"),
    "shared memory": ({"shared_mem": 48 << 10}, RuntimeError, "invalid argument"),
}


@needs_compiler
@pytest.mark.parametrize("what", LAUNCHES)
def test_launches_refused(cupy, x, what, monkeypatch):
    settings, error, words = LAUNCHES[what]
    # What NVRTC says of `scale`; another test asks it.
    monkeypatch.setattr(cupy._launch, "_static_shared", lambda code, name: 64)
    with pytest.raises(error, match=words):
        launched(cupy, **{"x": x, **settings})


@needs_compiler
def test_a_launch_is_of_the_current_card(cupy, x):
    kernel = cupy.RawKernel(SOURCE, "scale")
    y = np.zeros_like(x)
    with cupy.cuda.Device(1), pytest.raises(ValueError, match="array of card 0, the current"):
        kernel(*ONE, (x, y, np.float32(1), np.int32(6)))


def test_static_shared_memory_counts(cupy):
    pytest.importorskip("nvidia", reason="NVRTC's wheel is not installed")
    kernel = cupy.RawKernel(SOURCE, "scale")
    assert kernel.shared_size_bytes == 64
    kernel.max_dynamic_shared_size_bytes = (227 << 10) - 64
    with pytest.raises(RuntimeError, match="invalid argument"):
        kernel.max_dynamic_shared_size_bytes = 227 << 10


def test_options_are_a_tuple_that_nvrtc_knows(cupy):
    for options, error in ((["-std=c++17"], TypeError), (("-std=c++99",), ValueError)):
        with pytest.raises(error):
            cupy.RawModule(code=SOURCE, options=options)


@needs_compiler
def test_a_source_that_does_not_compile_says_so(cupy, x):
    kernel = cupy.RawKernel('extern "C" __global__ void f(float* x) { x = y; }', "f")
    with pytest.raises(cupy.cuda.compiler.CompileException, match="y"):
        kernel(*ONE, (x,))


@needs_compiler
@pytest.mark.parametrize("flush", [True, False])
def test_subnormals_are_zeros_as_in_cupys_kernels(cupy, monkeypatch, flush):
    monkeypatch.setattr(cupy._settings, "FLUSH", flush)
    x = cupy.asarray(np.array([1e-40], np.float32))
    y = cupy.zeros((4,), "float32")
    cupy.RawKernel(SOURCE, "tiny")(*ONE, (x, y))
    root = np.sqrt(x).get()[0]
    if flush:
        np.testing.assert_array_equal(y.get(), [np.nan, 0, 0, 0])
        assert root == 0
    else:
        tiny = np.float32(1e-40)
        np.testing.assert_array_equal(y.get(), [1, np.sqrt(tiny), 1, tiny + tiny])
        assert root == np.sqrt(np.float32(1e-40))
    # The switch is back where it was, and doubles are not the option's business.
    assert np.float32(1e-40) * np.float32(1) == np.float32(1e-40)
    assert np.sqrt(cupy.asarray(np.array([1e-310]))).get()[0] == np.sqrt(1e-310)

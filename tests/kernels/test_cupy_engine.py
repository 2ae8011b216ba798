"""The engine for cards, against a CuPy that only remembers what it was asked (no card needed)."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from gpukit.device import CudaDevice
from gpukit.errors import GpukitError
from gpukit.launch.cupy import CupyEngine
from gpukit.launch.engine import Call
from gpukit.launch.kernel import Kernel

FEATURES = Path(__file__).parent / "features.cu"


class CompileException(Exception):
    def get_message(self) -> str:
        return "line 1\nline 2"


class DriverError(Exception):
    pass


class RuntimeFailure(Exception):
    pass


class FakeCupy:
    """Just what CupyEngine uses; `log` lists what happened."""

    def __init__(self, capability: str = "86") -> None:
        self.log: list[tuple] = []
        self.compile_error = self.launch_error = False
        self.current = threading.local()  # as CUDA has it: a thread begins on card 0
        fake = self

        @contextmanager
        def on_device(index):
            before, fake.current.index = here(), index
            fake.log.append(("device", index))
            yield
            fake.current.index = before

        def here():
            return getattr(fake.current, "index", 0)

        def device(index):
            context = on_device(index)
            context.compute_capability = capability
            context.attributes = {"MaxSharedMemoryPerBlockOptin": 99 << 10}
            return context

        self.cuda = SimpleNamespace(
            Device=device,
            driver=SimpleNamespace(CUDADriverError=DriverError),
            runtime=SimpleNamespace(CUDARuntimeError=RuntimeFailure, getDevice=here),
            compiler=SimpleNamespace(CompileException=CompileException),
            get_current_stream=lambda: SimpleNamespace(
                synchronize=lambda: fake.log.append(("synchronize",))
            ),
        )

    def RawModule(self, *, code, options, name_expressions):
        self.log.append(("module", options, name_expressions, '#include "' in code))
        return SimpleNamespace(get_function=self._function)

    def _function(self, name):
        if self.compile_error:
            raise CompileException
        return FakeFunction(self, name, self.cuda.runtime.getDevice())


class FakeFunction:
    max_dynamic_shared_size_bytes = 0
    max_threads_per_block = 64
    shared_size_bytes = 40 << 10

    def __init__(self, cupy: FakeCupy, name: str, home: int) -> None:
        self.cupy = cupy
        self.name = name
        self.home = home

    def __call__(self, grid, block, arguments, *, shared_mem):
        assert self.cupy.cuda.runtime.getDevice() == self.home
        if self.cupy.launch_error:
            raise DriverError("CUDA_ERROR_ILLEGAL_ADDRESS")
        asked = self.max_dynamic_shared_size_bytes
        self.cupy.log.append(("launch", self.name, grid, block, arguments, shared_mem, asked))


KERNELS = {arch: Kernel(FEATURES, "sums", min_arch=arch) for arch in (75, 90)}


def call(x=None, shared=0, arch=75, index=1, block=(32, 1, 1)) -> Call:
    arguments = (x, x, np.int32(8))
    bound = KERNELS[arch].bind(T=np.float32)
    return Call(bound, CudaDevice(index), (2, 1, 1), block, arguments, shared)


@pytest.fixture
def cupy(monkeypatch):
    made = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", made)
    return made


def test_a_source_is_compiled_once_and_launched_on_its_device(cupy):
    engine, x = CupyEngine(), np.zeros(8, np.float32)
    for _ in range(2):
        engine.launch(call(x))
    kinds = [entry[0] for entry in cupy.log]
    assert kinds == ["device", "module", "launch", "device", "launch"]
    assert cupy.log[1] == ("module", ("-std=c++17",), ("sums<float>",), False)
    _, name, grid, block, arguments, shared, asked = cupy.log[2]
    assert (name, grid, block, shared, asked) == ("sums<float>", (2, 1, 1), (32, 1, 1), 0, 0)
    assert arguments[0] is x and arguments[2].dtype == np.int32


def test_a_card_that_is_current_is_not_made_so_again(cupy):
    engine, x = CupyEngine(), np.zeros(8, np.float32)
    engine.launch(call(x, index=0))
    with cupy.cuda.Device(1):
        engine.launch(call(x))
        engine.launch(call(x, index=0))
    kinds = [entry[:2] if entry[0] == "device" else entry[0] for entry in cupy.log]
    first, second = kinds[:2], kinds[2:]
    assert first == ["module", "launch"]
    assert second == [("device", 1), "module", "launch", ("device", 0), "launch"]


def test_threads_launch_on_cards_of_their_own(cupy):
    engine, x = CupyEngine(), np.zeros(8, np.float32)

    def many(index):
        with cupy.cuda.Device(index):
            for _ in range(50):  # a function of the other card would refuse to run
                engine.launch(call(x, index=index))
                engine.launch(call(x, index=1 - index))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(many, [0, 1, 0, 1]))
    assert sum(entry[0] == "launch" for entry in cupy.log) == 400


def test_null_pointers_are_64_bits_wide(cupy):
    CupyEngine().launch(call(None))
    null = cupy.log[-1][4][0]
    assert null == 0 and null.dtype == np.int64


@pytest.mark.parametrize(("shared", "asked"), [(0, 0), (8, 0), (12, 12), (59, 59)])
def test_shared_memory_beyond_48_kb_is_asked_for(cupy, shared, asked):
    """With the 40 KB of static shared memory of this kernel."""
    CupyEngine().launch(call(np.zeros(8, np.float32), shared=shared << 10))
    assert cupy.log[-1][5:] == (shared << 10, asked << 10)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"shared": 60 << 10}, r"40960 \+ 61440 bytes .*, cuda:1 has 101376 for a block: use less"),
        ({"block": (65, 1, 1)}, r"block \(65, 1, 1\) has 65 threads, the kernel is built for 64"),
    ],
)
def test_what_a_card_cannot_run_is_refused_before_it_is_launched(cupy, settings, words):
    with pytest.raises(
        GpukitError, match=rf"kernel sums<float> \(features.cu:\d+\): {words}"
    ) as one:
        CupyEngine().launch(call(np.zeros(8, np.float32), **settings))
    assert "launch" not in [entry[0] for entry in cupy.log]
    assert "\n" not in str(one.value)


def test_an_old_card_is_refused(cupy):
    with pytest.raises(GpukitError, match=r"sums<float> .*needs sm_90, cuda:1 is sm_86"):
        CupyEngine().launch(call(arch=90))


def test_the_compilers_log_is_whole(cupy):
    cupy.compile_error = True
    with pytest.raises(GpukitError, match=r"(?s)does not compile for sm_86:\nline 1\nline 2"):
        CupyEngine().launch(call())


def test_a_refused_launch_names_kernel_grid_and_shapes(cupy):
    cupy.launch_error = True
    with pytest.raises(GpukitError, match=r"cuda:1, grid \(2, 1, 1\).*ILLEGAL.*x \(8,\) float32"):
        CupyEngine().launch(call(np.zeros(8, np.float32)))


def test_gpukit_sync_waits_after_each_launch(cupy, monkeypatch):
    monkeypatch.setenv("GPUKIT_SYNC", "1")
    CupyEngine().launch(call(np.zeros(8, np.float32)))
    assert cupy.log[-1] == ("synchronize",)


def test_shared_memory_that_the_driver_refuses_is_an_error_with_the_kernels_name(cupy, monkeypatch):
    def refuse(self, value):
        raise DriverError("CUDA_ERROR_INVALID_VALUE")

    asked = property(lambda self: 0, refuse)
    monkeypatch.setattr(FakeFunction, "max_dynamic_shared_size_bytes", asked)
    with pytest.raises(GpukitError, match=r"sums<float>.*shared 51200.*INVALID_VALUE"):
        CupyEngine().launch(call(np.zeros(8, np.float32), shared=50 << 10))

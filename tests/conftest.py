"""Fixtures for every room: above all `backend`, which runs one test on each implementation.

A test says which primitives it is about and takes the fixture:

    @pytest.mark.primitives("conv2d")
    def test_conv2d(backend):
        y = backend(p.conv2d, x, w, conv=p.Conv())        # NumPy arrays in, NumPy arrays out

It then runs for the reference, for every CPU implementation registered for one of these primitives,
on the twin cpu:1, on emu:0 for every CUDA implementation (its kernels, run on the CPU; skipped
without g++) and, where there is a card, on cuda:0 (test_every_primitive.py shows where not).
A test none of whose calls an implementation takes is skipped under its name.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

try:
    import fcntl
except ImportError:  # Windows, whose workers each make their own
    fcntl = None  # type: ignore[assignment]

# The installed package is what is tested: `python -m pytest` would put the checkout before it.
# Tests share oracles (naive.py), which lie beside this file.
TESTS = Path(__file__).resolve().parent
sys.path[:] = [str(TESTS), *(p for p in sys.path if Path(p or ".").resolve() != TESTS.parent)]
os.environ.setdefault("GPUKIT_DEVICE", "cpu")
# The pytest plug-in has imported gpukit before: let go of a checkout that is not what is installed.
if importlib.util.find_spec("gpukit.kernels") is None:
    for module in [name for name in sys.modules if name.partition(".")[0] == "gpukit"]:
        del sys.modules[module]

from fault_summary import pytest_terminal_summary  # noqa: E402, F401

from gpukit.device import cuda_count, device_of, get_device, to_host  # noqa: E402
from gpukit.dispatch.precision import FULL  # noqa: E402
from gpukit.dispatch.primitive import REFERENCE, Primitive, registry  # noqa: E402
from gpukit.emulator import compiler_problem  # noqa: E402
from gpukit.launch.numba import card_problem as numba_problem  # noqa: E402


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "primitives(*names): what a test of `backend` is about")


@pytest.fixture(scope="session")
def once(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Callable[[str, Callable[[], str]], str]:
    """once(name, make): the text that `make` gives, made by the first worker that asks for it."""
    folder = tmp_path_factory.getbasetemp()
    if fcntl is not None and hasattr(request.config, "workerinput"):
        folder = folder.parent  # that of all workers

    def made(name: str, make: Callable[[], str]) -> str:
        file = folder / name
        with (folder / f"{name}.lock").open("w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            if not file.exists():
                file.write_text(make(), encoding="utf-8")
        return file.read_text(encoding="utf-8")

    return made


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" not in metafunc.fixturenames:
        return
    import gpukit.primitives  # noqa: F401

    names = metafunc.definition.get_closest_marker("primitives").args
    ways = {way for name in names for way in registry[name].implementations("cpu")}
    chosen = [Backend("cpu", REFERENCE), *(Backend("cpu", w) for w in sorted(ways - {REFERENCE}))]
    backends = [pytest.param(b, id=f"cpu-{b.algo}") for b in chosen]
    backends.append(pytest.param(Backend("cpu:1"), id="twin"))
    backends += emulated(names)
    if cuda_count():
        # These tests have float32's bounds; `gpukit kernels check` has those of each precision.
        kernels = {
            way.name
            for name in names
            for way in registry[name].implementations("cuda").values()
            if way.precision is FULL
        }
        for way in sorted(kernels - {REFERENCE}) or [REFERENCE]:
            absent = numba_problem() if way.startswith("numba") else ""
            marks = [pytest.mark.gpu, pytest.mark.skipif(bool(absent), reason=absent)]
            backends.append(pytest.param(Backend("cuda:0", way), id=f"cuda-{way}", marks=marks))
    metafunc.parametrize("backend", backends)


def emulated(names: tuple[str, ...]) -> list[Any]:
    """A parameter for each CUDA implementation of these primitives, run by the emulator.

    Where there is none, the definition runs on emu's arrays.
    """
    ways = {way for name in names for way in registry[name].implementations("emu")} - {REFERENCE}
    problem = compiler_problem() if ways else ""
    marks = [pytest.mark.skipif(bool(problem), reason=problem)]
    chosen = sorted(ways) or [REFERENCE]
    return [pytest.param(Backend("emu", w), id=f"emu-{w}", marks=marks) for w in chosen]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Any:
    backend = pyfuncitem.funcargs.get("backend")
    if not isinstance(backend, Backend):
        return (yield)
    backend.own = backend.others = 0
    result = yield
    if backend.others and not backend.own:
        pytest.skip(f"{backend} takes none of these calls: others have computed them")
    return result


class Backend:
    """Calls primitives with NumPy arrays on one device by one implementation.

    What that does not take, the default computes; `own` and `others` count both in a test. Checks
    on the way that results live on that device, and that no argument was written to.
    """

    def __init__(self, device: str, algo: str | None = None) -> None:
        self.device = device
        self.algo = algo
        self.own = self.others = 0

    def __repr__(self) -> str:
        return f"{self.device}{f' {self.algo}' if self.algo else ''}"

    @property
    def exact_on_integers(self) -> bool:
        """Whether sums of small whole numbers come out exact: not by Fourier transform."""
        return self.algo != "fft"

    def __call__(self, primitive: Primitive, *args: Any, **settings: Any) -> Any:
        here = [self._put(a) for a in args]
        results = primitive(*here, algo=self._algo(primitive, here, settings), **settings)
        for before, after in zip(args, here):
            for a, b in zip(_arrays(before), _arrays(after), strict=True):
                np.testing.assert_array_equal(a, to_host(b), f"{primitive.name} wrote to its input")
        return self._get(results)

    def update(self, primitive: Primitive, *args: Any, **settings: Any) -> tuple[Any, ...]:
        """Run a primitive that works in place; what its arguments are afterwards."""
        here = [None if a is None else self._put(a.copy()) for a in args]
        assert primitive(*here, algo=self._algo(primitive, here, settings), **settings) is None
        return tuple(None if a is None else to_host(a) for a in here)

    def _algo(self, primitive: Primitive, args: list[Any], settings: Any) -> str | None:
        if self.algo is None:
            return None
        way = primitive.implementations(get_device(self.device).kind).get(self.algo)
        if way is not None and way.takes(tuple(args), settings):
            self.own += 1
            return self.algo
        self.others += 1
        return None

    def _put(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return get_device(self.device).asarray(value)
        if isinstance(value, (tuple, list)):
            return type(value)(self._put(v) for v in value)
        return value

    def _get(self, value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(self._get(v) for v in value)
        if value is None:  # the gradient by a bias that is none
            return None
        assert not isinstance(value, np.generic), "a scalar where an array of shape () belongs"
        assert device_of(value) is get_device(self.device)
        return to_host(value)


def _arrays(value: Any) -> list[Any]:
    if isinstance(value, (tuple, list)):
        return [a for v in value for a in _arrays(v)]
    return [value] if hasattr(value, "shape") else []

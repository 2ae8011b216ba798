"""Numba's kernels without a card: simulated, compiled to PTX, launched on a card that is a fake."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from gpukit.backends.cuda.conv.numba import WEIGHT_BLOCK
from gpukit.cli.app import app
from gpukit.device import cuda as cards
from gpukit.device import get_device
from gpukit.dispatch.primitive import REFERENCE, registry
from gpukit.errors import GpukitError, SettingError
from gpukit.launch import numba as launch
from gpukit.launch.numba import NumbaKernel, compiler_problem, problem, team
from gpukit.launch.nvrtc import ARCHITECTURES
from gpukit.primitives import Conv, Window
from gpukit.verify import coverage, fuzz, numba_kernels, own_kernels
from gpukit.verify.coverage import Target
from gpukit.verify.own_kernels import OwnKernels

TIMES = int(os.environ.get("GPUKIT_TEST_CASES", "1"))
TARGETS = [t for t in coverage.targets() if t.simulated]
# NVVM differs little from one to the next: .ci/deep compiles for all (`kernels check --all`).
CARDS = ARCHITECTURES[::3]
KERNELS = numba_kernels.kernels_of(TARGETS)

needs_numba = pytest.mark.skipif(bool(problem()), reason=problem())
needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())


def test_what_there_is():
    """Convolution in two ways, pooling, activations, softmax: all with gradients."""
    found = {(t.primitive, t.algo) for t in TARGETS}
    passes = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
    convolutions = {(name, way) for name in passes for way in ("numba", "numba_im2col")}
    names = ("max_pool2d", "avg_pool2d", "relu", "sigmoid", "tanh", "softmax", "log_softmax")
    others = {(f"{name}{end}", "numba") for name in names for end in ("", "_grad")}
    assert found >= convolutions | others
    assert len(KERNELS) >= 20


def test_never_the_default_nor_wider_than_it():
    """So that without numba-cuda nothing falls to them that nobody named."""
    for target in TARGETS:
        ways = registry[target.primitive].implementations("cuda")
        assert not next(iter(ways)).startswith("numba"), target
        others = [w for n, w in ways.items() if w.emulated and n != REFERENCE]
        for number in range(40):
            made = numba_kernels.case(target.primitive, 1, number)
            arguments = tuple(made.arrays), made.settings
            if ways[target.algo].takes(*arguments):
                assert any(w.takes(*arguments) for w in others), (target, number)


def test_emu_has_none_and_says_so():
    x = get_device("emu").asarray(np.ones(3, np.float32))
    assert "numba" not in registry["relu"].implementations("emu")
    with pytest.raises(SettingError, match=r"no algo 'numba' on emu \(it needs a real card\)"):
        registry["relu"](x, algo="numba")


def test_without_numba_cuda_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(launch, "problem", lambda: f"not there: {launch.INSTALL_NUMBA}")
    with pytest.raises(
        GpukitError, match=r"relu\.py|activation\.py.*pip install 'gpukit\[numba\]'"
    ):
        NumbaKernel("activation", "relu").launch(1, 32, np.ones(3), np.ones(3))


def test_without_numba_cuda_checks_leave_them_out_and_say_so(monkeypatch):
    lacking = (f"Numba's kernels: {problem()}",) if problem() else ()
    assert OwnKernels("relu").left_out == lacking
    monkeypatch.setattr(own_kernels, "problem", lambda: "not installed: pip install")
    assert OwnKernels("relu").targets == ("relu:cuda",)
    assert OwnKernels("relu").left_out == ("Numba's kernels: not installed: pip install",)
    with pytest.raises(GpukitError, match="relu:numba: not installed: pip install"):
        OwnKernels("relu:numba")


@needs_numba
def test_check_compiles_and_simulates():
    arguments = ["kernels", "check", "relu", "--mode", "simulator", "--fuzz", "40", "--arch", "90"]
    result = CliRunner().invoke(app, [*arguments, "--json"])
    said = json.loads(result.stdout.splitlines()[-1])
    assert (result.exit_code, said["findings"]) == (0, [])
    assert said["cases"] == {"simulator": 2}
    assert said["compilations"] == 2  # activation.cu, and relu of activation.py


@needs_numba
def test_a_wrong_kernel_is_found_in_the_simulator(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(fuzz, "WORKER", "faulty_worker")
    (finding,) = fuzz.fuzz({"simulator": [Target("relu", "unchanged")]}, 0, 3, only=1)
    assert "by definition" in finding.text
    assert finding.again == "gpukit kernels check relu:unchanged --seed 3 --case 1 --mode simulator"


@pytest.fixture(scope="module")
def simulated(once: Callable[[str, Callable[[], str]], str]) -> dict[str, list[str]]:
    """What numba_simulator.py, in a process of its own, found of every target."""

    def run() -> str:
        script = Path(__file__).with_name("numba_simulator.py")
        done = subprocess.run(
            [sys.executable, str(script), str(3 * TIMES)],
            env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.splitlines()[-1]

    return json.loads(once("numba_simulator", run))


@needs_numba
@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_simulated_results_are_those_of_the_definition(simulated, target):
    assert simulated["fuzz"][str(target)] == []


@needs_numba
def test_simulated_results_are_those_of_naive_loops(simulated):
    """Independent of the definitions: groups, dilation, odd sizes, ties and NaN in pooling."""
    assert simulated["naive"]
    assert {name: text for name, text in simulated["naive"].items() if text} == {}


@needs_numba
def test_convolution_by_several_panels(simulated):
    assert simulated["panels"] == {"parts": 3, "problems": []}


@needs_numba
@pytest.mark.parametrize(
    ("planted", "words"),
    [("late", "differs at"), ("unguarded", "IndexError"), ("in place", "wrote to its input")],
)
def test_the_simulator_finds_planted_bugs(simulated, planted, words):
    assert words in simulated["planted"][planted]


@needs_compiler
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: f"{k.file}.{k.name}")
def test_compiles_for_every_card_without_float64_or_local_memory(kernel):
    assert [f.text for f in numba_kernels.compile_all([kernel], CARDS)] == []


@needs_compiler
def test_an_untyped_literal_is_found():
    from numba import cuda, types

    def scaled(x, y):
        i = cuda.grid(1)
        if i < x.shape[0]:
            y[i] = x[i] * 0.1

    def remembers(x, y):
        last = cuda.local.array(8, types.float32)
        for i in range(x.shape[0]):
            last[i % 8] = x[i]
        y[0] = last[x.shape[0] % 8]

    vectors = (types.float32[::1], types.float32[::1])
    for function, words in ((scaled, "in float64"), (remembers, "local memory")):
        ptx, _ = cuda.compile_ptx(function, vectors, cc=(8, 0))
        assert words in " ".join(numba_kernels.faults(ptx, "float32"))
    assert numba_kernels.faults(cuda.compile_ptx(scaled, vectors, cc=(8, 0))[0], "float64") == []


def test_teams_are_powers_of_two():
    assert [team(n, 256) for n in (0, 1, 32, 33, 200, 5000)] == [32, 32, 32, 64, 256, 256]
    assert team(10**6, WEIGHT_BLOCK) == WEIGHT_BLOCK == 128


class FakeArray:
    """An array of a fake card: NumPy's, behind CUDA's interface."""

    def __init__(self, data: np.ndarray, index: int = 1) -> None:
        self.data = data
        self.device = SimpleNamespace(id=index)

    dtype = property(lambda self: self.data.dtype)
    ndim = property(lambda self: self.data.ndim)
    shape = property(lambda self: self.data.shape)
    size = property(lambda self: self.data.size)
    flags = property(lambda self: self.data.flags)

    @property
    def __cuda_array_interface__(self) -> dict:
        return {"shape": self.shape, "typestr": self.dtype.str, "data": (1, False), "version": 3}

    def __getitem__(self, key) -> FakeArray:
        return FakeArray(self.data[key], self.device.id)

    def reshape(self, *shape: int) -> FakeArray:
        return FakeArray(self.data.reshape(*shape), self.device.id)


@pytest.fixture
def card(monkeypatch) -> list:
    """CuPy and numba.cuda as fakes; what is launched, and on which card and stream."""
    seen: list = []
    current = [0]

    @contextlib.contextmanager
    def on(index: int):
        before, current[0] = current[0], index
        yield
        current[0] = before

    class Function:
        def __init__(self, function) -> None:
            self.py_func = function

        def __getitem__(self, configuration):
            return lambda *args: seen.append((current[0], configuration, args))

    stream = SimpleNamespace(ptr=77, synchronize=lambda: seen.append("waited"))
    errors = SimpleNamespace(CUDARuntimeError=type("CUDARuntimeError", (RuntimeError,), {}))
    runtime = SimpleNamespace(Device=on, get_current_stream=lambda: stream, runtime=errors)
    cuda = SimpleNamespace(
        gpus=type("Gpus", (), {"__getitem__": lambda self, index: on(index)})(),
        external_stream=lambda pointer: ("stream", pointer),
        as_cuda_array=lambda array, sync: ("view", array.shape, sync),
    )
    import numba

    functions = [(kernel, kernel.function.py_func) for kernel in KERNELS]
    monkeypatch.setattr(numba, "cuda", cuda, raising=False)
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=runtime))
    monkeypatch.setattr(
        cards.CudaDevice,
        "empty",
        lambda self, shape, dtype: FakeArray(np.empty(shape, dtype), self.index),
    )
    for kernel, function in functions:
        monkeypatch.setitem(kernel.__dict__, "function", Function(function))
    return seen


@needs_numba
def test_a_launch_on_a_card(card):
    """CuPy's device and stream; views without waiting; sizes as int32; blocks that cover all."""
    x = FakeArray(np.ones((2, 9, 8, 3), np.float32))
    way = registry["max_pool2d"].implementations("cuda")["numba"]
    y, index = way.function(x, window=Window((2, 2), stride=(2, 1), padding=((0, 0), (1, 0))))
    assert y.shape == index.shape == (2, 4, 8, 3)
    ((device, (grid, block, stream), arguments),) = card
    assert (device, stream) == (1, ("stream", 77))
    assert (grid, block) == (1, 256)
    shape = (2, 4, 8, 3)
    assert arguments[:3] == (
        ("view", x.shape, False),
        ("view", shape, False),
        ("view", shape, False),
    )
    assert arguments[3:] == (2, 2, 2, 1, 0, 1)
    assert {type(a) for a in arguments[3:]} == {np.int32}


@needs_numba
def test_sync_waits(card, monkeypatch):
    monkeypatch.setenv("GPUKIT_SYNC", "1")
    way = registry["relu"].implementations("cuda")["numba"]
    way.function(FakeArray(np.ones(600, np.float32)))
    assert card[0][1][:2] == (3, 256)
    assert card[1] == "waited"


@needs_numba
def test_what_the_driver_refuses_names_the_kernel(card, monkeypatch):
    from numba.cuda.cudadrv.driver import CudaAPIError

    from gpukit.kernels.typed import Vector

    def refuse(*args):
        raise CudaAPIError(701, "too many resources")

    made = NumbaKernel("activation", "relu")
    names = tuple((name, Vector) for name in ("x", "y"))
    monkeypatch.setitem(made.__dict__, "parameters", names)
    monkeypatch.setitem(made.__dict__, "function", {(1, 32, ("stream", 77)): refuse})
    x = FakeArray(np.ones(3, np.float32))
    words = r"kernels/activation\.py, relu with arrays \(3,\), \(3,\), grid 1, block 32: .*too many"
    with pytest.raises(GpukitError, match=words):
        made.launch(1, 32, x, x)


@needs_numba
def test_grids_cover_large_layers(card):
    """VGG16's conv2_1, whose panels hold fewer images than the batch."""
    x = FakeArray(np.empty((8, 112, 112, 64), np.float32))
    w = FakeArray(np.empty((3, 3, 64, 128), np.float32))
    settings = {"conv": Conv(padding=((1, 1), (1, 1)))}
    ways = registry["conv2d"].implementations("cuda")
    ways["numba"].function(x, w, None, **settings)
    (_, (grid, block, _), arguments) = card.pop()
    assert (grid, block) == (8 * 112 * 112 * 128 // 256, 256)
    assert arguments[4:6] == (0, 0)
    ways["numba_im2col"].function(x, w, None, **settings)
    grids = [configuration[:2] for _, configuration, _ in card]
    images = (64 << 20) // (112 * 112 * 576 * 4)
    assert images == 2
    assert grids == 4 * [
        (images * 112 * 112 * 576 // 256, 256),
        ((images * 112 * 112 // 16, 128 // 16, 1), (16, 16)),
    ]


@needs_numba
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((np.ones(3, np.float32), np.ones(3, np.float64)), "in one launch"),
        ((np.ones(3, np.int32), np.ones(3, np.float32)), "x has dtype int32"),
        ((np.ones((3, 1)), np.ones(3)), "x must be contiguous with 1 axes"),
        ((np.ones(6)[::2], np.ones(3)), "x must be contiguous"),
        ((3, np.ones(3)), "x is a int, not an array"),
        ((np.ones(3),), "relu takes 2 arguments, 1 given"),
    ],
)
def test_a_launch_that_breaks_the_annotations_is_refused(arguments, words):
    with pytest.raises(TypeError, match=words):
        NumbaKernel("activation", "relu").launch(1, 32, *arguments)


@needs_numba
def test_kernels_take_numbers_of_32_bits():
    x = np.ones((1, 1, 1, 1), np.float32)
    with pytest.raises(TypeError, match="stride_h = 2147483648 is no int32"):
        NumbaKernel("pool", "average_pool").launch(1, 32, x, x, 1, 1, 2**31, 1, 0, 0)

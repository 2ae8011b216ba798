"""`gpukit kernels show`: figures of kernels whose launches and lines are known."""

from __future__ import annotations

import itertools
import json

import pytest
from click.testing import CliRunner

from gpukit.cli.app import app
from gpukit.device import get_device
from gpukit.dispatch.primitive import REFERENCE, registry
from gpukit.emulator import compiler_problem
from gpukit.emulator.trace import Access
from gpukit.errors import GpukitError, SettingError
from gpukit.launch.wheels import nvidia_folder
from gpukit.verify import coverage, kernel_report
from gpukit.verify.cases import usual
from gpukit.verify.launches import launches

needs = [
    pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem()),
    pytest.mark.skipif(nvidia_folder() is None, reason="pip install 'gpukit[kernels]'"),
]

PLUGIN = """
from gpukit.backends.cuda.runtime.common import contiguous, empty_like
from gpukit.launch.kernel import Kernel
from gpukit.primitives import relu

_far = Kernel("far.cu", "far")


@relu.on("cuda", name="far", supports=lambda x: x.ndim == 1 and x.size % 1024 == 0)
def _(x):
    x, y = contiguous(x), empty_like(x)
    _far.launch(x.size // 1024, 32, x, y, T=x.dtype)
    return y
"""
CUDA = """// Each thread has 32 numbers of its own, side by side: lanes are 32 numbers apart.
template <typename T> __global__ void far(const T* __restrict__ x, T* __restrict__ y) {
    __shared__ T tile[32][32];
    const int first = 32 * (32 * blockIdx.x + threadIdx.x);
    for (int i = 0; i < 32; ++i) tile[threadIdx.x][i] = x[first + i];
    __syncthreads();
    for (int i = 0; i < 32; ++i) {
        const T v = tile[threadIdx.x][i];
        y[first + i] = v > T(0) ? v : T(0);
    }
}
"""


def test_usual_calls_are_taken_by_every_kernel():
    for target in coverage.targets():
        if target.emulated:
            assert usual(target).arrays, target


def test_every_primitive_with_a_kernel_has_a_usual_call_that_its_default_takes():
    with_kernels = {target.primitive for target in coverage.targets() if target.emulated}
    for name, dtype in itertools.product(with_kernels, ("float32", "float64")):
        declared = registry[name].declaration.usual_call()
        arrays, settings = declared.arrays, declared.settings
        default = registry[name].choose(get_device("emu"), None, tuple(arrays), settings)
        assert default.name != REFERENCE, name
        made = usual(coverage.Target(name, default.name), dtype)
        assert [shape(a) for a in made.arrays] == [shape(a) for a in arrays], (name, dtype)


OF_ONE = [t for t in coverage.targets() if t.algo in registry[t.primitive].declaration.usual_of]


@pytest.mark.parametrize("target", OF_ONE, ids=str)
def test_an_implementation_takes_the_call_that_is_its_own(target):
    declared = registry[target.primitive].declaration.usual_call(target.algo)
    assert [shape(a) for a in usual(target).arrays] == [shape(a) for a in declared.arrays]


def shape(value):
    return [shape(v) for v in value] if isinstance(value, list) else value.shape


def test_lines_that_are_called_twice_add_up():
    def access(frames, moved):
        return Access("k", frames, "x", "global", "load", 4, 10, 320, moved, 40, moved // 10)

    twice = [access(("a.cuh:3", "k.cu:9", "k.cu:20"), 80), access(("a.cuh:3", "k.cu:9"), 40)]
    one, two = kernel_report.by_line([access(("a.cuh:3", "k.cu:12"), 50), *twice])
    assert (one.places, one.requests, one.moved, one.least, one.worst) == (
        ("a.cuh:3", "k.cu:9"), 20, 120, 80, 8
    )  # fmt: skip
    assert one.each == 6
    assert two.places == ("a.cuh:3", "k.cu:12")


@pytest.fixture
def plugin(tmp_path):
    (tmp_path / "far.py").write_text(PLUGIN)
    (tmp_path / "far.cu").write_text(CUDA)
    return str(tmp_path / "far.py")


def shown(*arguments: str) -> dict:
    result = CliRunner().invoke(app, ["kernels", "show", *arguments, "--json"])
    assert result.exit_code == 0, result.exception or result.output
    return json.loads(result.stdout)


class TestShow:
    pytestmark = needs

    def test_a_plug_in(self, plugin):
        (launch,) = shown(plugin, "--arch", "80", "--blocks", "2")["launches"]
        assert (launch["target"], launch["file"], launch["block"]) == (
            "relu:far",
            "far.cu",
            [32, 1, 1],
        )
        assert launch["traced"] == 2
        found = {(a["array"], a["kind"], a["places"][0]): a for a in launch["accesses"]}
        assert found["x", "load", "far.cu:5"]["each"] == 32
        assert found["y", "store", "far.cu:9"]["requests"] == 64
        assert found["tile", "store", "far.cu:5"]["each"] == 32
        (card,) = launch["cards"]
        assert (card["arch"], card["shared"], card["spill_stores"]) == (80, 4096, 0)
        # Blocks of a warp: 32 fit, unless 164 KB in parts of 4 + 1 KB are fewer.
        assert card["occupancy"]["blocks"] == 32
        assert card["occupancy"]["percent"] == 50

    def test_a_table(self, plugin):
        result = CliRunner().invoke(
            app, ["kernels", "show", plugin, "--arch", "90", "--lines", "2"]
        )
        assert result.exit_code == 0
        for words in ("sm_90", "50 %", "far.cu:5", "32.00 ways", "more; --lines 4"):
            assert words in result.stdout

    def test_our_own(self):
        (launch,) = shown("relu:cuda", "--arch", "75")["launches"]
        assert launch["file"] == "activation.cu"
        assert {a["each"] for a in launch["accesses"]} == {16}
        assert {a["bytes"] for a in launch["accesses"]} == {16}
        assert launch["cards"][0]["occupancy"]["percent"] == 100
        assert {"LDG.128", "STG.128"} <= set(launch["cards"][0]["moves"])

    @pytest.mark.parametrize("own", [True, False], ids=["ours", "a plug-in"])
    def test_a_check_has_the_figures_of_cards(self, plugin, own):
        name = "relu:cuda" if own else plugin
        cards = ("--arch", "80", "--arch", "90")
        result = CliRunner().invoke(
            app, ["kernels", "check", name, *cards, "--fuzz", "0", "--json"]
        )
        assert result.exit_code == 0, result.output
        *lines, last = result.stdout.splitlines()
        (launch,) = json.loads(last)["launches"]
        assert launch["cards"] == shown(name, *cards)["launches"][0]["cards"]
        head = next(i for i, line in enumerate(lines) if line.startswith("occupancy "))
        percents = [f"{card['occupancy']['percent']:.0f} %" for card in launch["cards"]]
        cells = [str(launch["block"][0]), *(word for p in percents for word in p.split())]
        row = lines[head + 1].removeprefix(launch["kernel"])
        assert row.split()[: len(cells)] == cells

    def test_the_other_dtype(self):
        (launch,) = launches(["relu:cuda"], blocks=1, dtype="float64")
        assert launch.kernel == "unary<double, Relu>"
        assert {(a.bytes, a.each) for a in launch.accesses} == {(16, 16)}

    def test_a_broken_plug_in_is_said(self, tmp_path):
        (tmp_path / "bad.py").write_text("import nothing_of_that_name\n")
        with pytest.raises(GpukitError, match="nothing_of_that_name"):
            launches([], [str(tmp_path / "bad.py")])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["relu:numba"], "emu does not run"),
        (["relu", "--arch", "70"], "use 75, 80"),
        (["rely"], "did you mean relu"),
    ],
)
def test_show_refuses(arguments, words):
    result = CliRunner().invoke(app, ["kernels", "show", *arguments])
    assert isinstance(result.exception, SettingError)
    assert words in str(result.exception)

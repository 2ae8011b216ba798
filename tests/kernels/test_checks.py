"""`gpukit kernels`: cases, comparison and workers, and that each finds the faults meant for it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from gpukit.cli.app import app
from gpukit.core import process
from gpukit.device import to_host
from gpukit.dispatch.primitive import Implementation, registry
from gpukit.emulator import compiler_problem
from gpukit.errors import SettingError
from gpukit.verify import coverage, fuzz, run_case
from gpukit.verify.cases import case, draw, flat
from gpukit.verify.compare import ROUNDOFF, problem
from gpukit.verify.coverage import Target

needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

CONVOLUTIONS = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
MOVES = ("reshape", "transpose", "broadcast_to", "split", "concat", "pad", "index")  # of any dtype

# A case of relu, under seed 3, that has numbers of both signs and more of them than a warp.
CASE = next(n for n in range(100) if 32 < case("relu", 3, n).arrays[0].size < 500)


def test_every_kernel_has_cases():
    assert [t for t in coverage.targets() if not draw(t.primitive)] == []


def test_every_kernel_names_its_files():
    for target in coverage.targets():
        assert target.files, target
    assert Target("relu", "cuda").files == ("activation.cu",)
    assert Target("global_avg_pool2d", "cuda").files == ("reduction.cu",)
    assert Target("conv2d", "im2col").files == ("conv/im2col.cu", "linear.cu")
    assert Target("conv2d", "implicit").files == ("conv/implicit.cu", "linear.cu")
    assert Target("dense", "gemm").files == ("linear.cu",)


def test_own_launchers_name_the_kernels_that_are_in_their_code():
    for name, kinds in ((n, coverage.implementations(n)) for n in coverage.primitives()):
        for algo in kinds["cuda"]:
            impl = Target(name, algo).implementation
            assert impl.kernels is not None, impl
            assert set(impl.kernels) == set(coverage.kernels_in(impl.function)), (name, algo)


def test_a_plug_in_may_name_its_kernels_or_not():
    ours = Target("relu", "cuda").implementation
    told = Target("relu_grad", "cuda").kernels
    for named, found in ((None, list(ours.kernels or ())), (told, told)):
        registry["relu"].on("cuda", name="mine", kernels=named)(ours.function)
        try:
            assert Target("relu", "mine").kernels == found
        finally:
            registry["relu"].remove(Target("relu", "mine").implementation)


def test_names(monkeypatch):
    assert coverage.targets("bias_grad") == [Target("bias_grad", "cuda")]
    assert {t.algo for t in coverage.targets("conv2d")} >= {"first", "direct", "im2col", "numba"}
    assert coverage.targets("conv2d:direct") == [Target("conv2d", "direct")]
    for name, words in [
        ("conv2e", "did you mean conv2d"),
        ("conv2d:fft", "use depthwise, first, implicit, direct, im2col"),
    ]:
        with pytest.raises(SettingError, match=words):
            coverage.targets(name)
    monkeypatch.setitem(registry["relu"]._by_kind, "cuda", {})
    with pytest.raises(SettingError, match="has no CUDA kernel"):
        coverage.targets("relu")


CASES = [
    *coverage.primitives(),
    *(f"{p}:{a}" for p in CONVOLUTIONS for a in ("depthwise", "implicit")),
]


@pytest.mark.parametrize("name", CASES)
def test_cases_depend_on_seed_and_number_only(name):
    for number in range(12):
        first, second = case(name, 5, number), case(name, 5, number)
        for a, b in zip(flat(first.arrays), flat(second.arrays)):
            np.testing.assert_array_equal(a, b)
        assert str(first.settings) == str(second.settings)  # NaN differs from itself
        floats = {
            a.dtype for a in first.arrays if isinstance(a, np.ndarray) and a.dtype.kind == "f"
        }
        if name not in MOVES:
            assert floats <= {np.dtype(np.float64 if number % 2 else np.float32)}


def test_convolutions_are_awkward_enough():
    made = [case("conv2d", 0, n) for n in range(400)]
    seen = {
        "no images": sum(c.arrays[0].shape[0] == 0 for c in made),
        "one pixel": sum(c.arrays[0].shape[1:3] == (1, 1) for c in made),
        "depthwise": sum(1 < c.settings["conv"].groups == c.arrays[0].shape[3] for c in made),
        "stride > kernel": sum(c.settings["conv"].stride[0] > c.arrays[1].shape[0] for c in made),
        "not contiguous": sum(not c.arrays[0].flags.c_contiguous for c in made),
        "beyond a tile": sum(c.arrays[1].shape[3] > 64 for c in made),
        "dilated": sum(c.settings["conv"].dilation != (1, 1) for c in made),
        "exact": sum(c.exact for c in made),
    }
    assert {what: n for what, n in seen.items() if n < 4} == {}


def test_comparison():
    x = np.array([1.0, 2.0, np.nan], np.float32)
    assert problem("y", x, x, True, 1, 1) == ""
    assert problem("y", x[:2], x, True, 1, 1) == "y has shape (2,), the definition's (3,)"
    off = x + np.float32([0, 1e-6, 0])
    assert "1 of 3 places, first at (1,)" in problem("y", off, x, True, 1, 1)
    wide = x.astype(np.float64)
    assert problem("y", off, wide, False, 1, 1) == ""
    assert "allowed" in problem("y", off + np.float32(1e-4), wide, False, 1, 1)
    assert "places" in problem("y", np.float32([1, 2, 3]), wide, False, 1, 1)
    assert "places" in problem("y", wide + np.array([0, 1e-9, 0]), wide, False, 10**6, 1)
    one_part_in_1000 = np.float32([1 + 2.0**-10])  # TF32's precision
    assert problem("y", one_part_in_1000, np.ones(1), False, 1000, 1)
    assert 4 * 1008 * ROUNDOFF < 2.0**-10


def planted(monkeypatch, function, name="relu") -> str:
    """What a case finds of an implementation of a primitive that is this function."""
    known = registry[name]._by_kind.setdefault("cuda", {})
    monkeypatch.setitem(known, "planted", Implementation(function, "cuda", "planted"))
    found = {run_case.run(Target(name, "planted"), 0, number) for number in range(8)} - {""}
    return " ".join(sorted(found))


@needs_compiler
def test_right_results_pass(monkeypatch):
    assert planted(monkeypatch, lambda x: np.maximum(x, 0)) == ""


@needs_compiler
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: np.abs(x), "by definition"),
        (lambda x: np.maximum(x, 0).reshape(-1)[:1], "has shape"),
        (lambda x: (np.maximum(x, 0), x), "returns a tuple of 2, the definition an array"),
        (lambda x: (np.maximum(x, 0),), "returns a tuple of 1, the definition an array"),
        (lambda x: None, "returns None, the definition an array"),
        (lambda x: to_host(np.maximum(x, 0)).tolist(), "the definition an array"),
        (lambda x: to_host(np.maximum(x, 0)), "returns an array on cpu, its arguments are on emu"),
        (lambda x: np.maximum(x, 0).astype(np.float16), "returns float16, the definition float"),
        (lambda x: x, "returns its argument, or a view of it"),
        (lambda x: x.__setitem__(..., np.maximum(x, 0)) or x, "wrote to its input"),
        (lambda x: x.nothing, "AttributeError"),
    ],
    ids=[
        "wrong",
        "shape",
        "count",
        "tuple",
        "none",
        "list",
        "host",
        "dtype",
        "view",
        "in place",
        "error",
    ],
)
def test_wrong_launchers_are_found(monkeypatch, function, words):
    assert words in planted(monkeypatch, function)


@pytest.fixture
def faulty(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setattr(fuzz, "WORKER", "faulty_worker")

    def run(mode: str, *algos: str):
        return fuzz.fuzz({mode: [Target("relu", algo) for algo in algos]}, 0, 3, only=CASE)

    return run


@needs_compiler
@pytest.mark.parametrize(
    ("algo", "mode", "words"),
    [
        ("wrong", "plain", "by definition"),
        ("deaf", "plain", "RuntimeError: no such luck"),
        ("crash", "plain", "crash: "),
        ("overrun", "asan", "AddressSanitizer"),
        ("race", "tsan", "ThreadSanitizer"),
    ],
)
def test_faulty_kernels_are_found(faulty, algo, mode, words):
    """And the next one is still checked."""
    (finding,) = faulty(mode, algo, "cuda")
    assert words in finding.text
    assert finding.target == f"relu:{algo}"
    assert finding.again == f"gpukit kernels check relu:{algo} --seed 3 --case {CASE} --mode {mode}"


@needs_compiler
def test_findings_keep_the_order_of_targets(faulty):
    names = ["deaf", "crash", "cuda", "wrong"]
    found = faulty("plain", *names)
    assert [f.target for f in found] == ["relu:deaf", "relu:crash", "relu:wrong"]


@needs_compiler
def test_an_interruption_ends_the_workers(monkeypatch):
    started = []

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **settings):
            super().__init__(*arguments, **settings)
            started.append(self)

    told = []

    def interrupt(cases, what):
        if cases and not told:
            told.append(what)
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(process.subprocess, "Popen", Popen)
    names = [f"conv2d:{way}" for way in ("im2col", "direct", "implicit")]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            fuzz.fuzz({"plain": names}, 10**6, 0, step=interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    workers = [p for p in started if p.args[3] == fuzz.WORKER]
    assert workers
    assert all(worker.poll() is not None for worker in workers)


def test_fewer_cases_run_under_sanitizers():
    assert [fuzz.count_of(mode, 2000) for mode in fuzz.ONE_IN] == [2000, 200, 20, 100, 1, 2000]
    assert [fuzz.count_of(mode, 5) for mode in fuzz.ONE_IN] == [5, 1, 1, 1, 1, 5]
    assert fuzz.count_of("asan", 0) == 0


def test_list_shows_what_has_no_kernel(monkeypatch):
    result = CliRunner().invoke(app, ["kernels", "list", "--json"])
    entries = {e["name"]: e for e in json.loads(result.stdout)["primitives"]}
    assert set(coverage.primitives()) == set(entries)
    assert {"first", "direct", "im2col", "cublas"} <= set(entries["conv2d"]["cuda"])
    assert [name for name, e in entries.items() if not e["cuda"]] == []
    monkeypatch.setitem(registry["transpose"]._by_kind, "cuda", {})
    table = CliRunner().invoke(app, ["kernels", "list"]).stdout
    assert any(
        line.split() == ["transpose", "(reference)", "(reference)"] for line in table.splitlines()
    )


@needs_compiler
def test_check_ends_with_a_verdict():
    arguments = ["kernels", "check", "leaky_relu", "--fuzz", "4", "--arch", "90", "--json"]
    result = CliRunner().invoke(app, arguments)
    said = json.loads(result.stdout.splitlines()[-1])
    assert said["findings"] == []
    assert (result.exit_code, said["ok"]) == (0, True)
    assert said["cases"] == {"plain": 4, "asan": 1, "tsan": 1, "cheats": 1}
    assert said["targets"] == ["leaky_relu:cuda"]


def test_check_fails_with_exit_code_1(monkeypatch):
    from gpukit.static import budgets

    monkeypatch.setattr(budgets, "read", lambda: budgets.Table({budgets.version(): {}}))
    arguments = ["kernels", "check", "sgd_update", "--fuzz", "0", "--arch", "90"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    assert "has no budget yet" in result.stdout
    assert "again: bash .ci/budgets update" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "or --all"),
        (["relu", "--all"], "or --all"),
        (["relu", "--arch", "70"], "use 75, 80"),
    ],
)
def test_check_refuses(arguments, words):
    result = CliRunner().invoke(app, ["kernels", "check", *arguments])
    assert isinstance(result.exception, SettingError)
    assert words in str(result.exception)

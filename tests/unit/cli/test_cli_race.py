"""`gpukit race`: table and JSON, plug-ins, absent rivals, refusals, Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap

import pytest

from gpukit.dispatch.primitive import registry
from gpukit.race import ceilings, contest, rivals

LARGE = ceilings.Ceilings(1e6, 1e6, 1e6, 1e6, 1 << 30, how="not measured")
RACE = ["race", "relu", "--device", "cpu", "--layers", "1,4,4,2"]


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Ceilings that nobody measures and no result passes, and few rounds."""
    monkeypatch.setattr(ceilings, "_found", {"cpu": LARGE})
    monkeypatch.setattr(contest, "SECONDS", 1e-9)
    monkeypatch.setenv("GPUKIT_DEVICE", "cpu")


@pytest.fixture
def plugins():
    """What plug-ins of a test registered is gone after it."""
    ways = registry["relu"].implementations("cpu") and registry["relu"]._by_kind["cpu"]
    before = dict(ways)
    yield
    for name in set(ways) - set(before):
        del ways[name]


def plugin(folder, name, body, kind="cpu"):
    file = folder / f"{name}.py"
    file.write_text(
        textwrap.dedent(f"""
        import numpy as np
        from gpukit.primitives import relu

        @relu.on({kind!r}, name={name!r})
        def _(x):
            return {body}
        """)
    )
    return file


def test_a_race_is_told_in_a_table_and_in_json(gpukit, tmp_path):
    result = gpukit(*RACE, "--json", "--out", tmp_path / "race.png")
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == "relu: 1,4,4,2, on cpu"
    assert "measured ceilings" in result.out.splitlines()[1]
    assert "numba" in result.out
    found = result.json
    assert found["ok"] is True
    assert (found["device"], found["rows"][0]["name"]) == ("cpu", "numba")
    assert found["rows"][0]["default"] is True
    assert (tmp_path / "race.png").stat().st_size > 1000


def test_all_passes_of_a_networks_layers(gpukit, monkeypatch):
    from dataclasses import replace

    from gpukit.race import tables

    small = tables.Layer("tiny", (5, 5, 2, 3, 3, 3, 1, 1, 1))
    monkeypatch.setitem(tables.NETWORKS, "alexnet", replace(tables.ALEXNET, convs=(small,)))
    result = gpukit(
        "race", "conv2d", "--layers", "alexnet", "--pass", "all", "--batch", "2",
        "--algo", "direct", "--device", "cpu", "--json",
    )  # fmt: skip
    assert result.code == 0, result.err
    rows = result.json["rows"]
    assert [r["primitive"] for r in rows if r["default"]] == [
        "conv2d", "conv2d_input_grad", "conv2d_weight_grad",
    ]  # fmt: skip
    assert {r["layer"] for r in rows} == {"tiny"}
    assert result.json["network"] == "alexnet"
    assert "conv2d_weight_grad: alexnet, N = 2, on cpu" in result.out
    assert {r["sizes"] for r in rows} == {"2,5,5,2,3,3,3,1,1,1"}
    assert len(result.json["means"]) == 6
    assert result.out.count("geometric mean") == 6


def test_a_plugin_takes_part(gpukit, plugins, tmp_path):
    file = plugin(tmp_path, "mine", "np.maximum(x, 0)")
    result = gpukit(*RACE, "--kernel", file, "--algo", "mine", "--json")
    assert result.code == 0, result.err
    assert [(r["name"], r["default"]) for r in result.json["rows"]] == [
        ("numba", True), ("mine", False),
    ]  # fmt: skip


def test_a_wrong_plugin_is_refused(gpukit, plugins, tmp_path):
    file = plugin(tmp_path, "wrong", "x.copy()")
    result = gpukit(*RACE, "--kernel", file, "--json")
    assert result.code == 1
    assert "REFUSED wrong on 1,4,4,2 (relu): result 0 differs" in result.out
    assert [r["name"] for r in result.json["rows"]] == ["numba"]
    assert result.json["ok"] is False


def test_an_impossible_speed_is_refused(gpukit, monkeypatch):
    slow = ceilings.Ceilings(1e-9, 1e-9, 1e-9, 1e-9, 0)
    monkeypatch.setitem(ceilings._found, "cpu", slow)
    monkeypatch.setattr(ceilings, "_measure", lambda device: slow)
    result = gpukit(*RACE, "--json")
    assert result.code == 1
    assert "impossible" in result.out
    assert "a kernel that does not do the work" in result.json["refused"][0]["why"]
    assert result.json["rows"] == []


def test_without_pytorch_the_rival_is_left_out_visibly(gpukit, monkeypatch):
    monkeypatch.setattr(rivals, "missing", lambda: "PyTorch is not installed")
    result = gpukit(*RACE, "--rivals", "torch", "--json")
    assert result.code == 0
    assert "left out: torch on every layer (relu): PyTorch is not installed" in result.out
    assert result.json["left_out"][0]["name"] == "torch"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["relu", "--device", "emu"], ["emu:0 has no speed", "gpukit kernels check"]),
        (["rely"], "did you mean relu"),
        (["relu", "--device", "cpu", "--layers", "1,2"], "N,H,W,C"),
        (["relu", "--device", "cpu", "--layers", "lenet"], "alexnet, vgg16, resnet50"),
        (["relu", "--device", "cpu", "--pass", "weight"], "has no pass weight"),
        (["relu", "--device", "cpu", "--algo", "mine"], "no implementation 'mine'"),
        (["relu", "--device", "cpu", "--kernel", "nowhere.py"], "nowhere.py"),
        (["relu", "--device", "cpu", "--rivals", "caffe"], "'caffe'"),
    ],
)
def test_what_cannot_be_raced(gpukit, arguments, words):
    result = gpukit("race", *arguments)
    assert result.code == 2
    assert result.err.count("\n") == 1
    for word in [words] if isinstance(words, str) else words:
        assert word in result.err


def test_a_plugin_for_another_device_says_so(gpukit, plugins, tmp_path):
    file = plugin(tmp_path, "elsewhere", "x", kind="cuda")
    try:
        result = gpukit(*RACE, "--kernel", file)
    finally:
        registry["relu"]._by_kind["cuda"].pop("elsewhere", None)
    assert result.code == 2
    assert "relu:elsewhere for cuda" in result.err


PROGRAM = """
import signal, sys
from gpukit import cli
from gpukit.race import ceilings, contest
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
ceilings._found["cpu"] = ceilings.Ceilings(1e6, 1e6, 1e6, 1e6, 1 << 30)
contest.SECONDS, contest.MOST, contest.SLOW_SECONDS = 1000, 10**9, 10**9
cli.main(sys.argv[1:])
"""


def test_ctrl_c_ends_it_cleanly():
    """The table so far, one line, exit code 130, and no process left behind."""
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *RACE],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        assert "relu" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 130, err
    assert "stopped" in err
    assert "Traceback" not in err
    assert "nothing was timed" in out


def test_an_unwritable_picture_is_refused_before_the_race(gpukit, monkeypatch, tmp_path):
    monkeypatch.setattr(contest, "run", None)
    (tmp_path / "file").touch()
    for folder in ("nowhere", "file"):
        result = gpukit(*RACE, "--out", tmp_path / folder / "race.png", "--json")
        assert result.code == 2
        assert f"{folder}/race.png cannot be written" in result.err
        assert result.out == ""


def test_figures_survive_a_picture_that_fails(gpukit, monkeypatch, tmp_path):
    from gpukit.errors import CheckpointError
    from gpukit.race import picture

    def full(path, rows, about):
        raise CheckpointError(f"{path} cannot be written (no space left)")

    monkeypatch.setattr(picture, "save_rows", full)
    result = gpukit(*RACE, "--out", tmp_path / "race.png", "--json")
    assert result.code == 2
    assert "no space left" in result.err
    assert result.json["ok"] is True


def test_a_crash_names_the_file_and_the_line(tmp_path):
    body = "__import__('ctypes').string_at(0)"
    file = plugin(tmp_path, "crashing", body)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *RACE, "--kernel", str(file)],
        capture_output=True,
        text=True,
    )
    assert done.returncode not in (0, 1, 2)
    assert "Fatal Python error" in done.stderr
    assert "crashing.py" in done.stderr


def test_json_is_the_last_line_alone(gpukit):
    lines = gpukit(*RACE, "--json").out.splitlines()
    assert json.loads(lines[-1])["ok"]
    assert not any(line.startswith("{") for line in lines[:-1])


def test_what_does_not_fit_into_memory_is_refused(gpukit, monkeypatch):
    from gpukit.race import memory

    monkeypatch.setattr(memory, "available", lambda: 1000)
    result = gpukit(*RACE)
    assert result.code == 2
    assert "relu on 1,4,4,2 needs about" in result.err

    def short(race, outcome, step):
        raise MemoryError("no 9 GB")

    monkeypatch.setattr(memory, "available", lambda: None)
    monkeypatch.setattr(contest, "run", short)
    result = gpukit(*RACE)
    assert result.code == 2
    assert "use smaller --layers or a smaller --batch (no 9 GB)" in result.err


def test_a_suite_races_every_pass_of_a_networks_layers(gpukit, monkeypatch):
    from gpukit.race import tables

    tiny = tables.Network(
        convs=(tables.Layer("tiny", (5, 5, 2, 3, 3, 3, 1, 1, 1)),),
        max_pools=(),
        denses=(tables.Layer("fc", (7, 5)),),
    )
    monkeypatch.setattr(rivals, "missing", lambda: "PyTorch is not installed")
    monkeypatch.setitem(tables.NETWORKS, "lenet5", tiny)
    suite = ["race", "--suite", "lenet5", "--batch", "2", "--device", "cpu", "--json"]
    result = gpukit(*suite)
    assert result.code == 0, result.err
    assert [(r["primitive"], r["layer"]) for r in result.json["rows"]] == [
        *((f"conv2d{p}", "tiny") for p in ("", "_input_grad", "_weight_grad")),
        ("relu", "tiny"), ("relu_grad", "tiny"),
        *((f"dense{p}", "fc") for p in ("", "_input_grad", "_weight_grad")),
        ("softmax", "classes"), ("softmax_cross_entropy", "classes"),
        ("softmax_cross_entropy_grad", "classes"),
        ("normalise_images", "images"), ("sgd_update", "parameters"),
    ]  # fmt: skip
    assert all(row["default"] for row in result.json["rows"])
    assert "13 primitives: lenet5, N = 2, on cpu" in result.out
    assert "left out: torch on every layer" in result.out
    some = gpukit(*suite, "dense", "--pass", "input", "--algo", "gemm", "--seconds", "1000")
    assert {r["primitive"] for r in some.json["rows"]} == {"dense_input_grad"}
    none = gpukit(*suite, "relu", "--seconds", "0")
    assert none.code == 1
    assert "left out: everybody on tiny (relu): no time left after 0 s" in none.out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--suite", "alexnet", "--layers", "alexnet"], "leave --layers out"),
        (["--suite", "alexnet", "--pass", "input"], "leave --pass out"),
        (["batch_norm", "--suite", "alexnet"], "no layer of alexnet calls batch_norm"),
        (["relu", "tanh"], "name one primitive"),
        ([], "name one primitive"),
    ],
)
def test_what_is_no_suite_is_refused(gpukit, arguments, told):
    result = gpukit("race", *arguments, "--device", "cpu")
    assert result.code == 2
    assert told in result.err


def test_a_suite_of_all_networks_names_them():
    from gpukit.cli import race
    from gpukit.race.problems import SUITES, suite

    assert race.SUITES == SUITES
    layers = {p.layer for p in suite("all", 8, ["conv2d"])}
    assert {"alexnet-conv1", "vgg16-conv1_1", "resnet50-conv1", "lenet5-c1"} <= layers

"""What `kernels list` says is proven: only what a check has shown, of the text as it is."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from gpukit.cli.app import app
from gpukit.static.finding import Finding
from gpukit.verify import inventory, verified
from gpukit.verify.check import Checks, checks, record
from gpukit.verify.coverage import Target, targets
from gpukit.verify.own_kernels import OwnKernels
from gpukit.verify.verified import Facts, known, remember

RELU = Target("relu", "cuda")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPUKIT_CACHE", str(tmp_path))
    return tmp_path


def test_nothing_is_known_at_first():
    assert known(RELU) == Facts()


def test_facts_add_up():
    remember(RELU, Facts((80, 90), {"plain": 20}))
    remember(RELU, Facts((75,), {"plain": 5, "asan": 2}))
    assert known(RELU) == Facts((75, 80, 90), {"plain": 20, "asan": 2})
    assert known(Target("tanh", "cuda")) == Facts()


def test_another_text_is_another_kernel(monkeypatch):
    remember(RELU, Facts((80,), {"plain": 20}))
    load = verified.load

    class Changed:
        def __init__(self, file):
            self.text = load(file).text + "// changed"

    monkeypatch.setattr(verified, "load", Changed)
    assert known(RELU) == Facts()
    remember(RELU, Facts((), {"tsan": 1}))
    assert known(RELU) == Facts((), {"tsan": 1})


def test_what_cannot_be_read_is_not_known(cache):
    remember(RELU, Facts((80,), {"plain": 20}))
    (file,) = (cache / "facts").iterdir()
    file.write_text("{")
    assert known(RELU) == Facts()


def of_relu(*modes: str, **settings) -> Checks:
    return checks(OwnKernels("relu:cuda"), modes=modes, **settings)


def finding(target: str) -> Finding:
    return Finding("plain", target, "", "")


@pytest.mark.parametrize("where", ["relu:cuda", "activation.cu", "activation.cu:unary"])
def test_a_finding_wipes_what_was_known(where):
    remember(RELU, Facts((80,), {"plain": 20}))
    record(of_relu("plain"), [finding(where)])
    assert known(RELU) == Facts()


def test_a_check_is_noted():
    record(of_relu("plain", "asan", architectures=[80, 90]), [finding("tanh:cuda")])
    assert known(RELU) == Facts((80, 90), {"plain": 20, "asan": 2})


def test_one_case_proves_nothing():
    record(of_relu("plain", only=3), [])
    assert known(RELU) == Facts()


def test_the_list_shows_facts_only():
    def row() -> list[str]:
        table = CliRunner().invoke(app, ["kernels", "list"]).stdout.splitlines()
        return next(line for line in table if line.startswith("relu ")).split()

    assert row()[2:] == ["cuda", "float32,", "float64", "-", "-", "-", "-", "-", "-", "-"]
    remember(RELU, Facts((80, 90), {"plain": 200, "asan": 20, "cheats": 1}))
    assert row()[5:] == ["2", "of", "7", "200", "20", "-", "none", "-", "-"]
    said = json.loads(CliRunner().invoke(app, ["kernels", "list", "--json"]).stdout)
    (relu,) = (p for p in said["primitives"] if p["name"] == "relu")
    (kernel,) = (k for k in relu["kernels"] if k["name"] == "cuda")
    assert kernel["cases"] == {"plain": 200, "asan": 20, "cheats": 1}
    assert (kernel["compiled"], kernel["backends"]) == ([80, 90], ["cuda", "emu"])
    assert kernel["dtypes"] == ["float32", "float64"]


def test_registers_are_those_of_the_budget():
    from gpukit.static import budgets

    figures = budgets.read().of(budgets.VERSIONS[0])["activation.cu"]
    kernels = {k.name for k in RELU.kernels}
    of_relu = [v for k, v in figures.items() if k.partition("<")[0] in kernels]
    found = inventory.listed(RELU)
    assert found.registers[90] == max(by_arch["90"][0] for by_arch in of_relu)
    assert set(found.registers) == {75, 80, 86, 89, 90, 100, 120}
    table = CliRunner().invoke(app, ["kernels", "list", "--registers"]).stdout
    row = next(line for line in table.splitlines() if line.startswith("relu:cuda "))
    assert row.split()[1:] == [str(n) for n in found.registers.values()]


def test_dtypes_of_kernels_that_move_elements():
    moves = [t for t in targets("transpose") if t.emulated]
    assert set(inventory.listed(moves[0]).dtypes) == {f"{n}-byte words" for n in (1, 2, 4, 8)}

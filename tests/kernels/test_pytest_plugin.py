"""`pytest --gpukit-kernel FILE.py`: the checks of a plug-in as items of anyone's tests."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from gpukit.emulator import compiler_problem
from gpukit.errors import GpukitError
from gpukit.launch.nvrtc import ARCHITECTURES, version
from gpukit.scaffold.new import write


def missing() -> str:
    try:
        version()
    except GpukitError as error:
        return str(error)
    if not any(e.name == "gpukit" for e in entry_points(group="pytest11")):
        return "gpukit was installed before it had a pytest plug-in; install it again"
    return compiler_problem()


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=500)


def test_the_checks_are_items(tmp_path):
    write("mine", "relu", tmp_path)
    (tmp_path / "test_mine.py").unlink()
    (tmp_path / "test_other.py").write_text("def test_of_their_own():\n    pass\n")
    done = run(tmp_path, "--gpukit-kernel", "mine.py", "--gpukit-fuzz", "2", "-v")
    assert done.returncode == 0, done.stdout
    for arch in ARCHITECTURES:
        assert f"mine.py::compile[sm_{arch}] PASSED" in done.stdout
    for mode in ("plain", "asan", "tsan", "cheats"):
        assert f"mine.py::relu:mine[{mode}] PASSED" in done.stdout
    assert "test_other.py::test_of_their_own PASSED" in done.stdout


def test_a_wrong_kernel_fails_with_its_words(tmp_path):
    write("mine", "relu", tmp_path)
    (tmp_path / "test_mine.py").unlink()
    kernel = tmp_path / "mine.cu"
    kernel.write_text(kernel.read_text().replace("? v : T(0)", "? v : T(1)"))
    done = run(tmp_path, "--gpukit-kernel", "mine.py", "-k", "plain or sm_90", "-v")
    assert done.returncode == 1
    assert "mine.py::compile[sm_90] PASSED" in done.stdout
    assert "mine.py::relu:mine[plain] FAILED" in done.stdout
    assert "by definition" in done.stdout
    assert f"again: gpukit kernels check {tmp_path / 'mine.py'} --seed 0 --case" in done.stdout


def test_what_it_prints_is_in_the_report(tmp_path):
    write("mine", "relu", tmp_path)
    (tmp_path / "test_mine.py").unlink()
    launcher = tmp_path / "mine.py"
    launcher.write_text(launcher.read_text().replace("return y", "print('so far'); return x"))
    done = run(tmp_path, "--gpukit-kernel", "mine.py", "--gpukit-fuzz", "2", "-k", "plain", "-rN")
    assert done.returncode == 1
    said = done.stdout.splitlines()
    assert any("Captured printed call" in line for line in said)
    assert said.count("so far") == 1


def test_one_that_never_ends_is_waited_for_once(tmp_path):
    write("mine", "relu", tmp_path)
    (tmp_path / "test_mine.py").unlink()
    launcher = tmp_path / "mine.py"
    launcher.write_text(launcher.read_text().replace("return y", "while True: pass"))
    few = ("--gpukit-time-limit", "8", "-k", "relu", "-rs", "-v")
    done = run(tmp_path, "--gpukit-kernel", "mine.py", *few)
    assert "mine.py::relu:mine[plain] FAILED" in done.stdout
    for mode in ("asan", "tsan", "cheats"):
        assert f"mine.py::relu:mine[{mode}] SKIPPED" in done.stdout
    assert "it did not end in mode plain" in done.stdout


def test_one_that_cannot_be_loaded_stops_it(tmp_path):
    (tmp_path / "bad.py").write_text("def bad(:\n")
    done = run(tmp_path, "--gpukit-kernel", "bad.py")
    assert done.returncode == 4
    assert "bad.py:1: SyntaxError" in done.stderr


def test_without_the_option_nothing_is_added(tmp_path):
    done = run(tmp_path, "-q")
    assert done.returncode == 5

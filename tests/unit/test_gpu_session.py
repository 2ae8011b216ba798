"""The session on a card, as far as it goes without one: bench/gpu_session.sh --dry is the whole."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpukit.emulator import compiler_problem

CHECKOUT = Path(__file__).parents[2]
SESSION = CHECKOUT / "bench" / "gpu_session.sh"


@pytest.mark.parametrize("arguments", [["--part", "nosuch"], ["--part"], ["--dri"]])
def test_wrong_arguments_run_nothing(arguments, tmp_path):
    done = subprocess.run(
        ["bash", str(SESSION), *arguments],
        env={**os.environ, "OUT": str(tmp_path / "out")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--part checks|race|sanitizers" in done.stderr
    assert not (tmp_path / "out").exists()


def test_what_fails_is_printed_before_the_run_ends(tmp_path):
    (tmp_path / "test_two.py").write_text(
        "import os\n"
        "def test_wrong():\n    assert 6 * 7 == 41\n"
        "def test_that_ends_the_process():\n    os._exit(3)\n"
    )
    command = [
        "-m",
        "pytest",
        "-p",
        "bench.findings",
        "-p",
        "no:cacheprovider",
        "-q",
        "test_two.py",
    ]
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 3
    assert "FAILED test_two.py::test_wrong (call)" in done.stdout
    assert "assert (6 * 7) == 41" in done.stdout


SANITIZER = CHECKOUT / "tests" / "standin" / "bin" / "compute-sanitizer"


@pytest.mark.parametrize(
    ("tool", "command", "code", "summary"),
    [
        ("synccheck", "exit 0", 0, "========= ERROR SUMMARY: 0 errors"),
        ("initcheck", "exit 1", 9, "========= ERROR SUMMARY: 1 errors"),
        ("nosuch", "exit 0", 2, "unknown tool 'nosuch'"),
    ],
)
def test_the_sanitizers_stand_in_ends_as_they_do(tool, command, code, summary):
    done = subprocess.run(
        [str(SANITIZER), "--tool", tool, "--error-exitcode", "9", "bash", "-c", command],
        capture_output=True,
        text=True,
    )
    assert done.returncode == code
    assert summary in done.stdout + done.stderr


@pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
def test_the_short_run_for_sanitizers_holds_kernels_to_their_definitions():
    command = ["-m", "bench.short_run", "--device", "emu", "--only", "relu", "--no-lenet"]
    done = subprocess.run(
        [sys.executable, *command], cwd=CHECKOUT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("2 runs on emu, 0 wrong\n")

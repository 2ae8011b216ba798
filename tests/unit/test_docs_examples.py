"""The Python programs in README and docs run as they are printed there.

The blocks of a page are one program: later ones use what earlier ones defined.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gpukit.emulator.build import compiler_problem
from gpukit.errors import GpukitError
from gpukit.launch.nvrtc import version

CHECKOUT = Path(__file__).resolve().parents[2]
PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("**/*.md"))]


def program(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def missing(text: str) -> str:
    """What a program needs that is not here: g++ for emu, NVIDIA's compiler for whole checks."""
    if "check_plugin" in text:
        try:
            version()
        except GpukitError as error:
            return str(error)
    return compiler_problem() if "emu" in text else ""


@pytest.mark.parametrize(
    "page", [page for page in PAGES if program(page)], ids=lambda page: page.name
)
def test_programs_run(page, tmp_path):
    if reason := missing(program(page)):
        pytest.skip(reason)
    # From elsewhere and with nothing on the path: the package that is installed.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment["GPUKIT_DEVICE"] = "cpu"
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:gpukit", "-c", program(page)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()

"""A trained run for all tests of commands, and the command line as a function."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import TRAIN, Result, call, process


@pytest.fixture
def gpukit(capsys) -> Callable[..., Result]:
    """Run `gpukit ARGUMENTS…` in this process."""
    return lambda *arguments: call(list(arguments), capsys)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """The folder of a short run, which no test changes, and what the command printed."""
    out = tmp_path_factory.mktemp("trained") / "run"
    result = process(*TRAIN, "--out", out, "--json")
    assert result.code == 0, result.err
    return out, result

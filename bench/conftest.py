"""PyTorch beside pytest-benchmark: one worker a session, and the ratios in the summary."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest

from bench.__main__ import row, summary
from bench.duel import Result
from bench.rival import Rival

_results: list[Result] = []


@pytest.fixture(scope="session")
def rival() -> Iterator[Rival | None]:
    """The worker, or None where PyTorch is not installed."""
    if importlib.util.find_spec("torch") is None:
        yield None
        return
    with Rival() as worker:
        yield worker


@pytest.fixture
def record() -> list[Result]:
    """Where results go that the summary shows."""
    return _results


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _results:
        terminalreporter.section("gpukit, PyTorch (median ms) and the ratio of their times")
        for line in [*map(row, _results), *summary(_results)]:
            terminalreporter.write_line(line)

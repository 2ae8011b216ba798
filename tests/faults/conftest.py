"""`commands` runs them, `survived` asserts and counts; the counts end up in one summary line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from harness import Commands, Outcome, faults


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    commands = Commands(tmp_path_factory.mktemp("streams"))
    yield commands
    commands.close()


@pytest.fixture
def commands(server: Commands, tmp_path, monkeypatch) -> Commands:
    """Commands in an empty folder, without settings of the user's."""
    monkeypatch.delenv("GPUKIT_DATA_MIRROR", raising=False)
    monkeypatch.setenv("GPUKIT_DEVICE", "cpu")
    server.folder = tmp_path
    return server


@pytest.fixture
def survived(request: pytest.FixtureRequest) -> Callable[..., None]:
    """`survived(kind, outcome, names…, case=…)`: fails the test with all that is wrong.

    `kind` is the plural that the summary counts by: "damaged checkpoints".
    """

    def check(kind: str, outcome: Outcome, *names: object, case: object = "", **rules) -> None:
        request.node.user_properties.append(("fault", json.dumps([kind, outcome.peak])))
        found = list(faults(outcome, *names, **rules))
        report = (
            f"{case}: {'; '.join(found)}\ngpukit {' '.join(outcome.arguments)}\n"
            f"{outcome.err[-3000:]}"
        )
        # Bytes that are no UTF-8 cannot travel from a worker of the test runner.
        assert not found, report.encode("utf-8", "backslashreplace").decode()

    return check

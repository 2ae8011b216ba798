"""Runs commands on damaged and hostile input, and says what must never come of it.

`survived` is the whole of the promise: a documented exit code, no signal, no traceback, no hang,
memory under 1 GB, and for exit 2 short text on stderr that names the file at fault. How many cases
run is a share of the counts that `.ci/deep faults` runs: GPUKIT_TEST_FAULTS=1, a tenth by default.
"""

from __future__ import annotations

import json
import math
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpukit.core.process import WorkerProcess

HERE = str(Path(__file__).parent)
SHARE = float(os.environ.get("GPUKIT_TEST_FAULTS", "0.1"))
DOCUMENTED = (0, 2)  # of what users do wrong; 1 is gpukit's own fault, 130 and 143 are signals'
MEMORY = 1 << 30  # bytes that a command may take at most
LIMIT = 8 << 30  # of address space, so that what fails here does not take the machine with it
LINE = 1000  # characters; names of files included


def count(total: int, chunks: int = 1) -> int:
    """How many of `total` cases one of `chunks` tests runs, at least one."""
    return max(1, math.ceil(total * SHARE / chunks))


@dataclass(frozen=True)
class Outcome:
    """How a command ended: exit code (−n for signal n), output, the most memory, time taken."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str
    hung: bool
    peak: int
    seconds: float

    @property
    def json(self) -> Any:
        """The object in the last line of stdout."""
        return json.loads(self.out.splitlines()[-1])


def faults(
    outcome: Outcome,
    *names: object,
    codes: tuple[int, ...] = DOCUMENTED,
    lines: int | None = 1,
    memory: int = MEMORY,
) -> Iterator[str]:
    """What is wrong with the way that a command ended; nothing where all is well.

    A refusal (exit 2) has at most `lines` lines on stderr (None: any number), and one of `names`
    where any are given.
    """
    if outcome.hung:
        yield f"hung for {outcome.seconds:.0f} s"
    elif outcome.code < 0:
        yield f"killed by signal {-outcome.code}"
    elif outcome.code not in codes:
        yield f"exit code {outcome.code}, not one of {codes}"
    if "Traceback (most recent call last)" in outcome.err + outcome.out:
        yield "a traceback"
    if outcome.peak > memory:
        yield f"{outcome.peak / 1e6:.0f} MB of memory"
    longest = max(map(len, outcome.err.splitlines()), default=0)
    if longest > LINE:
        yield f"a line of {longest} characters"
    # Streams are files here, so that colours have no reason to be there.
    said = outcome.err + outcome.out
    strange = {c for c in said if unicodedata.category(c) == "Cc" and c not in "\n\r\t"}
    if strange:
        yield f"control characters {sorted(strange)}"
    if outcome.code == 2:
        if lines is not None and outcome.err.count("\n") > lines:
            yield f"{outcome.err.count(chr(10))} lines for one refusal"
        if names and not any(str(name) in outcome.err for name in names):
            yield f"none of {[str(n) for n in names]} is named"


class Commands:
    """`commands("train", "lenet5", …)` gives an Outcome; one process with gpukit serves all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: WorkerProcess | None = None

    def __call__(
        self,
        *arguments: object,
        program: str | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = 60,
    ) -> Outcome:
        """Run a command, or the text of a Python program."""
        streams = [self.folder / name for name in ("stdin", "stdout", "stderr")]
        streams[0].write_bytes(stdin)
        given = tuple(os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in arguments)
        if self._server is None:
            path = f"{HERE}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
            self._server = WorkerProcess("fork_server", variables={"PYTHONPATH": path})
        ended = self._server.ask(
            "run", arguments=given, program=program, cwd=str(cwd or self.folder), env=env or {},
            streams=[str(s) for s in streams], timeout=timeout, limit=LIMIT,
        )  # fmt: skip
        assert ended, self._server.text()
        out, err = (s.read_text("utf-8", errors="backslashreplace") for s in streams[1:])
        return Outcome(given, out=out, err=err, **ended)

    def close(self) -> None:
        """End the process that serves."""
        if self._server is not None:
            self._server.close()

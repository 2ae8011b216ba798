"""Python processes in which the code of kernels' authors runs, whatever it does there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

Heard = Callable[[Sequence[str]], None]

SHOWN = 20  # lines of what was printed
_READ = 1 << 20  # bytes of the end of what was printed
_POLL = 0.2  # seconds; whoever holds the pipe without being the child is not waited for longer
# The first line of what Python, its faulthandler or a sanitizer say of an end.
_REPORT = re.compile(
    r"Traceback \(most|Fatal Python error|=+$|==\d+==|WARNING: ThreadSan|.*: runtime error: "
)


class Child:
    """A process that answers in lines of JSON (core/process.py); a context manager that ends it.

    It has a session of its own: Ctrl-C reaches only this process, and what the other one started
    ends with it. One that says nothing for `limit` seconds is killed, and has `hung`.
    """

    def __init__(self, arguments: Sequence[str], more: Mapping[str, str], limit: float) -> None:
        self._limit = limit
        self.hung = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as this is)
        self._process = subprocess.Popen(
            [sys.executable, *arguments],
            env={**os.environ, **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
        )

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()
        self._log.close()

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError):  # none of them lives
            os.killpg(self._process.pid, signal.SIGKILL)

    def news(self) -> Iterator[dict[str, Any]]:
        """What it answers, until it ends."""
        assert self._process.stdout is not None
        pipe, rest = self._process.stdout.fileno(), b""
        with selectors.DefaultSelector() as ready:
            ready.register(pipe, selectors.EVENT_READ)
            until = time.monotonic() + self._limit
            while True:
                ended = self._process.poll() is not None
                if ready.select(0 if ended else min(_POLL, self._limit)):
                    read = os.read(pipe, 1 << 16)
                    if not read:
                        break
                    *lines, rest = (rest + read).split(b"\n")
                    for line in lines:
                        yield json.loads(line)
                    until = time.monotonic() + self._limit
                elif ended or time.monotonic() > until:
                    break
        try:
            self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.hung = True
            self.kill()

    @property
    def code(self) -> int:
        """How it ended: its exit code, or minus a signal."""
        return self._process.wait()

    def text(self) -> str:
        """The end of all that it printed."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _READ))
        return self._log.read().decode(errors="replace")

    def printed(self) -> list[str]:
        """The last lines that it printed, without the report of a crash."""
        lines = self.text().splitlines()
        if self.code and not self.hung:
            ends = (i for i, line in enumerate(lines) if _REPORT.match(line))
            lines = lines[: next(ends, len(lines))]
        return lines[-SHOWN:]


def distinct(lines: Sequence[str]) -> list[str]:
    """The last of what several processes printed, each line once."""
    return [*dict.fromkeys(lines)][-SHOWN:]

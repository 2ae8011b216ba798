"""Worker processes: starting one, sending orders, reading replies, ending all that it started.

A worker is a module whose last line is `sys.exit(process.work(main))`, for one order, or
`process.serve({"name": function})`, for orders one after another. An order and a reply are a line
of JSON each.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import math
import os
import re
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from gpukit.core.blocks import Closing

Reply = Callable[..., None]
Heard = Callable[[Sequence[str]], None]

SHOWN = 20  # lines of what was printed
_READ = 1 << 20  # bytes of the end of what was printed
_POLL = 0.2  # seconds; whoever holds the pipe without being the worker is not waited for longer
_LINES = 1  # _IOLBF of stdio.h
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of linux/prctl.h
# The first line of what Python, its faulthandler or a sanitizer say of an end.
_REPORT = re.compile(
    r"Traceback \(most|Fatal Python error|=+$|==\d+==|WARNING: ThreadSan|.*: runtime error: "
)


def work(main: Callable[[dict[str, Any], Reply], int]) -> int:
    """In a worker: `main(order, reply)`, with the order that it was started with; its exit code."""
    reply = _replies()
    return main(json.loads(sys.argv[1]), reply)


def serve(
    orders: Mapping[str, Callable[..., dict[str, Any]]], *, outlives_thread: bool = False
) -> None:
    """In a worker: call what each line of stdin names in `do`, reply with its result or `error`.

    With `outlives_thread` it lives on when the thread that started it ends, until stdin does.
    """
    reply = _replies(outlives_thread)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            result = orders[order.pop("do")](**order)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        reply(**result)


def _replies(outlives_thread: bool = False) -> Reply:
    """Keep stdout for replies: `reply(**what)` writes one line of JSON to it.

    What Python or C print from now on goes to stderr, line by line; processes started from here do
    not inherit the channel. On Linux the worker is killed when the thread that started it ends,
    unless `outlives_thread`. Where nobody listens any more, it ends.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _LINES, 0)
        if not outlives_thread:
            library.prctl(_PARENT_DEATH, signal.SIGKILL)

    def reply(**what: Any) -> None:
        try:
            print(json.dumps(what), file=channel, flush=True)
        except BrokenPipeError:
            os._exit(0)

    return reply


class WorkerProcess(Closing):
    """A Python process that runs `module`, with one `order`, or None to `ask` it; ends in `with`.

    It has a process group of its own: Ctrl-C reaches only this process, and what the worker started
    ends with it. One that replies nothing for `limit` seconds is killed, and has `hung`.
    `variables` are added to its environment, and `descriptors` are open in it. What it prints is
    kept for `text`; where it is `shown`, it goes to this process's stderr.
    """

    def __init__(
        self,
        module: str,
        order: dict[str, Any] | None = None,
        *,
        variables: Mapping[str, str] | None = None,
        limit: float = math.inf,
        descriptors: Sequence[int] = (),
        shown: bool = False,
    ) -> None:
        self._limit = limit
        self._closed = False
        self.hung = False
        self._log = None if shown else tempfile.TemporaryFile()  # noqa: SIM115  (open as this is)
        # -P: the package that is installed, not one that lies in the working folder.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *([] if order is None else [json.dumps(order)])],
            env={**os.environ, **(variables or {})},
            stdin=subprocess.PIPE if order is None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self._log,
            pass_fds=descriptors,
            process_group=0,
        )
        self.pid = self._process.pid
        self._read = self.replies()

    def close(self) -> None:
        """End it and free its resources."""
        self.kill()
        self._closed = True
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):  # an order that it did not live to read
                    stream.close()

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        if self._closed:  # its number may be another process's by now
            return
        with contextlib.suppress(ProcessLookupError):  # none of them lives
            os.killpg(self.pid, signal.SIGKILL)

    def ask(self, do: str, **order: Any) -> dict[str, Any] | None:
        """Its reply to one more order; None where it ended instead."""
        self.order(do, **order)
        return self.reply()

    def order(self, do: str, **order: Any) -> None:
        """Give it one more order, whose `reply` comes after those to the orders before."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps({"do": do, **order}).encode() + b"\n")
            self._process.stdin.flush()

    def reply(self) -> dict[str, Any] | None:
        """Its next reply; None where it ended instead."""
        return next(self._read, None)

    def replies(self) -> Iterator[dict[str, Any]]:
        """What it replies, until it ends."""
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
        assert self._log is not None, "what it printed was shown"
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

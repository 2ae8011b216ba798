"""SIGINT, SIGTERM and SIGHUP from the first moment of a command to its last.

While the command is loaded, and again when it is over, a signal ends the process at once: nothing
is begun yet, or nothing is left to do. In between it raises, so that all is put away on the way
out; training takes signals itself (`gpukit.runs.saver`).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from gpukit.core.signals import exit_code, handle, handled_by


class Terminated(BaseException):
    """SIGTERM or SIGHUP, `signum`, asked the command to stop."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by signal {signum}")
        self.signum = signum


def ends_at_once() -> None:
    """From now on a signal ends the process, with one line."""
    handle(_leave)


@contextmanager
def raising() -> Iterator[None]:
    """Within the block a signal raises KeyboardInterrupt or Terminated in the main thread."""
    hook, sys.unraisablehook = sys.unraisablehook, _raise_again
    try:
        with handled_by(_raise):
            yield
    finally:
        sys.unraisablehook = hook


def _leave(signum: int, frame: FrameType | None) -> None:
    with suppress(OSError):
        os.write(2, b"stopped\n")
    os._exit(exit_code(signum))


def _raise(signum: int, frame: FrameType | None) -> None:
    if signum == signal.SIGINT:
        raise KeyboardInterrupt
    raise Terminated(signum)


def _raise_again(what: Any) -> None:
    """A signal that came in a destructor or a callback, where raising ends nothing, comes again."""
    error = what.exc_value
    signum = signal.SIGINT if isinstance(error, KeyboardInterrupt) else None
    signum = getattr(error, "signum", signum)
    if signum is None:
        sys.__unraisablehook__(what)
    else:
        threading.Timer(0.01, os.kill, (os.getpid(), signum)).start()

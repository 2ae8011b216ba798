"""The signals that ask a command to stop, and the exit codes that answer them."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any]


def watched() -> list[signal.Signals]:
    """SIGINT, SIGTERM and SIGHUP; not SIGHUP under nohup, which has it ignored."""
    found = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        found.append(hang_up)
    return found


def handle(handler: Handler) -> dict[int, Any]:
    """Have `handler` called, where signals come at all: in the main thread; who was before."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {signum: signal.signal(signum, handler) for signum in watched()}


@contextlib.contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Within the block `handler` is called."""
    before = handle(handler)
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


def exit_code(signum: int) -> int:
    """130 for SIGINT; 143 for SIGTERM and SIGHUP (the terminal was closed)."""
    return 128 + (signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)

"""The current card and the current streams of each thread."""

from __future__ import annotations

import threading
from typing import Any

from cupy import _order, _settings


class _Thread(threading.local):
    def __init__(self) -> None:
        self.device = 0
        # For each card: its streams, the innermost `with` last. None is the null stream.
        self.streams: list[list[Any]] = [[None] for _ in range(_settings.DEVICES)]


thread = _Thread()


def device() -> int:
    """The index of the current card."""
    return thread.device


def line() -> _order.Line:
    """The order of the current card's current stream."""
    stream = thread.streams[thread.device][-1]
    return _order.null(thread.device) if stream is None else stream._line(thread.device)

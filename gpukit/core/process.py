"""How a process that gpukit starts begins: its answers are kept apart from what it prints."""

from __future__ import annotations

import ctypes
import io
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

Say = Callable[..., None]

_LINES = 1  # _IOLBF of stdio.h
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of linux/prctl.h


def answers() -> Say:
    """Keep stdout for answers: `say(**what)` writes one line of JSON to it. To be called first.

    What Python or C print from now on goes to stderr, line by line; processes started from here
    do not inherit the channel.
    """
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        library.setvbuf(ctypes.c_void_p.in_dll(library, "stdout"), None, _LINES, 0)

    def say(**what: Any) -> None:
        print(json.dumps(what), file=channel, flush=True)

    return say


def end_with_parent() -> None:
    """On Linux, be killed when the thread that started this process ends, however it does."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGKILL)

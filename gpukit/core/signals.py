"""The signals that ask a command to stop, and the exit codes that answer them."""

from __future__ import annotations

import signal


def watched() -> list[signal.Signals]:
    """SIGINT, SIGTERM and SIGHUP; not SIGHUP under nohup, which has it ignored."""
    found = [signal.SIGINT, signal.SIGTERM]
    hang_up = getattr(signal, "SIGHUP", None)
    if hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
        found.append(hang_up)
    return found


def exit_code(signum: int) -> int:
    """130 for SIGINT; 143 for SIGTERM and SIGHUP (the terminal was closed)."""
    return 128 + (signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM)

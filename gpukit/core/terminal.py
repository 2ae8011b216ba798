"""Writes lines to stderr; a terminal that cannot show them never ends the work."""

from __future__ import annotations

import contextlib
import sys
from typing import IO, Any, cast


class Shielded:
    """A text stream that writes to `stream` what can be written there, and drops the rest.

    A stream may be missing (None, where a process began without one), closed, full, without a
    reader, or unable to encode what is said.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        if self._stream is not None:
            try:
                self._stream.write(text)
            except UnicodeError:
                with contextlib.suppress(OSError, ValueError):
                    self._stream.write(text.encode("ascii", "backslashreplace").decode())
            except (OSError, ValueError):  # ValueError: it is closed
                pass
        return len(text)

    def flush(self) -> None:
        if self._stream is not None:
            with contextlib.suppress(OSError, ValueError):
                self._stream.flush()

    def isatty(self) -> bool:
        try:
            return self._stream is not None and self._stream.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        if self._stream is None:
            raise OSError("there is no such stream")
        return self._stream.fileno()

    @property
    def encoding(self) -> str:
        return getattr(self._stream, "encoding", None) or "utf-8"


def stderr() -> IO[str]:
    """Where progress goes."""
    return cast("IO[str]", Shielded(sys.stderr))


def say(text: str) -> None:
    """One line on stderr."""
    print(text, file=stderr(), flush=True)

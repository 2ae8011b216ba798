"""Standard streams that are closed, full, without a reader, or of a small character set.

A command started with a closed descriptor 0, 1 or 2 (by a daemon, by cron) finds /dev/null there:
what it opens next must not get that number, which processes that it starts take for a stream.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import sys
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

_ERRORS = "gpukit.core.terminal"
_PLAIN = str.maketrans({"×": "x", "█": "#", "·": "-", "…": "...", "–": "-", "±": "+-", "≤": "<="})


class OutputLost(Exception):
    """Results cannot be written to stdout; `errno` says why."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"stdout cannot be written ({error.strerror}); give it another place")
        self.errno = error.errno


def open_missing() -> None:
    """Put /dev/null where descriptor 0, 1 or 2 is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115


@contextmanager
def usable() -> Iterator[None]:
    """Within the block stdout raises OutputLost where it fails, and stderr drops what it cannot
    show; both replace what their encoding does not have. Streams of others' are left alone."""
    codecs.register_error(_ERRORS, _replaced)
    before = sys.stdout, sys.stderr
    sys.stdout = _over(sys.stdout, 1, _Results)
    sys.stderr = _over(sys.stderr, 2, _Progress)
    try:
        yield
    finally:
        with suppress(OutputLost):
            sys.stdout.flush()
        sys.stdout, sys.stderr = before


class _Results(io.FileIO):
    """Descriptor 1; after an error, which is raised once, what is written is dropped."""

    _lost = False

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        if self._lost:
            return size
        try:
            while (written := super().write(data)) is None:  # a full pipe that does not block
                select.select([], [self], [])
            return written
        except OSError as error:
            self._lost = True
            raise OutputLost(error) from None


class _Progress(io.FileIO):
    """Descriptor 2; what it cannot take is dropped."""

    def write(self, data: Any, /) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return memoryview(data).nbytes if written is None else written


class _Ascii(io.TextIOWrapper):
    """Click writes UTF-8 to the buffer of an ASCII stream, whatever its reader can show."""

    @property
    def buffer(self) -> IO[bytes]:  # type: ignore[override]
        raise AttributeError("the stream takes ASCII only")


def _over(stream: IO[str] | None, number: int, kind: type[io.FileIO]) -> IO[str]:
    """A text stream like `stream` over a descriptor; `stream` where that is something else."""
    encoding, lines, at_once = "utf-8", number == 2, False
    if stream is not None:
        try:
            if not isinstance(stream, io.TextIOWrapper) or stream.fileno() != number:
                return stream
            stream.flush()
        except (OSError, ValueError):
            return stream
        encoding = stream.encoding
        lines, at_once = stream.line_buffering or lines, stream.write_through
    text = _Ascii if codecs.lookup(encoding).name == "ascii" else io.TextIOWrapper
    return text(
        io.BufferedWriter(kind(number, "w", closefd=False)),
        encoding=encoding,
        errors=_ERRORS,
        line_buffering=lines,
        write_through=at_once,
    )


def _replaced(error: UnicodeError) -> tuple[str | bytes, int]:
    """What is written for characters that an encoding does not have.

    The bytes of names that are no text, as they are; the nearest plain characters; else \\xe9.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff":
        return bytes([ord(character) - 0xDC00]), error.start + 1
    plain = character.translate(_PLAIN)
    if plain == character:
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
    return plain or character.encode("ascii", "backslashreplace").decode(), error.start + 1

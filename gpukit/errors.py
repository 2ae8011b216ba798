"""Errors that a user's input can cause: one line with the place, the values and the way out.

The command line turns a `GpukitError` into exit code 2; anything else is a fault of gpukit's.
"""

from __future__ import annotations

LONGEST = 900  # characters of a line


class GpukitError(Exception):
    """Base of all errors caused by what the caller asked for.

    Its text may quote files and servers: it has no control characters and no endless lines.
    """

    def __str__(self) -> str:
        return "\n".join(map(printable, super().__str__().split("\n")))


def printable(text: str, longest: int = LONGEST) -> str:
    """`text` as one line for a terminal, whoever wrote it: names of files and of classes too.

    What a terminal would obey, or could not show, is escaped as in Python's strings; what is longer
    than `longest` characters loses its middle.
    """
    if len(text) > longest:
        head, tail = longest * 2 // 3, longest // 4
        left_out = f" … ({len(text) - head - tail} characters) … "
        return printable(text[:head]) + left_out + printable(text[-tail:])
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ShapeError(GpukitError, ValueError):
    """Shapes that do not go together."""


class DTypeError(GpukitError, TypeError):
    """Element types that an operation does not take, or that must not be mixed."""


class DeviceError(GpukitError, RuntimeError):
    """An unknown or absent device, or arrays of one call on different devices."""


class SettingError(GpukitError, ValueError):
    """A setting outside its range, or a name that does not exist."""


class FileError(GpukitError):
    """Base of errors about files, whose names may have line breaks: always one line."""

    def __str__(self) -> str:
        return printable(Exception.__str__(self))


class DataError(FileError, ValueError):
    """Data files or labels that are missing, damaged or out of range."""


class CheckpointError(FileError, ValueError):
    """A checkpoint or run folder that cannot be read, or belongs to another model."""


class TapeError(GpukitError, RuntimeError):
    """A backward pass that cannot be made: freed tape, missing gradient, changed parameter."""


class WorkerError(FileError, RuntimeError):
    """A process that worked for this one ended before its work was done."""


class ReplayError(GpukitError, RuntimeError):
    """A step of training that was computed twice and gave other bits the second time."""


class OutOfMemoryError(GpukitError, MemoryError):
    """A step of training for which memory did not suffice: which layers hold it, what would fit."""

"""Reads CIFAR-10's files from a folder, or out of a .tar.gz without unpacking it to disk.

Source: POSIX.1-1988's ustar. A block of 512 bytes is a header: name 0–99, size 124–135 in octal,
checksum 148–155, kind 156, first part of the name 345–499; the file follows, filled up to blocks.
Later extensions (long names, sparse files, links) are skipped: the wanted files need none of them,
and no memory is allocated by what a header says.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterator
from pathlib import Path, PurePosixPath

from gpukit.core.files import reading, regular
from gpukit.errors import DataError

CheckSize = Callable[[Path, int], None]

_BLOCK = 512
_PIECE = 1 << 20
_FILES = (b"0", b"\0", b"7")


def read_files(
    source: Path,
    names: Collection[str],
    check_size: CheckSize,
    *,
    largest: int,
    way_out: str,
    to_the_end: bool = False,
) -> dict[str, bytes]:
    """The contents of the files `names` of a folder or an archive; `check_size` may refuse each.

    In an archive they may be in any folder. It may unpack to `largest` bytes; with `to_the_end`,
    what follows the last file is read, too: gzip's checksum stands there. Raises `DataError`, also
    where a file is missing.
    """
    if source.is_dir():
        files = _in_folder(source, names, check_size)
    else:
        files = _in_archive(source, names, check_size, largest, way_out, to_the_end)
    missing = [name for name in names if name not in files]
    if missing:
        raise DataError(f"{source}: lacks {', '.join(missing)}; {way_out}")
    return files


def _in_folder(folder: Path, names: Collection[str], check_size: CheckSize) -> dict[str, bytes]:
    files = {}
    for name in names:
        path = folder / name
        if path.is_file():
            check_size(path, path.stat().st_size)
            with reading(path), regular(path) as file:
                files[name] = file.read()
    return files


def _in_archive(
    archive: Path,
    names: Collection[str],
    check_size: CheckSize,
    largest: int,
    way_out: str,
    to_the_end: bool,
) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with reading(archive, way_out=way_out), regular(archive) as stored:
        stream = _Bounded(gzip.GzipFile(fileobj=stored), archive, largest, way_out)
        for name, size in _members(stream):
            rest = -(-size // _BLOCK) * _BLOCK
            if name in names and name not in files:
                check_size(archive / name, size)
                files[name] = stream.exactly(size, name)
                rest -= size
            stream.skip(rest)
            if len(files) == len(names) and not to_the_end:
                return files
        while stream.read(_PIECE):
            pass
    return files


def _members(stream: _Bounded) -> Iterator[tuple[str, int]]:
    """(base name, size) of what is in the archive; no name where it is no file.

    The stream stands at the first byte of each; whoever takes one moves it behind the last block.
    """
    while any(header := stream.exactly(_BLOCK, "a header")):
        # The checksum counts its own field as blanks.
        if sum(header) - sum(header[148:156]) + 8 * 32 != _octal(header[148:156]):
            raise ValueError("a header's checksum is wrong")
        name = _text(header[345:500] if header[257:262] == b"ustar" else b"")
        name = f"{name}/{_text(header[:100])}"
        yield PurePosixPath(name).name if header[156:157] in _FILES else "", _octal(header[124:136])


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _octal(field: bytes) -> int:
    digits = field.strip(b" \0")
    if digits.strip(b"01234567"):
        raise ValueError(f"a header has the number {digits!r}")
    return int(digits or b"0", 8)


class _Bounded:
    """A stream that refuses to unpack more than `largest` bytes: a small archive can hold terabytes
    of zeros."""

    def __init__(self, stream: gzip.GzipFile, archive: Path, largest: int, way_out: str) -> None:
        self._stream, self._archive, self._left = stream, archive, largest
        self._largest, self._way_out = largest, way_out

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, none at the end."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise DataError(
                f"{self._archive}: unpacks to more than CIFAR-10 has, {self._largest} bytes; "
                f"{self._way_out}"
            )
        return data

    def exactly(self, size: int, what: str) -> bytes:
        """`size` bytes, which are those of `what`."""
        data = self.read(size)
        if len(data) < size:
            raise EOFError(f"it ends inside {what}")
        return data

    def skip(self, size: int) -> None:
        """Read on over `size` bytes, or to the end."""
        while size > 0 and (data := self.read(min(size, _PIECE))):
            size -= len(data)

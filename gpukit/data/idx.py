"""Reader of IDX files, the format of MNIST and its relatives: plain, gzip or xz.

Source: the format's description on yann.lecun.com/exdb/mnist. Two zero bytes, one byte for the
element type, one for the number of dimensions, then the sizes as big-endian 32-bit integers, then
the elements in row-major order.
"""

from __future__ import annotations

import gzip
import io
import lzma
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from gpukit.core.files import reading, regular
from gpukit.errors import DataError

_DTYPES: dict[int, np.dtype[Any]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}

# EMNIST, the largest set of this format, has 640 MB; a header that asks for more is hostile.
MAX_BYTES = 1 << 30
# Beyond this much, a file must be larger than what a few bytes of zeros can pretend to be.
_FREE_BYTES = 128 << 20
_LARGEST_RATIO = 100  # empty images come near; Fashion-MNIST's, 1.8
# What a byte of each kind of file can at most become. Deflate's limit is 1032 (zlib's technical
# notes); LZMA's, about 7000, is that of its shortest code for its longest match.
_MAX_RATIO = {"plain": 1, "gzip": 1032, "xz": 8000}
# A decoder that needs more than this is refused: an xz header can ask for 4 GiB.
_XZ_MEMORY = 128 * 2**20

_WAY_OUT = "delete it and put a whole copy in its place (`gpukit data fetch NAME`)"


def read_idx(
    path: str | Path, *, dimensions: int | None = None, limit: int | None = None
) -> NDArray[np.generic]:
    """Read an IDX file.

    `dimensions` is the number of axes that the caller expects (3 for grey images, 1 for labels).
    `limit` reads at most that many items of the first axis, and then does not look at the rest of
    the file. Returns an array in the machine's byte order, of the element type the file names.

    Raises `DataError`, with the file's name and the reason, for anything that is not a whole IDX
    file. Sizes are held against the length of the file before memory is taken for them.
    """
    path = Path(path)
    with reading(path, way_out=_WAY_OUT), regular(path) as file:
        shape, dtype, stream = _header(path, file)
        if dimensions is not None and len(shape) != dimensions:
            raise DataError(
                f"{path}: has {len(shape)} dimensions {shape}, {dimensions} are needed; "
                "check that images and labels are not exchanged"
            )
        wanted = shape if limit is None else (min(limit, shape[0]), *shape[1:])
        array = _elements(path, stream, wanted, dtype)
        if wanted == shape and stream.read(1):
            raise DataError(f"{path}: goes on after its {shape} elements; {_WAY_OUT}")
    return array


def idx_shape(path: str | Path) -> tuple[int, ...]:
    """Shape that the header of an IDX file promises; `DataError` as `read_idx`."""
    path = Path(path)
    with reading(path, way_out=_WAY_OUT), regular(path) as file:
        return _header(path, file)[0]


def write_idx(stream: BinaryIO, array: NDArray[np.uint8]) -> None:
    """Write uint8 elements as an (uncompressed) IDX file; the inverse of `read_idx`."""
    if array.dtype != np.uint8:
        raise DataError(f"only uint8 arrays are written as IDX, not {array.dtype}")
    stream.write(bytes((0, 0, 0x08, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape))
    stream.write(np.ascontiguousarray(array).tobytes())


def _kind(file: BinaryIO) -> str:
    start = file.read(6)
    file.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return "gzip"
    return "xz" if start == b"\xfd7zXZ\x00" else "plain"


def _header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], np.dtype[Any], BinaryIO]:
    """Shape and element type, and the stream that stands at the first element."""
    stored = file.seek(0, io.SEEK_END)
    file.seek(0)
    if stored == 0:
        raise DataError(f"{path}: is empty; {_WAY_OUT}")
    kind = _kind(file)
    stream = _opened(file, kind)
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError(f"{path}: ends inside its header; {_WAY_OUT}")
    if magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        raise DataError(
            f"{path}: is not an IDX file: it begins with {magic.hex(' ')}, "
            "where images have 00 00 08 03 and labels 00 00 08 01"
        )
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise DataError(f"{path}: ends inside its header; {_WAY_OUT}")
    shape = struct.unpack(f">{magic[3]}I", sizes)
    dtype = _DTYPES[magic[2]]

    asked = math.prod(shape) * dtype.itemsize
    if asked > MAX_BYTES or len(shape) > 8:
        raise DataError(f"{path}: its header asks for {shape} elements, beyond {MAX_BYTES} bytes")
    if asked > stored * min(_MAX_RATIO[kind], max(_LARGEST_RATIO, _FREE_BYTES // stored)):
        raise DataError(
            f"{path}: damaged or truncated (its header promises {asked} bytes of elements, "
            f"the file has {stored} bytes); {_WAY_OUT}"
        )
    return shape, dtype, stream


def _elements(
    path: Path, stream: BinaryIO, shape: Sequence[int], dtype: np.dtype[Any]
) -> NDArray[np.generic]:
    array = np.empty(shape, dtype)
    view = array.reshape(-1).view(np.uint8).data
    filled = 0
    while filled < len(view):
        count = stream.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            raise DataError(
                f"{path}: truncated: {filled} of {len(view)} bytes of elements; {_WAY_OUT}"
            )
        filled += count
    return array.astype(dtype.newbyteorder("="), copy=False)


def _opened(file: BinaryIO, kind: str) -> BinaryIO:
    if kind == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=file))
    if kind == "xz":
        return cast(BinaryIO, io.BufferedReader(_XzStream(file)))
    return file


class _XzStream(io.RawIOBase):
    """Bytes of an xz file, by a decoder with a bound on its memory (which `lzma.open` lacks)."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self._decoder.eof:
            stored = self._file.read(1 << 16) if self._decoder.needs_input else b""
            if self._decoder.needs_input and not stored:
                raise EOFError("the file ends early")
            # Room for 1 MiB at a time: the decoder grows its result by copying.
            found = self._decoder.decompress(stored, min(len(buffer), 1 << 20))
            if found:
                buffer[: len(found)] = found
                return len(found)
        return 0

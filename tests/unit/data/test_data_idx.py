"""The IDX reader returns what a file holds, or one line that names the file and the reason."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest

from gpukit.data.idx import idx_shape, read_idx, write_idx
from gpukit.errors import DataError

IMAGES = np.arange(7 * 4 * 3, dtype=np.uint8).reshape(7, 4, 3)


def packed(array: np.ndarray = IMAGES) -> bytes:
    stream = io.BytesIO()
    write_idx(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_reads_what_was_written(tmp_path: Path, pack) -> None:
    path = tmp_path / "images"
    path.write_bytes(pack(packed()))
    np.testing.assert_array_equal(read_idx(path), IMAGES)
    np.testing.assert_array_equal(read_idx(path, dimensions=3, limit=2), IMAGES[:2])
    np.testing.assert_array_equal(read_idx(path, limit=100), IMAGES)
    assert idx_shape(path) == IMAGES.shape


@pytest.mark.parametrize(
    ("code", "stored"),
    [(0x08, ">u1"), (0x09, ">i1"), (0x0B, ">i2"), (0x0C, ">i4"), (0x0D, ">f4"), (0x0E, ">f8")],
)
def test_every_element_type(tmp_path: Path, code: int, stored: str) -> None:
    values = np.array([[1, 2, 3], [4, 5, 100]], stored)
    path = tmp_path / "values"
    path.write_bytes(bytes((0, 0, code, 2)) + struct.pack(">2I", 2, 3) + values.tobytes())
    read = read_idx(path)
    assert read.dtype == np.dtype(stored).newbyteorder("=") and read.dtype.isnative
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize("shape", [(0,), (0, 28, 28), (3, 0, 5)])
def test_no_elements(tmp_path: Path, shape: tuple[int, ...]) -> None:
    path = tmp_path / "none"
    path.write_bytes(packed(np.zeros(shape, np.uint8)))
    assert read_idx(path).shape == shape


def header(*sizes: int, code: int = 8) -> bytes:
    return bytes((0, 0, code, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\0\0", "ends inside its header"),
        (b"\0\0\x08\x03\0\0\0\x01", "ends inside its header"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not an IDX file"),
        (b"\0\0\x07\x01\0\0\0\x01\0", "not an IDX file"),
        (b"\0\0\x08\0", "not an IDX file"),
        (packed()[:-1], "truncated"),
        (packed() + b"\0", "goes on after"),
        (gzip.compress(packed() + b"\0"), "goes on after"),
        (gzip.compress(packed()[:-1]), "truncated"),
        (gzip.compress(packed())[:-4], "damaged or truncated"),
        (gzip.compress(packed())[:20], "damaged or truncated"),
        (gzip.compress(packed()) + b"rubbish", "damaged or truncated"),
        (gzip.compress(packed())[:-8] + bytes(8), "CRC"),
        (lzma.compress(packed())[:-4], "damaged or truncated"),
        (lzma.compress(packed())[:-20] + bytes(20), "damaged or truncated"),
        (header(2**32 - 1, 2**32 - 1, 2**32 - 1), "beyond"),
        (header(60000, 28, 28) + bytes(100), "truncated"),
        (gzip.compress(header(2**20, 28, 28)), "promises"),
        (header(*[1] * 9) + b"\0", "beyond"),
    ],
    # Not by content: gzip writes the time into it, and workers must agree on names.
    ids=lambda value: value if isinstance(value, str) else len(value),
)
def test_bad_files(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        read_idx(path)
    message = str(error.value)
    assert reason in message and str(path) in message and "\n" not in message


def test_missing_file_and_wrong_number_of_axes(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_idx(tmp_path / "absent")
    path = tmp_path / "images"
    path.write_bytes(packed())
    with pytest.raises(DataError, match=r"3 dimensions .* 1 are needed"):
        read_idx(path, dimensions=1)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress])
def test_damage_anywhere_is_an_error_or_other_numbers(tmp_path: Path, pack) -> None:
    whole = pack(packed())
    rng = np.random.default_rng(11)
    path = tmp_path / "damaged"
    for _ in range(300):
        content = bytearray(whole[: rng.integers(0, len(whole) + 1)])
        for position in rng.integers(0, max(len(content), 1), rng.integers(0, 4)):
            if content:
                content[position] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            read_idx(path)
        except DataError as error:
            assert "\n" not in str(error)


def test_a_bomb_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    # 40 MB of zeros behind a header that promises one image.
    path.write_bytes(gzip.compress(header(1, 28, 28) + bytes(40_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="goes on after"):
        read_idx(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4_000_000


def test_an_xz_file_that_asks_for_much_memory_is_refused(tmp_path: Path) -> None:
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 20}]
    content = bytearray(lzma.compress(packed(), filters=filters))
    # After 12 bytes of stream header, the block's: its size in words less one, flags, filter id,
    # number of property bytes, the code of the dictionary's size, padding, CRC32.
    size = (content[12] + 1) * 4
    content[12 + 4] = 37  # 1.5 GiB
    checked = bytes(content[12 : 12 + size - 4])
    content[12 + size - 4 : 12 + size] = struct.pack("<I", zlib.crc32(checked))
    path = tmp_path / "greedy"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"[Mm]emory"):
        read_idx(path)

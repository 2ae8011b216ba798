"""CIFAR-10's binary archive and folder, whole and damaged."""

from __future__ import annotations

import gzip
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpukit.data import cifar, load
from gpukit.data.cifar import TEST_FILES, TRAIN_FILES, find_cifar, read_cifar
from gpukit.errors import DataError

NAMES = TRAIN_FILES + TEST_FILES


def records(count: int, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    block = rng.integers(0, 256, (count, 3073), dtype=np.uint8)
    block[:, 0] %= 10
    return block.tobytes()


def whole() -> dict[str, bytes]:
    return {name: records(3 + seed, seed) for seed, name in enumerate(NAMES)}


def write_archive(folder: Path, files: dict[str, bytes], prefix: str = "cifar-10-batches-bin/"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"readme.html": b"<p>", **files}.items():
            member = tarfile.TarInfo(prefix + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def test_archive_and_folder_are_read_alike(tmp_path: Path) -> None:
    files = whole()
    archive = write_archive(tmp_path / "a", dict(reversed(files.items())))
    folder = write_folder(tmp_path / "b" / "cifar-10-batches-bin", files)
    (train, labels), (test, test_labels) = read_cifar(archive)
    assert train.shape == (3 + 4 + 5 + 6 + 7, 32, 32, 3) and test.shape == (8, 32, 32, 3)
    for ours, theirs in zip(read_cifar(folder)[0], (train, labels), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # Image 3 is the first of the second file: record = label, 1024 red, 1024 green, 1024 blue.
    record = np.frombuffer(files[TRAIN_FILES[1]], np.uint8)[:3073]
    assert labels[3] == record[0]
    for row, column, channel in ((0, 0, 0), (1, 0, 0), (31, 31, 2), (5, 7, 1)):
        assert train[3, row, column, channel] == record[1 + 1024 * channel + 32 * row + column]
    assert test_labels.dtype == np.int64
    for place in (tmp_path / "a", tmp_path / "b", folder):
        data = load(place, limit=4)
        assert data.image_shape == (32, 32, 3) and data.class_names[3] == "cat"
        assert len(data.train_images) == len(data.test_labels) == 4


def test_paths_in_the_archive_are_not_followed(tmp_path: Path) -> None:
    inside = tmp_path / "in" / "side"
    archive = write_archive(inside, whole(), prefix="../../")
    before = sorted(tmp_path.rglob("*"))
    read_cifar(archive)
    assert sorted(tmp_path.rglob("*")) == before


def test_links_are_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in NAMES:
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(link)
    with pytest.raises(DataError, match=r"lacks data_batch_1\.bin"):
        read_cifar(path)


def damaged(change: Callable[[dict[str, bytes]], None]) -> dict[str, bytes]:
    files = whole()
    change(files)
    return files


@pytest.mark.parametrize("write", [write_archive, write_folder])
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda files: files.pop("data_batch_4.bin"), "lacks data_batch_4.bin"),
        (lambda files: files.update({"test_batch.bin": b""}), "0 bytes"),
        (lambda files: files.update({"test_batch.bin": bytes(3072)}), "3072 bytes"),
        (lambda files: files.update({"test_batch.bin": bytes(10_001 * 3073)}), "10,000"),
        (lambda files: files.update({"test_batch.bin": b"\x0a" * 3073}), "label 10 of image 0"),
    ],
)
def test_bad_contents(tmp_path: Path, write, change, reason: str) -> None:
    write(tmp_path, damaged(change))
    with pytest.raises(DataError, match=reason) as error:
        load(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("keep", [0, 1, 15, 100, -10, -1])
def test_truncated_archive(tmp_path: Path, keep: int) -> None:
    path = write_archive(tmp_path, whole())
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz"):
        read_cifar(path)


def test_damaged_archives_are_errors_or_other_numbers(tmp_path: Path) -> None:
    raw = gzip.decompress(write_archive(tmp_path, whole()).read_bytes())
    path = tmp_path / "cifar-10-binary.tar.gz"
    rng = np.random.default_rng(5)
    for _ in range(100):
        content = bytearray(raw)
        for position in rng.integers(0, 4096, 6):  # where the first headers lie
            content[position] = rng.integers(0, 256)
        path.write_bytes(gzip.compress(content, 1))
        try:
            read_cifar(path)
        except DataError as error:
            assert "\n" not in str(error)


def test_a_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "LARGEST_ARCHIVE", 1_000_000)
    path = write_archive(tmp_path, {"zeros": bytes(5_000_000)})
    with pytest.raises(DataError, match="unpacks to more"):
        read_cifar(path)


def test_a_python_archive_is_not_taken_for_it(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"\x80\x02")
    assert find_cifar(tmp_path) is None

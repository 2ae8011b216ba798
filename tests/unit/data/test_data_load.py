"""Sets are found by name or folder; their parts are held against each other."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from data_on_disk import idx_bytes

from gpukit.data import load
from gpukit.errors import DataError, SettingError


def test_folder_of_idx_files(tmp_path: Path, idx_set) -> None:
    data = load(idx_set(tmp_path / "mine"))
    assert data.train_images.shape == (20, 6, 5, 1) and data.test_images.shape == (10, 6, 5, 1)
    assert data.class_names == tuple("0123456789") and data.name == str(tmp_path / "mine")
    assert data.train_labels.tolist() == [*range(10), *range(10)]
    limited = load(str(tmp_path / "mine"), limit=12)
    assert len(limited.train_images) == len(limited.train_labels) == 12
    assert len(limited.test_images) == 10


def test_names_are_looked_for_in_the_data_folder(data_folder: Path, idx_set) -> None:
    with pytest.raises(DataError, match="run `gpukit data fetch fashion-mnist`"):
        load("fashion-mnist")
    idx_set(data_folder / "fashion-mnist")
    assert load("fashion-mnist").class_names[9] == "Ankle boot"
    assert load(data_folder / "fashion-mnist").class_names[9] == "Ankle boot"
    (data_folder / "fashion-mnist" / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz not in"):
        load("fashion-mnist")
    with pytest.raises(DataError, match="gpukit data fetch cifar10"):
        load("cifar10")


@pytest.mark.parametrize(("name", "mean"), [("mnist", 0.1307), ("fashion-mnist", 0.2860)])
def test_whole_sets(
    official: Path, monkeypatch: pytest.MonkeyPatch, name: str, mean: float
) -> None:
    monkeypatch.setenv("GPUKIT_DATA", str(official))
    data = load(name)
    assert data.train_images.shape == (60_000, 28, 28, 1)
    assert data.test_images.shape == (10_000, 28, 28, 1)
    assert data.train_images.mean() / 255 == pytest.approx(mean, abs=1e-4)


def test_more_than_ten_classes(tmp_path: Path, idx_set) -> None:
    assert load(idx_set(tmp_path / "letters", train=52, classes=26)).classes == 26
    assert load(idx_set(tmp_path / "two", classes=2)).classes == 2


def bad(folder: Path, name: str, content: bytes) -> None:
    for path in folder.glob(f"{name}*"):
        path.unlink()
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("name", "array", "reason"),
    [
        ("train-labels-idx1-ubyte", np.zeros(19, np.uint8), "20 images.* 19 labels"),
        ("train-labels-idx1-ubyte", np.full(20, 200, np.uint8), "label 200 of image 0"),
        ("t10k-labels-idx1-ubyte", np.full(10, 10, np.uint8), "label 10 of image 0"),
        ("t10k-labels-idx1-ubyte", np.zeros((10, 1), np.uint8), "2 dimensions"),
        ("train-images-idx3-ubyte", np.zeros((20, 30), np.uint8), "2 dimensions"),
        ("train-images-idx3-ubyte", np.zeros((20, 6, 4), np.uint8), "one size"),
        ("train-images-idx3-ubyte", np.zeros((0, 6, 5), np.uint8), "0 images"),
        ("train-images-idx3-ubyte", np.zeros((20, 0, 5), np.uint8), "is empty"),
    ],
)
def test_parts_that_do_not_fit(
    tmp_path: Path, idx_set, name: str, array: np.ndarray, reason: str
) -> None:
    bad(idx_set(tmp_path), name, idx_bytes(array))
    for limit in (None, 3):
        with pytest.raises(DataError, match=reason) as error:
            load(tmp_path, limit=limit)
        assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


def test_other_element_types_are_refused(tmp_path: Path, idx_set) -> None:
    folder = idx_set(tmp_path)
    bad(folder, "train-labels-idx1-ubyte", b"\0\0\x0d\x01\0\0\0\x14" + bytes(80))
    with pytest.raises(DataError, match="float32; whole numbers"):
        load(folder)


def test_corrupt_and_truncated_files(tmp_path: Path, idx_set) -> None:
    for content in (b"not data", gzip.compress(b"x" * 100), b""):
        bad(idx_set(tmp_path), "t10k-images-idx3-ubyte", content)
        with pytest.raises(DataError, match="t10k-images-idx3-ubyte"):
            load(tmp_path)


def test_what_is_not_a_set(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_bytes(b"")
    with pytest.raises(DataError, match="is empty"):
        load(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="no images that gpukit knows"):
        load(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        load(tmp_path / "notes.txt")
    with pytest.raises(DataError, match=r"neither a data set's name nor a folder.*fashion-mnist"):
        load("imagenet")
    for limit in (0, -1):
        with pytest.raises(SettingError, match="limit"):
            load(limit=limit)


def test_one_file_lacks(tmp_path: Path, idx_set) -> None:
    folder = idx_set(tmp_path)
    (folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="lacks train-labels-idx1-ubyte"):
        load(folder)

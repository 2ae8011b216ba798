"""What `gpukit data list` and `show` are told."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from gpukit.data import catalogue, contact_sheet, describe, load
from gpukit.errors import SettingError


def test_catalogue(data_folder: Path, idx_set) -> None:
    idx_set(data_folder / "mnist")
    entries = {entry.name: entry for entry in catalogue()}
    assert list(entries) == ["fashion-mnist-small", "mnist", "fashion-mnist", "cifar10"]
    assert [entry.here for entry in entries.values()] == [True, True, False, False]
    assert entries["cifar10"].missing == ("cifar-10-binary.tar.gz",)
    assert entries["cifar10"].folder == data_folder / "cifar10"


def test_describe(tmp_path: Path, idx_set) -> None:
    data = load(idx_set(tmp_path / "mine"))
    told = json.loads(json.dumps(describe(data)))
    assert told["train"] == 20 and told["test"] == 10 and told["image_shape"] == [6, 5, 1]
    assert told["classes"][3] == {"name": "3", "train": 2, "test": 1}
    assert told["mean"][0] == pytest.approx(data.train_images.mean() / 255)
    assert told["std"][0] == pytest.approx(data.train_images.std() / 255)


def test_contact_sheet(tmp_path: Path, idx_set) -> None:
    data = load(idx_set(tmp_path / "mine"))
    sheet = contact_sheet(data, 3)
    assert sheet.shape == (10 * 6, 3 * 5, 1)
    np.testing.assert_array_equal(sheet[4 * 6 : 5 * 6, 5:10], data.train_images[14])
    assert sheet[:, 10:].max() == 0
    with pytest.raises(SettingError):
        contact_sheet(data, 0)

"""Data sets become folders of pictures, all or nothing, and come back from them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from photos import photo
from PIL import Image

from gpukit.data import Augment, Dataset, ImageFeed, export, load, scan
from gpukit.errors import DataError, SettingError


@pytest.fixture
def dataset():
    images = np.stack([photo(32, 32, seed) for seed in range(18)])
    labels = np.arange(18) % 3
    return Dataset(
        "mine", images[:12], labels[:12], images[12:], labels[12:], ("cat", "a/b", "dog")
    )


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_pngs_come_back_to_the_bit(tmp_path, dataset):
    steps = []
    counts = export(dataset, tmp_path / "out", format="png", progress=lambda *at: steps.append(at))
    assert counts == {"train": 12, "val": 6}
    assert steps == [(n, 18) for n in range(1, 19)]
    assert tree(tmp_path / "out")[:5] == [
        "train/a-b/00002.png",
        "train/a-b/00005.png",
        "train/a-b/00008.png",
        "train/a-b/00011.png",
        "train/cat/00001.png",
    ]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    found = scan(tmp_path / "out")
    assert found.class_names == ("a-b", "cat", "dog")
    for items, images in ((found.train, dataset.train_images), (found.val, dataset.test_images)):
        (batch,) = ImageFeed(items, 100, 32, Augment("centre", False), resize=32).epoch()
        order = [int(Path(name).stem) - 1 for name in items.names]
        np.testing.assert_array_equal(batch.x, images[order])


@pytest.mark.skipif(os.name != "posix", reason="needs limits of files' sizes")
def test_a_disk_that_fills_up_is_noticed(tmp_path):
    program = """
import resource, signal, sys
from gpukit.data import export, load
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
export(load(limit=3), sys.argv[1])
"""
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", program, str(out)], capture_output=True, text=True, timeout=300
    )
    assert f"DataError: {out}: cannot be written (File too large)" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_jpegs_have_the_quality_asked_for(tmp_path, dataset):
    far = {}
    for quality in (50, 95):
        out = tmp_path / str(quality)
        export(dataset, out, quality=quality)
        with Image.open(out / "train" / "cat" / "00001.jpg") as picture:
            assert picture.format == "JPEG" and picture.mode == "RGB"
            assert {size[:2] for size in [layer[1:3] for layer in picture.layer]} == {(1, 1)}
            pixels = np.asarray(picture).astype(int)
        far[quality] = np.abs(pixels - dataset.train_images[0]).mean()
    assert far[95] < 4 < far[50]


def test_grey_sets(tmp_path):
    export(load(limit=20), tmp_path / "out", format="png")
    names = {p.name for p in (tmp_path / "out" / "train").iterdir()}
    assert "T-shirt-top" in names
    first = next((tmp_path / "out" / "train").rglob("00001.png"))
    with Image.open(first) as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), load(limit=1).train_images[0, ..., 0])


class Broken(Exception):
    pass


def test_a_broken_export_is_not_taken_for_whole(tmp_path, dataset):
    def stop(done: int, total: int) -> None:
        if done == 7:
            assert not (tmp_path / "out").exists()
            raise Broken

    with pytest.raises(Broken):
        export(dataset, tmp_path / "out", progress=stop)
    assert list(tmp_path.iterdir()) == []
    # What a killed one left is taken away.
    left = tmp_path / ".out.part" / "train" / "old"
    left.mkdir(parents=True)
    (left / "00001.jpg").touch()
    export(dataset, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert len(tree(tmp_path / "out")) == 18


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked on this system")
def test_two_exports_to_one_folder(tmp_path, dataset):
    """The second is refused while the first writes, and changes nothing of it."""
    out = tmp_path / "out"
    refused = []

    def meanwhile(done, total):
        if done == 3:
            with pytest.raises(DataError, match=r"out: is being written by another export"):
                export(dataset, out)
            refused.append(done)

    counts = export(dataset, out, progress=meanwhile)
    assert refused == [3]
    assert len(list(out.rglob("*.jpg"))) == sum(counts.values())
    with pytest.raises(DataError, match="is there already"):
        export(dataset, out)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_nothing_is_overwritten(tmp_path, dataset):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    with pytest.raises(DataError, match=r"mine: is there already"):
        export(dataset, tmp_path / "mine")
    with pytest.raises(DataError, match="is there already"):
        export(dataset, tmp_path / "mine" / "photo.jpg")
    assert tree(tmp_path) == ["mine/photo.jpg"]
    (tmp_path / "empty").mkdir()
    export(dataset, tmp_path / "empty")
    with pytest.raises(DataError, match="cannot be written"):
        export(dataset, tmp_path / "mine" / "photo.jpg" / "out")


def test_settings_out_of_range(tmp_path, dataset):
    for settings in ({"format": "tiff"}, {"quality": 0}, {"quality": 101}):
        with pytest.raises(SettingError):
            export(dataset, tmp_path / "out", **settings)
    two = Dataset("x", *[dataset.train_images, dataset.train_labels] * 2, ("a/b", "a-b", "c"))
    with pytest.raises(DataError, match="two would be one folder"):
        export(two, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []

"""The embedded set: its bytes, its balance, where it comes from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from gpukit.data import load
from gpukit.data.idx import read_idx
from gpukit.data.load import EMBEDDED
from gpukit.data.make_embedded import chosen, pack

# What `python -m gpukit.data.make_embedded ../shared/data/fashion-mnist` prints.
SHA256 = {
    "LICENSE.txt": "193c9c47fa3dc7e614dcd5f4ea5315d69c0a542b698b64dc34ac5bc4b09d5c3a",
    "t10k-images-idx3-ubyte.xz": "8020a91ce5fa0cd69b7f999b4c609309517e92b89734f15d786baf513b68f0a0",
    "t10k-labels-idx1-ubyte.xz": "2e0e82f95796983c6ad9765121cb838d93c52b5cd3ee4c68d426bea967b37f87",
    "train-images-idx3-ubyte.xz": (
        "ae6c7227e9ae6900e026ee71367622de517c7491b037209532d203c9395b86f5"
    ),
    "train-labels-idx1-ubyte.xz": (
        "25b9421accedb958b2c96a96a5ad9a6edad9e04a6b37dd189e7592c8455a43c3"
    ),
}


def test_files_are_those_that_the_script_made() -> None:
    for name, digest in SHA256.items():
        assert hashlib.sha256((EMBEDDED / name).read_bytes()).hexdigest() == digest, name
    packed = [path for path in EMBEDDED.iterdir() if path.suffix == ".xz"]
    assert len(packed) == 4
    assert sum(path.stat().st_size for path in packed) < 12_000_000
    assert "Zalando" in (EMBEDDED / "LICENSE.txt").read_text()


def test_what_loads() -> None:
    data = load()
    assert data.train_images.shape == (18_000, 28, 28, 1)
    assert data.test_images.shape == (10_000, 28, 28, 1)
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert data.image_shape == (28, 28, 1) and data.classes == 10
    assert data.class_names[0] == "T-shirt/top" and data.class_names[9] == "Ankle boot"
    assert (np.bincount(data.train_labels) == 1800).all()
    assert (np.bincount(data.test_labels) == 1000).all()


def test_a_prefix_is_roughly_balanced() -> None:
    data = load(limit=1000)
    assert len(data.train_labels) == len(data.test_images) == 1000
    counts = np.bincount(data.train_labels, minlength=10)
    assert counts.min() > 70 and counts.max() < 130
    np.testing.assert_array_equal(data.train_images, load().train_images[:1000])


def test_it_is_the_official_data(official: Path) -> None:
    data = load()
    source = official / "fashion-mnist"
    labels = read_idx(source / "train-labels-idx1-ubyte.gz")
    images = read_idx(source / "train-images-idx3-ubyte.gz")
    indices = chosen(labels)
    assert len(np.unique(indices)) == 18_000
    np.testing.assert_array_equal(data.train_labels, labels[indices])
    np.testing.assert_array_equal(data.train_images[..., 0], images[indices])
    test_images = read_idx(source / "t10k-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(data.test_images[..., 0], test_images)
    # Made anew to the byte; the images take the script ten seconds and are compared above.
    for name, array in (("train", labels[indices]), ("t10k", data.test_labels)):
        made = pack(array.astype(np.uint8))
        assert made == (EMBEDDED / f"{name}-labels-idx1-ubyte.xz").read_bytes()


def test_packing_is_lossless(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 3, 2), dtype=np.uint8)
    (tmp_path / "x").write_bytes(pack(array))
    np.testing.assert_array_equal(read_idx(tmp_path / "x"), array)

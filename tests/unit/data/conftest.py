"""Data files for these tests: small ones made here, the whole sets where they are at hand."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from gpukit.data.idx import write_idx
from gpukit.data.sources import IDX_NAMES


def _find_official() -> Path | None:
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    chosen = os.environ.get("GPUKIT_DATA")
    for folder in (Path(chosen) if chosen else beside, beside):
        if (folder / "fashion-mnist" / f"{IDX_NAMES[0]}.gz").exists():
            return folder
    return None


_OFFICIAL = _find_official()


@pytest.fixture
def official() -> Path:
    """Folder that holds mnist/ and fashion-mnist/, whole."""
    if _OFFICIAL is None:
        pytest.skip("needs the official files in ../shared/data or GPUKIT_DATA")
    return _OFFICIAL


@pytest.fixture(autouse=True)
def data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder of the test's own."""
    folder = tmp_path / "data"
    monkeypatch.setenv("GPUKIT_DATA", str(folder))
    monkeypatch.delenv("GPUKIT_DATA_MIRROR", raising=False)
    return folder


def idx_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    write_idx(stream, array)
    return stream.getvalue()


@pytest.fixture
def idx_set() -> Callable[..., Path]:
    """Writes a small set: write(folder, train=20, test=10, classes=10) -> folder."""

    def write(folder: Path, train: int = 20, test: int = 10, classes: int = 10) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(3)
        for part, count in (("train", train), ("t10k", test)):
            images = rng.integers(0, 256, (count, 6, 5), dtype=np.uint8)
            labels = (np.arange(count) % classes).astype(np.uint8)
            packed = gzip.compress(idx_bytes(images))
            (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(packed)
            (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        return folder

    return write

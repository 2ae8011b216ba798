"""Data files for these tests: small ones made here, the whole sets where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from data_on_disk import write_set

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


@pytest.fixture
def idx_set() -> Callable[..., Path]:
    """Writes a small set: write(folder, train=20, test=10, classes=10) -> folder."""
    return partial(write_set, train=20, test=10, size=(6, 5), packed=True)

"""No file has grown into several rooms: a budget of lines, for code and for tests."""

from __future__ import annotations

import pytest
from sources import CHECKOUT, PACKAGE

MOST_LINES = 500

FOLDERS = (PACKAGE, CHECKOUT / "kernels", CHECKOUT / "tests", CHECKOUT / "bench")


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_files_stay_within_their_budget(folder):
    files = [p for suffix in ("py", "cu", "cuh") for p in folder.rglob(f"*.{suffix}")]
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in files}
    long = {str(path): lines for path, lines in lengths.items() if lines > MOST_LINES}
    assert long == {}, f"cut these at {MOST_LINES} lines, each part with a purpose of its own"

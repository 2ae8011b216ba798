"""Files that may hold anything are read within bounds, or refused by name."""

from __future__ import annotations

import os

import pytest

from gpukit.core.files import read_at_most
from gpukit.errors import CheckpointError, DataError


def test_a_file_within_its_bound_is_read_whole(tmp_path):
    file = tmp_path / "small"
    file.write_bytes(b"12345")
    assert read_at_most(5, file) == b"12345"


def test_a_longer_one_is_refused_by_name_before_it_is_taken(tmp_path):
    file = tmp_path / "sparse"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(CheckpointError, match=r"sparse: has more than 5 bytes"):
        read_at_most(5, file, CheckpointError)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="is a pipe"):
        read_at_most(5, tmp_path / "pipe")

"""Every behaviour of a server ends in the right file, or in one line that names the address."""

from __future__ import annotations

import gzip
import hashlib
import os
import random
import re
from pathlib import Path

import pytest
from harness import count
from servers import BEHAVIOURS, CONTENT, RIGHT, can_sign, serving

FILE = "train-images-idx3-ubyte.gz"
OTHERS = (
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
# The data set is the servers', half a second stands for half a minute.
FETCH = f"""
from gpukit.cli import main
from gpukit.data import download
from gpukit.data.sources import SOURCES, RemoteFile, Source

download.TIMEOUT, download.PAUSE = 0.5, 0.001
names, digest = {(FILE, *OTHERS)!r}, {hashlib.sha256(CONTENT).hexdigest()!r}
files = tuple(RemoteFile(n, "sha256", digest, 200_000, {len(CONTENT)}) for n in names)
SOURCES["mnist"] = Source("mnist", "", (), files, ())
main(["data", "fetch", "mnist", "--quiet"])
"""
CHOSEN = random.Random("servers").sample(sorted(BEHAVIOURS), count(len(BEHAVIOURS)))


@pytest.mark.parametrize("name", CHOSEN)
def test_servers(commands, survived, tmp_path, name):
    if name == "own_certificate" and not can_sign():
        pytest.skip("needs openssl")
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for other in OTHERS:
        (folder / other).touch()
    words = BEHAVIOURS[name][1]
    with serving(name, tmp_path) as server:
        outcome = commands(
            program=FETCH,
            env={
                "GPUKIT_DATA": str(tmp_path / "data"),
                "GPUKIT_DATA_MIRROR": server.address,
                "no_proxy": "*",
            },
        )
    survived("servers", outcome, server.address, case=name, codes=(2,) if words else (0,))
    if words == RIGHT:
        assert gzip.decompress((folder / FILE).read_bytes()) == CONTENT, outcome.err
        assert {path.name for path in folder.iterdir()} == {".lock", FILE, *OTHERS}
    else:
        assert re.search(words, outcome.err), outcome.err
        assert not (folder / FILE).exists()
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 200_000


def test_what_came_slowly_is_kept(commands, survived, tmp_path):
    """A later call goes on from there."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for other in OTHERS:
        (folder / other).touch()
    env = {"GPUKIT_DATA": str(tmp_path / "data"), "no_proxy": "*"}
    with serving("ten_bytes_a_request", tmp_path) as server:
        outcome = commands(program=FETCH, env={**env, "GPUKIT_DATA_MIRROR": server.address})
    survived("servers", outcome, server.address, codes=(2,))
    assert (folder / f"{FILE}.part").stat().st_size == 40
    with serving("good", tmp_path) as server:
        outcome = commands(program=FETCH, env={**env, "GPUKIT_DATA_MIRROR": server.address})
    survived("servers", outcome, codes=(0,))
    assert gzip.decompress((folder / FILE).read_bytes()) == CONTENT


@pytest.mark.parametrize("name", [f"{FILE}.part", ".lock", FILE])
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/dev/zero"), lambda p: p.symlink_to(p)],
    ids=["fifo", "folder", "device", "link to itself"],
)
def test_what_lies_in_the_way(commands, survived, tmp_path, name, make):
    """It is done without, or the folder is named; nothing waits for a pipe or reads for ever."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for other in OTHERS:
        (folder / other).touch()
    make(folder / name)
    with serving("good", tmp_path) as server:
        env = {"GPUKIT_DATA": str(tmp_path / "data"), "GPUKIT_DATA_MIRROR": server.address}
        outcome = commands(program=FETCH, env={**env, "no_proxy": "*"})
    survived("files in the way of downloads", outcome, folder, case=name)
    if outcome.code == 0 and (folder / FILE).is_file():
        assert gzip.decompress((folder / FILE).read_bytes()) == CONTENT


@pytest.mark.parametrize("value", ["fast", "-1", "1e3", "²"])
def test_a_speed_that_is_none(commands, survived, tmp_path, value):
    env = {"GPUKIT_DATA": str(tmp_path), "GPUKIT_DATA_SLOWEST": value}
    outcome = commands("data", "fetch", "mnist", env=env)
    survived("settings of downloads", outcome, "GPUKIT_DATA_SLOWEST", codes=(2,))

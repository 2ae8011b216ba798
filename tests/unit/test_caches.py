"""Entries are whole, of their name, made once, and done without where they cannot be kept."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gpukit.core import caches, locks
from gpukit.core.caches import Cache, CacheWarning
from gpukit.errors import GpukitError

THINGS = Cache("things", ".bin")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GPUKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(caches.SPARE, "")  # put back at the end, whatever the test has set
    return tmp_path / "cache"


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if not p.is_dir())


def test_what_was_written_is_read():
    assert THINGS.read("key") is None
    for content in (b"", b"content", bytes(100_000), b"shorter"):
        assert THINGS.write("key", content) == THINGS.folder / THINGS._name("key")
        assert THINGS.read("key") == content
    assert THINGS.read("other key") is None
    THINGS.drop("key")
    THINGS.drop("key")
    assert THINGS.read("key") is None
    assert files(THINGS.folder) == []


@pytest.mark.parametrize("key", ["", "a/b\0c", "\udcff", "x" * 100_000, "../../up"])
def test_keys_of_any_kind(folder, key):
    THINGS.write(key, b"1")
    assert THINGS.read(key) == b"1"
    assert [p.parent for p in files(folder)] == [folder / "things"]


def test_an_entry_of_another_name_or_kind_does_not_hold():
    mine = THINGS.write("mine", b"1")
    Cache("others", ".bin").write("mine", b"2")
    mine.write_bytes(THINGS.write("other", b"3").read_bytes())
    assert THINGS.read("mine") is None
    assert not mine.exists()
    mine.write_bytes((Cache("others").folder / mine.name).read_bytes())
    assert THINGS.read("mine") is None


def test_an_entry_beyond_bounds_is_not_read(monkeypatch):
    THINGS.write("key", bytes(1000))
    monkeypatch.setattr(caches, "MOST", 999)
    assert THINGS.read("key") is None


def test_threads_make_a_file_once():
    made, found = [], []

    def make() -> bytes:
        made.append(1)
        time.sleep(0.05)
        return b"content"

    threads = [
        threading.Thread(target=lambda: found.append(THINGS.file("key", make))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 1 and len(found) == 8 and len(set(found)) == 1
    assert THINGS.read("key") == b"content"
    assert files(THINGS.folder) == found[:1]


def test_what_cannot_be_made_leaves_nothing(folder):
    with pytest.raises(ZeroDivisionError):
        THINGS.file("key", lambda: bytes(1 // 0))
    assert files(folder) == []
    assert THINGS.file("key", lambda: b"1").read_bytes().startswith(b"1")


@pytest.mark.skipif(locks.fcntl is None, reason="no locks here")
def test_a_part_that_another_one_holds(folder, monkeypatch):
    """It is waited for, but not for ever."""
    monkeypatch.setattr(caches, "WAIT", 0.05)
    monkeypatch.setattr(caches, "MOMENT", 0.05)
    part = THINGS.folder / f".{THINGS._name('key')}.part"
    part.parent.mkdir(parents=True)
    with caches._held(part, 1):
        assert THINGS.write("key", b"1") is None
        spared = THINGS.file("key", lambda: b"1")
        assert spared.is_relative_to(os.environ[caches.SPARE])
    assert not part.exists()
    assert THINGS.write("key", b"2") is not None


NO_ROOM = """
import os, sys, warnings
from gpukit.core import caches, locks
from gpukit.core.caches import Cache
warnings.simplefilter("error", caches.CacheWarning)
try:
    caches.prepare()
except caches.CacheWarning as warning:
    print(warning)
things = Cache("things")
assert things.write("key", b"1") is None
assert (things.read("key") is None) == ("child" not in sys.argv)
path = things.file("key", lambda: b"library")
assert path.read_bytes().startswith(b"library") and things.read("key") == b"library"
print(path, flush=True)
if "child" not in sys.argv:
    import subprocess
    subprocess.run([sys.executable, __file__, "child"], check=True)
"""


def test_without_room_a_file_is_shared_with_children(tmp_path, folder):
    folder.touch()
    script = tmp_path / "script.py"
    script.write_text(NO_ROOM)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    warning, *paths = sorted(done.stdout.splitlines(), key=lambda line: line.startswith("/"))
    assert warning.startswith(f"the cache {folder} cannot be written (")
    assert len(paths) == 2 and paths[0] == paths[1]
    assert not Path(paths[0]).parent.parent.exists(), "removed with its maker"


def test_it_is_said_once(folder):
    folder.touch()
    with pytest.warns(CacheWarning, match="GPUKIT_CACHE") as said:
        for key in "abc":
            assert THINGS.write(key, b"1") is None
    assert len(said) == 1


def test_without_any_room_the_way_out_is_said(folder, monkeypatch):
    folder.touch()
    monkeypatch.setenv(caches.SPARE, str(folder / "no folder"))
    with pytest.raises(GpukitError, match="make room, or set GPUKIT_CACHE or TMPDIR"):
        THINGS.file("key", lambda: b"1")

"""Downloads against a local server that breaks off, lies, or cannot resume."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from gpukit.core import locks
from gpukit.data import download, fetch, load
from gpukit.data.sources import SOURCES, RemoteFile, Source
from gpukit.errors import DataError, SettingError

CONTENT = np.random.default_rng(0).integers(0, 9, 300_000, dtype=np.uint8).tobytes()
PACKED = gzip.compress(CONTENT, mtime=0)
FILE = "train-images-idx3-ubyte.gz"
NAMES = (
    FILE,
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


class Server(ThreadingHTTPServer):
    """Serves `content` under every path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = PACKED
        self.ranges = True
        self.says_length = True
        self.status: list[int] = []  # answers of the next requests, instead of the content
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.asked: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append((self.path, asked))
        if server.status:
            self.send_error(server.status.pop(0))
            return
        start = 0
        if asked and server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            if start >= len(server.content):
                self.send_error(416)
                return
            self.send_response(206)
            last = len(server.content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        if server.says_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.breaks.pop(0)] if server.breaks else body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("GPUKIT_DATA_MIRROR", server.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def small_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """MNIST's four files, all with the content of this test."""
    digest = hashlib.sha256(CONTENT).hexdigest()
    files = tuple(RemoteFile(name, "sha256", digest, 10**6, len(CONTENT)) for name in NAMES)
    monkeypatch.setitem(SOURCES, "mnist", Source("mnist", "", ("http://0.0.0.0:1/",), files, ()))


def held(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def put_others(folder: Path) -> Path:
    """All files but the first, so that a test is of one download."""
    folder.mkdir(parents=True)
    for name in NAMES[1:]:
        (folder / name).write_bytes(b"as it is")
    return folder


def test_all_files_come(server: Server, data_folder: Path) -> None:
    seen = []
    folder = fetch("mnist", progress=lambda *step: seen.append(step))
    assert folder == data_folder / "mnist" and held(folder) == set(NAMES)
    assert all((folder / name).read_bytes() == PACKED for name in NAMES)
    assert [path for path, _ in server.asked] == [f"/mnist/{name}" for name in NAMES]
    assert seen[0] == (FILE, 0, len(PACKED)) and seen[-1] == (NAMES[3], len(PACKED), len(PACKED))
    for name in NAMES:
        done = [step[1] for step in seen if step[0] == name]
        assert done == sorted(done)
    server.asked.clear()
    assert fetch("mnist") == folder and not server.asked


def test_files_already_there_are_used_as_they_are(server: Server, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / FILE.removesuffix(".gz")).write_bytes(b"plain")
    (folder / NAMES[1]).write_bytes(b"packed")
    assert fetch("mnist", folder) == folder
    assert [path for path, _ in server.asked] == [f"/mnist/{name}" for name in NAMES[2:]]
    assert (folder / NAMES[1]).read_bytes() == b"packed"
    assert held(folder) == {FILE.removesuffix(".gz"), *NAMES[1:]}


def test_a_broken_download_is_resumed(server: Server, data_folder: Path) -> None:
    folder = put_others(data_folder / "mnist")
    server.breaks = [1000, 50_000, 0, 10]
    fetch("mnist")
    assert (folder / FILE).read_bytes() == PACKED
    ranges = [asked for _, asked in server.asked]
    assert ranges == [None, "bytes=1000-", "bytes=51000-", "bytes=51000-", "bytes=51010-"]
    assert held(folder) == set(NAMES)


def test_without_ranges_it_starts_anew(server: Server, data_folder: Path) -> None:
    folder = put_others(data_folder / "mnist")
    server.ranges = False
    server.breaks = [1000, 50_000]
    fetch("mnist")
    assert (folder / FILE).read_bytes() == PACKED


def test_a_later_call_resumes(server: Server, data_folder: Path) -> None:
    folder = put_others(data_folder / "mnist")
    server.breaks = [2000] + [0] * 10
    with pytest.raises(DataError, match="cannot be fetched"):
        fetch("mnist")
    assert (folder / f"{FILE}.part").stat().st_size == 2000
    server.breaks, server.asked = [], []
    fetch("mnist")
    assert [asked for _, asked in server.asked] == ["bytes=2000-"]
    assert (folder / FILE).read_bytes() == PACKED


def test_a_whole_piece_needs_no_request(server: Server, data_folder: Path) -> None:
    folder = put_others(data_folder / "mnist")
    (folder / f"{FILE}.part").write_bytes(PACKED)
    fetch("mnist")
    assert not server.asked and held(folder) == set(NAMES)


@pytest.mark.parametrize("piece", [b"of another file", PACKED + b"longer", bytes(len(PACKED))])
def test_a_piece_of_another_file(server: Server, data_folder: Path, piece: bytes) -> None:
    folder = put_others(data_folder / "mnist")
    (folder / f"{FILE}.part").write_bytes(piece)
    fetch("mnist")
    assert (folder / FILE).read_bytes() == PACKED


def test_another_gzip_form_of_the_same_contents_is_right(server: Server, data_folder: Path) -> None:
    folder = put_others(data_folder / "mnist")
    server.content = gzip.compress(CONTENT, 1, mtime=5)
    fetch("mnist")
    assert (folder / FILE).read_bytes() == server.content


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(CONTENT[:-1] + b"\1"),
        gzip.compress(CONTENT + b"\0"),
        b"<html>sign in to the hotel's network</html>",
        PACKED[:-9],
        b"",
    ],
)
def test_wrong_contents_leave_nothing(server: Server, data_folder: Path, content: bytes) -> None:
    folder = put_others(data_folder / "mnist")
    server.content = content
    with pytest.raises(DataError, match=rf"checksum.*put {FILE} into") as error:
        fetch("mnist")
    assert "\n" not in str(error.value) and str(folder) in str(error.value)
    assert held(folder) == set(NAMES[1:])


@pytest.mark.parametrize("says_length", [True, False])
def test_too_long_an_answer_is_refused(
    server: Server, data_folder: Path, says_length: bool
) -> None:
    put_others(data_folder / "mnist")
    server.content, server.says_length = bytes(3_000_000), says_length
    with pytest.raises(DataError, match="more"):
        fetch("mnist")
    assert sum(path.stat().st_size for path in (data_folder / "mnist").iterdir()) < 1_500_000


def test_absent_files_are_not_asked_for_again(server: Server, data_folder: Path) -> None:
    server.status = [404] * 9
    with pytest.raises(DataError, match="404") as error:
        fetch("mnist")
    assert len(server.asked) == 1
    message = str(error.value)
    assert f"{server.address}/mnist/{FILE}" in message and str(data_folder / "mnist") in message
    assert all(name in message for name in NAMES) and "\n" not in message


def test_a_busy_server_is_asked_again(server: Server, data_folder: Path) -> None:
    put_others(data_folder / "mnist")
    server.status = [503, 429, 500]
    fetch("mnist")
    assert len(server.asked) == 4
    (data_folder / "mnist" / FILE).unlink()
    server.status = [503] * 9
    with pytest.raises(DataError, match="503"):
        fetch("mnist")


def test_the_second_address_helps(
    server: Server, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GPUKIT_DATA_MIRROR")
    source = SOURCES["mnist"]
    addresses = (f"{server.address}/first/", f"{server.address}/second/")
    monkeypatch.setitem(
        SOURCES, "mnist", Source("mnist", "", addresses, source.files, source.class_names)
    )
    server.status = [404]
    put_others(data_folder / "mnist")
    fetch("mnist")
    assert [path for path, _ in server.asked] == [f"/first/{FILE}", f"/second/{FILE}"]


def test_no_network(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    monkeypatch.setenv("no_proxy", "*")
    for mirror in ("http://127.0.0.1:9", "http://no-such-host.invalid", "file:///no/such"):
        with pytest.raises(DataError) as error:
            fetch("mnist", mirror=mirror)
        assert mirror in str(error.value) and "\n" not in str(error.value)
        assert str(data_folder / "mnist") in str(error.value)


def test_a_folder_as_mirror(data_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "mirror" / "mnist").mkdir(parents=True)
    for name in NAMES:
        (tmp_path / "mirror" / "mnist" / name).write_bytes(PACKED)
    assert held(fetch("mnist", mirror=(tmp_path / "mirror").as_uri())) == set(NAMES)


def test_names_and_mirrors_are_checked() -> None:
    with pytest.raises(DataError, match="fetch one of mnist, fashion-mnist, cifar10"):
        fetch("imagenet")
    with pytest.raises(SettingError, match="mirror 'ftp://x'"):
        fetch("mnist", mirror="ftp://x")
    assert (fetch("fashion-mnist-small") / "LICENSE.txt").exists()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match=r"cannot be written.*GPUKIT_DATA"):
        fetch("mnist", tmp_path / "file" / "folder")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk(server: Server, data_folder: Path) -> None:
    folder = put_others(data_folder / "mnist")
    (folder / f"{FILE}.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left"):
        fetch("mnist")
    assert not (folder / FILE).exists() and len(server.asked) == 1


FETCH = """
import sys
from gpukit.data import fetch
from gpukit.data.sources import SOURCES, RemoteFile, Source
names, digest, length = sys.argv[1].split(","), sys.argv[2], int(sys.argv[3])
files = tuple(RemoteFile(name, "sha256", digest, 10**6, length) for name in names)
SOURCES["mnist"] = Source("mnist", "", (), files, ())
fetch("mnist")
"""


def test_two_processes_at_once(server: Server, data_folder: Path) -> None:
    digest = hashlib.sha256(CONTENT).hexdigest()
    command = [sys.executable, "-c", FETCH, ",".join(NAMES), digest, str(len(CONTENT))]
    server.breaks = [40_000] * 6
    running = [subprocess.Popen(command, env=os.environ.copy()) for _ in range(2)]
    assert [process.wait(60) for process in running] == [0, 0]
    assert held(data_folder / "mnist") == set(NAMES)
    assert all((data_folder / "mnist" / name).read_bytes() == PACKED for name in NAMES)
    # One fetched, the other waited: each file was asked for from its start once.
    assert [asked for _, asked in server.asked].count(None) == len(NAMES)


@pytest.mark.skipif(locks.fcntl is None, reason="another lock than POSIX's is not tried here")
@pytest.mark.parametrize("written", [True, False])
def test_a_download_of_another_process_that_stands_still(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, written: bool
) -> None:
    module = sys.modules["gpukit.data.fetch"]
    ticks = [0.0]

    def sleep(seconds: float) -> None:
        ticks[0] += seconds
        if written:  # a byte now and then, then the end
            part.write_bytes(b"1")
            os.utime(part, ns=(0, int(ticks[0] * 1e9)))
            if ticks[0] > 2 * module._PATIENCE:
                fcntl.flock(holder, fcntl.LOCK_UN)

    monkeypatch.setattr(module.time, "sleep", sleep)
    folder = data_folder / "mnist"
    folder.mkdir(parents=True)
    part, lock = folder / f"{FILE}.part", folder / ".lock"
    for name in NAMES:
        (folder / name.removesuffix(".gz")).touch()
    with lock.open("wb") as holder:
        fcntl = locks.fcntl
        fcntl.flock(holder, fcntl.LOCK_EX)
        if written:
            assert fetch("mnist") == folder
        else:
            way_out = f"another process holds {lock} and has written nothing for 600 s; continue it"
            with pytest.raises(DataError, match=re.escape(way_out)):
                fetch("mnist")


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist"])
def test_official_files_have_the_right_checksums(
    official: Path, data_folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("GPUKIT_DATA", str(data_folder))
    fetch(name, mirror=official.as_uri())
    assert len(load(name).train_images) == 60_000


def test_a_disk_with_less_room_than_the_file(
    server: Server, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = put_others(data_folder / "mnist")
    usage = download.shutil.disk_usage(folder)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(DataError, match=rf"{folder}: .*No space left.*{len(PACKED)} bytes"):
        fetch("mnist")
    assert held(folder) == set(NAMES[1:])

"""Disks without room, folders that take nothing, and paths that lead nowhere."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image
from runs_to_damage import IMAGE, write_set

NOBODY = 65534
# A command whose user may write into its own folder only; nobody can look into pytest's.
ELSEWHERE = """
import os, sys
from gpukit.cli import main
os.setgid({nobody}); os.setuid({nobody})
main({arguments!r})
"""
LITTLE_ROOM = """
import resource, signal
from gpukit.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # as Python has it from its start
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2)
main({arguments!r})
"""
GONE = """
import os
from gpukit.cli import main
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
main({arguments!r})
"""


@pytest.fixture(scope="module")
def place(server, tmp_path_factory) -> Path:
    """A folder with `set` and `photo.png`."""
    folder = tmp_path_factory.mktemp("disks")
    write_set(folder / "set")
    # Loops for these shapes are compiled, and kept, before there is no room.
    done = server(*training(folder, folder / "warm"), timeout=300)
    assert done.code == 0, done.err
    Image.effect_noise(IMAGE, 60).save(folder / "photo.png")
    return folder


def training(place: Path, out: object) -> list[str]:
    settings = ["--epochs", "1", "--batch-size", "10", "--quiet"]
    return ["train", "lenet5", "--data", str(place / "set"), *settings, "--out", str(out)]


@pytest.mark.parametrize("limit", [2_000, 20_000, 60_000, 100_000])
def test_a_disk_that_is_full_at_some_byte(commands, survived, place, tmp_path, limit):
    program = LITTLE_ROOM.format(limit=limit, arguments=training(place, tmp_path / "run"))
    outcome = commands(program=program, timeout=200)
    survived("disks", outcome, tmp_path / "run", case=limit)
    assert outcome.code == 2
    assert not list(tmp_path.glob("run/.*"))  # nothing half-written is left
    if (tmp_path / "run" / "last.safetensors").exists():
        read = commands("evaluate", tmp_path / "run" / "last.safetensors", "--data", place / "set")
        assert read.code == 0, read.err


@pytest.mark.parametrize("command", ["export", "show", "fetch"])
def test_no_room_for_data(commands, survived, place, tmp_path, command):
    arguments = {
        "export": ["data", "export", str(place / "set"), str(tmp_path / "out"), "--quiet"],
        "show": ["data", "show", str(place / "set"), "--picture", str(tmp_path / "sheet.png")],
        "fetch": ["data", "fetch", "mnist", "--quiet"],
    }[command]
    mirror = tmp_path / "mirror" / "mnist"
    mirror.mkdir(parents=True)
    for name in ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"):
        (mirror / name).write_bytes(os.urandom(20_000))
    outcome = commands(
        program=LITTLE_ROOM.format(limit=400, arguments=arguments),
        env={"GPUKIT_DATA": str(tmp_path / "data"), "GPUKIT_DATA_MIRROR": mirror.parent.as_uri()},
    )
    survived("disks", outcome, tmp_path, "mnist", case=command)
    assert outcome.code == 2


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root, to be nobody")
@pytest.mark.parametrize("what", ["out", "parent", "set", "checkpoint", "sheet"])
def test_no_permission(commands, survived, place, tmp_path, what):
    folders = [tmp_path, *tmp_path.parents]
    opened = [f for f in folders if f.stat().st_mode & 0o55 != 0o55]
    before = [f.stat().st_mode for f in opened]
    for folder in opened:
        folder.chmod(folder.stat().st_mode | 0o55)
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    open_set = write_set(tmp_path / "set")
    (shut / "x.safetensors").write_bytes(b"")
    arguments = {
        "out": training(tmp_path, shut),
        "parent": training(tmp_path, shut / "run"),
        "set": ["data", "show", str(shut)],
        "checkpoint": ["evaluate", str(shut / "x.safetensors"), "--data", str(open_set)],
        "sheet": ["data", "show", str(open_set), "--picture", str(shut / "sheet.png")],
    }[what]
    try:
        outcome = commands(
            program=ELSEWHERE.format(nobody=NOBODY, arguments=arguments),
            env={"GPUKIT_DATA": str(tmp_path / "data")},
        )
    finally:
        for folder, mode in zip(opened, before):
            folder.chmod(mode)
    survived("disks", outcome, shut, case=what)
    assert outcome.code == 2


@pytest.mark.parametrize(
    "name", ["file", "file/run", "n" * 300, "a/" * 2100, "link", "loop", "/dev/null/x", "/proc/x"]
)
def test_paths_that_cannot_be_folders(commands, survived, place, tmp_path, name):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere/at/all")
    (tmp_path / "loop").symlink_to("loop")
    out = tmp_path / name
    outcome = commands(*training(place, out))
    survived("disks", outcome, str(out)[:40], case=name)
    assert outcome.code == 2
    for command in (
        ("predict", out, place / "photo.png"), ("train", "--resume", out), ("data", "show", out),
        ("data", "export", place / "set", out, "--quiet"), ("evaluate", out),
    ):  # fmt: skip
        outcome = commands(*command)
        survived("disks", outcome, str(out)[:40], case=(name, command[0]))
        # A link to nowhere is a fine name for what is exported.
        assert outcome.code == 2 or (name, command[1]) == ("link", "export")


def test_the_folder_one_stands_in_is_gone(commands, survived, place):
    for arguments in (training(place, "run"), ["summary", "lenet5"], ["data", "show", "set"]):
        outcome = commands(program=GONE.format(arguments=arguments))
        survived("disks", outcome, "run", "set", case=arguments[0])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 100 kB and 40 inodes, where root may mount one."""
    folder = tmp_path / "small"
    folder.mkdir()
    options = "size=100k,nr_inodes=40"
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "gpukit", str(folder)], capture_output=True
        )
    except OSError as error:
        pytest.skip(f"no mount: {error}")
    if done.returncode:
        pytest.skip(f"no mount: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_full(commands, survived, place, small_disk):
    outcome = commands(*training(place, small_disk / "run"))
    survived("disks", outcome, small_disk, case="full")
    assert outcome.code == 2
    for number in range(60):
        try:
            (small_disk / f"{number}").touch()
        except OSError:
            break
    outcome = commands("data", "export", place / "set", small_disk / "out", "--quiet")
    survived("disks", outcome, small_disk, case="inodes")
    assert outcome.code == 2

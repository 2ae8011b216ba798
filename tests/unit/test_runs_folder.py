"""The folder of a run: kept checkpoints, names, and that it stays the one that was locked."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from small_runs import SETTINGS, assert_same_run, flip

from gpukit import runs
from gpukit.errors import SettingError
from gpukit.runs.folder import held
from gpukit.runs.saver import RunSaver
from gpukit.training import checkpoint


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    return out, runs.train(SETTINGS, out, verbose=0)


@pytest.fixture
def copy(tmp_path, unbroken):
    shutil.copytree(unbroken[0], tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("damage", [flip, lambda path: path.write_bytes(b"x"), Path.unlink])
def test_the_best_checkpoint_stands_in_for_a_damaged_last_one(copy, unbroken, damage):
    damage(copy / "last.safetensors")
    told = []
    result = runs.train(SETTINGS, copy, resume=True, verbose=0, tell=told.append)
    assert "last.safetensors" in told[0]
    assert re.fullmatch(r"going on from best.safetensors, epoch \d, step 0: the .*", told[1])
    assert_same_run(copy, unbroken[0])
    assert result.test_accuracy == unbroken[1].test_accuracy


KEEP = replace(SETTINGS, keep=3)
NAMES = ["last.safetensors", "last-2.safetensors", "last-3.safetensors"]


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    out = tmp_path_factory.mktemp("kept") / "run"
    runs.train(KEEP, out, verbose=0)
    return out


def epochs_of(out):
    found = sorted(out.glob("last*.safetensors"), key=lambda p: (len(p.name), p.name))
    return {p.name: checkpoint.read(p)[1]["training"]["epoch"] for p in found}


def test_the_last_checkpoints_are_kept(kept):
    assert epochs_of(kept) == dict(zip(NAMES, (5, 4, 3)))


@pytest.mark.parametrize("damaged", [1, 2, 3])
def test_the_newest_good_checkpoint_is_gone_on_from(tmp_path, kept, unbroken, damaged):
    out = tmp_path / "run"
    shutil.copytree(kept, out)
    for name in NAMES[:damaged]:
        flip(out / name)
    best = checkpoint.read(out / "best.safetensors")[1]["training"]["epoch"]
    told = []
    runs.train(KEEP, out, resume=True, verbose=0, tell=told.append)
    newest = max(best, 5 - damaged if damaged < 3 else 0)
    name = NAMES[damaged] if newest > best else "(?:best|last-.).safetensors"
    assert re.match(f"going on from {name}, epoch {newest}, step 0", told[damaged]), told
    for line, name in zip(told[:damaged], NAMES):
        assert line == f"{out / name} is damaged: its content does not match its SHA-256"
    assert_same_run(out, unbroken[0], ignore="keep")


def test_fewer_are_kept_from_now_on(tmp_path, monkeypatch, kept):
    out = tmp_path / "run"
    shutil.copytree(kept, out)
    (out / "last-4.safetensors.mine").write_text("mine")
    runs.train(replace(KEEP, keep=2, epochs=6, lr=0.02), out, resume=True, verbose=0)
    assert epochs_of(out) == dict(zip(NAMES, (6, 5)))
    assert (out / "last-4.safetensors.mine").exists()


def test_kept_without_hard_links(tmp_path, monkeypatch):
    def refuse(*names, **folders):
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    runs.train(replace(KEEP, epochs=3), tmp_path / "run", verbose=0)
    assert epochs_of(tmp_path / "run") == dict(zip(NAMES, (3, 2, 1)))


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked on this system")
@pytest.mark.parametrize("then", ["nothing", "another run", "renamed"])
def test_a_folder_that_is_taken_away_stops_the_run(tmp_path, monkeypatch, then):
    """Nothing is written into a folder that another run has made in its place."""
    out = tmp_path / "run"
    put_there = {}

    class Robbed(RunSaver):
        def on_train_batch_end(self, number, logs=None):
            if (self.model.training_state.epoch, number) == (1, 3):
                if then == "renamed":
                    out.rename(tmp_path / "elsewhere")
                else:
                    shutil.rmtree(out)
                if then == "another run":
                    out.mkdir()
                    (out / "settings.json").write_text("theirs")
                put_there.update({p.name: p.read_bytes() for p in out.glob("*")})
            super().on_train_batch_end(number, logs)

    monkeypatch.setattr("gpukit.runs.run.RunSaver", Robbed)
    with pytest.raises(SettingError, match="was removed or replaced while this run trained in it"):
        runs.train(SETTINGS, out, verbose=0)
    assert {p.name: p.read_bytes() for p in out.glob("*")} == put_there
    if then == "renamed":
        monkeypatch.undo()
        runs.train(SETTINGS, tmp_path / "elsewhere", resume=True, verbose=0)


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked on this system")
def test_what_is_written_goes_into_the_folder_that_was_locked(tmp_path, monkeypatch):
    """Even where it is exchanged between the look and the write."""
    out = tmp_path / "run"
    with held(out) as folder:
        monkeypatch.setattr(folder, "check", lambda: None)
        out.rename(tmp_path / "old")
        out.mkdir()
        folder.write("history.jsonl", b"mine")
        assert not list(out.iterdir())
        assert (tmp_path / "old" / "history.jsonl").read_bytes() == b"mine"


def test_folders_begun_at_once_have_numbers_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: runs.new_folder("lenet5", tmp_path), range(40)))
    assert sorted(found) == sorted(tmp_path / f"lenet5-{n}" for n in range(1, 41))


def test_names_of_folders(tmp_path):
    root = tmp_path / "runs"
    assert runs.latest_folder("lenet5", root) is None
    for number in (1, 2, 3):
        assert runs.new_folder("lenet5", root) == root / f"lenet5-{number}"
    (root / "lenet5-2").rmdir()
    assert runs.new_folder("lenet5", root) == root / "lenet5-2"
    assert runs.latest_folder("lenet5", root) is None


def test_the_latest_run_is_the_one_that_says_so(tmp_path):
    """Times of files, which copying and touching change, say nothing."""
    for number, started, touched in ((1, "2026-05-03", 10), (2, "2026-05-02", 90), (3, "", 99)):
        path = runs.new_folder("lenet5", tmp_path) / "settings.json"
        path.write_text(json.dumps({"started": started} if started else {}))
        os.utime(path, (touched, touched))
        assert runs.latest_folder("lenet5", tmp_path) == tmp_path / "lenet5-1", number

"""Runs in a folder: resumed to the bit, alone in it, and harmless to what is there already."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_runs import SETTINGS, Broken, assert_same_run, flip, history, settings_of, stop_at

from gpukit import data, runs
from gpukit.errors import CheckpointError, GpukitError, SettingError
from gpukit.models import load_model
from gpukit.runs import RunSettings
from gpukit.runs.folder import FILES, QUARANTINE, RunFolder, held
from gpukit.runs.saver import RunSaver
from gpukit.training import checkpoint

# Five epochs of nine steps; validated on 30 of 300 images.


@pytest.fixture(scope="module", autouse=True)
def load_once():
    """The data are read once for all tests here."""
    kept = {}
    real = data.load

    def load(name, *, limit=None):
        if (name, limit) not in kept:
            kept[name, limit] = real(name, limit=limit)
        return kept[name, limit]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "load", load)
        yield


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    return out, runs.train(SETTINGS, out, verbose=0)


def test_a_run_leaves_these_files(unbroken):
    out, result = unbroken
    assert sorted(p.name for p in out.iterdir()) == sorted(set(FILES) - {QUARANTINE})
    logs = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    keys = ["epoch", "loss", "accuracy", "val_loss", "val_accuracy", "lr", "seconds"]
    assert [list(entry) for entry in logs] == [keys] * 5
    assert [entry["epoch"] for entry in logs] == [0, 1, 2, 3, 4]
    assert json.loads((out / "settings.json").read_text())["seed"] == 3
    for name in ("curves.png", "filters.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    assert result.epochs == 5
    assert result.out == str(out)
    assert 0 <= result.test_accuracy <= 1
    _, state = checkpoint.read(out / "best.safetensors")
    accuracies = [entry["val_accuracy"] for entry in logs]
    assert accuracies[state["training"]["epoch"] - 1] == max(accuracies)


# Exact resume: between epochs, in the middle of one, at the very ends of one, more than once.


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("place", [(0, 0), (1, 4), (2, 8), (4, 8)], ids=str)
def test_stopped_by_a_signal_and_resumed(tmp_path, monkeypatch, unbroken, place, signum):
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("gpukit.runs.run.RunSaver", stop_at(*place, how=signum))
        with pytest.raises(runs.Interrupted) as caught:
            runs.train(SETTINGS, out, verbose=0)
    assert caught.value.signum == signum
    _, state = checkpoint.read(out / "last.safetensors")
    assert (state["training"]["epoch"], state["training"]["batch"]) == (place[0], place[1] + 1)
    result = runs.train(SETTINGS, out, resume=True, verbose=0)
    assert_same_run(out, unbroken[0])
    assert result.test_accuracy == unbroken[1].test_accuracy


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_stopped_in_the_validation_of_an_epoch(tmp_path, monkeypatch, unbroken):
    out = tmp_path / "run"

    class Stopping(RunSaver):
        def on_test_batch_end(self, number, logs=None):
            if self.model.training_state.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            super().on_test_batch_end(number, logs)

    with monkeypatch.context() as patch:
        patch.setattr("gpukit.runs.run.RunSaver", Stopping)
        with pytest.raises(runs.Interrupted) as caught:
            runs.train(SETTINGS, out, verbose=0)
    assert caught.value.saved
    _, state = checkpoint.read(out / "last.safetensors")
    assert (state["training"]["epoch"], state["training"]["batch"]) == (2, 9)
    runs.train(SETTINGS, out, resume=True, verbose=0)
    assert_same_run(out, unbroken[0])


@pytest.mark.parametrize("place", [(0, 3), (1, 0), (3, 5)], ids=str)
def test_broken_off_without_a_word_and_resumed(tmp_path, monkeypatch, unbroken, place):
    """From the end of the last epoch; in the first one, from the beginning."""
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("gpukit.runs.run.RunSaver", stop_at(*place))
        with pytest.raises(Broken):
            runs.train(SETTINGS, out, verbose=0)
    assert (out / "last.safetensors").exists() == (place[0] > 0)
    runs.train(SETTINGS, out, resume=True, verbose=0)
    assert_same_run(out, unbroken[0])


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors", "history.jsonl"])
def test_broken_off_between_two_files_of_an_epoch(tmp_path, monkeypatch, unbroken, name):
    out = tmp_path / "run"
    saved = []

    def failing(folder, file, content):
        saved.append(file)
        if saved.count(name) == 2:
            raise Broken
        real(folder, file, content)

    real = RunFolder.write
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write", failing)
        with pytest.raises(Broken):
            runs.train(SETTINGS, out, verbose=0)
    runs.train(SETTINGS, out, resume=True, verbose=0)
    assert_same_run(out, unbroken[0])


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
def test_stopped_three_times(tmp_path, monkeypatch, unbroken):
    out = tmp_path / "run"
    for number, place in enumerate([(0, 5), (0, 6), (3, 2)]):
        with monkeypatch.context() as patch:
            patch.setattr("gpukit.runs.run.RunSaver", stop_at(*place, how=signal.SIGTERM))
            with pytest.raises(runs.Interrupted):
                runs.train(SETTINGS, out, resume=number > 0, verbose=0)
    runs.train(SETTINGS, out, resume=True, verbose=0)
    assert_same_run(out, unbroken[0])


def test_resuming_a_finished_run_changes_nothing(tmp_path, unbroken):
    out = tmp_path / "run"
    shutil.copytree(unbroken[0], out)
    others = {"settings.json", QUARANTINE}
    names = [name for name in FILES if name not in others and not name.endswith(".png")]
    before = {name: (out / name).read_bytes() for name in names}
    result = runs.train(SETTINGS, out, resume=True, verbose=0)
    assert result == replace(unbroken[1], out=str(out))
    assert before == {name: (out / name).read_bytes() for name in before}
    assert settings_of(out) == settings_of(unbroken[0])


def test_without_validation_the_last_epoch_is_the_best(tmp_path):
    settings = replace(SETTINGS, validation_split=0.0, epochs=2)
    runs.train(settings, tmp_path / "run", verbose=0)
    a, b = (checkpoint.read(tmp_path / "run" / f"{x}.safetensors")[0] for x in ("best", "last"))
    assert all(a[name].tobytes() == b[name].tobytes() for name in a)


@pytest.mark.parametrize("optimizer", ["adam", "rmsprop", "adagrad"])
def test_other_optimizers_resume_exactly(tmp_path, monkeypatch, optimizer):
    settings = RunSettings("lenet5", limit=100, epochs=2, batch_size=32, optimizer=optimizer)
    runs.train(settings, tmp_path / "a", verbose=0)
    with monkeypatch.context() as patch:
        patch.setattr("gpukit.runs.run.RunSaver", stop_at(1, 1, how=signal.SIGTERM))
        with pytest.raises(runs.Interrupted):
            runs.train(settings, tmp_path / "b", verbose=0)
    runs.train(settings, tmp_path / "b", resume=True, verbose=0)
    assert_same_run(tmp_path / "a", tmp_path / "b")


# Resuming what cannot be


@pytest.fixture
def copy(tmp_path, unbroken):
    shutil.copytree(unbroken[0], tmp_path / "run")
    return tmp_path / "run"


def refused(copy, match, settings=SETTINGS):
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    with pytest.raises(GpukitError, match=match) as caught:
        runs.train(settings, copy, resume=True, verbose=0)
    assert "\n" not in str(caught.value)
    assert before == {p.name: p.read_bytes() for p in copy.iterdir()}


@pytest.mark.parametrize("name", ["last", "best"])
def test_a_lost_checkpoint(copy, name):
    (copy / f"{name}.safetensors").unlink()
    if name == "last":
        (copy / "best.safetensors").unlink()
    refused(copy, f"has lost its {name}.safetensors; start a new run")


def test_a_damaged_best_checkpoint_is_refused_before_the_training(copy):
    flip(copy / "best.safetensors")
    refused(copy, r"best\.safetensors is damaged")


def test_no_good_checkpoint(copy):
    flip(copy / "last.safetensors")
    (copy / "best.safetensors").write_bytes(b"")
    refused(copy, r"last\.safetensors is damaged.*; no other checkpoint of the run is good")


def test_a_checkpoint_of_another_model(copy):
    model = load_model(copy / "last.safetensors")
    model.layers[0].rename("other")
    model.save(copy / "last.safetensors")
    refused(copy, "of another model")


def test_other_images_than_the_run_began_with(copy):
    refused(copy, "not those that the run began with", replace(SETTINGS, limit=200))


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"model": "lenet6"}', '{"model": "lenet5", "epochs": "x"}', "[" * 9999]
)
def test_settings_that_are_not_readable(copy, text):
    (copy / "settings.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"settings\.json"):
        RunSettings.read(copy)


def test_settings_of_a_device_that_is_not_here(copy):
    values = json.loads((copy / "settings.json").read_text())
    (copy / "settings.json").write_text(json.dumps({**values, "device": "cuda:77"}))
    with pytest.raises(CheckpointError, match=r"settings\.json: device 'cuda:77'"):
        RunSettings.read(copy)
    assert RunSettings.read(copy, device="cpu").device == "cpu"


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no run: there is no settings\.json"):
        RunSettings.read(tmp_path)


# Folders


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_there_are_not_overwritten(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(SettingError, match="already"):
        runs.train(SETTINGS, tmp_path, verbose=0)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"mine"


def test_foreign_files_stay_and_leftovers_go(tmp_path):
    foreign = ["notes.txt", ".hidden", ".notes.txt.1-00000000.part", ".last.safetensors.part"]
    for name in foreign:
        (tmp_path / name).write_text("mine")
    leftover = tmp_path / ".last.safetensors.999-89abcdef.part"
    leftover.write_text("half")
    runs.train(replace(SETTINGS, epochs=1, limit=60), tmp_path, verbose=0)
    assert not leftover.exists()
    assert all((tmp_path / name).read_text() == "mine" for name in foreign)


@pytest.mark.parametrize("out", ["file/run", "file", "/proc/gpukit/run", "/proc", "n" * 300])
def test_folders_that_cannot_be_made(tmp_path, out):
    if out.startswith("/proc") and sys.platform != "linux":
        pytest.skip("no /proc on this system")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(GpukitError) as caught:
        runs.train(SETTINGS, tmp_path / out, verbose=0)
    assert "\n" not in str(caught.value)
    assert "cannot be" in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "mine"


HOLD = """
import sys, time
from pathlib import Path
from gpukit.runs.folder import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(os.name == "nt", reason="folders cannot be locked on this system")
def test_one_process_a_folder(copy):
    other = subprocess.Popen([sys.executable, "-c", HOLD, copy], stdout=subprocess.PIPE)
    try:
        assert other.stdout.readline() == b"held\n"
        refused(copy, "is in use: another process trains in it")
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    with held(copy):  # a killed process holds nothing
        pass


# Figures that are not finite


@pytest.mark.parametrize("split", [0.1, 0.0])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, split):
    settings = replace(SETTINGS, lr=1e30, validation_split=split)
    with np.errstate(all="ignore"), pytest.raises(SettingError) as caught:
        runs.train(settings, tmp_path / "run", verbose=0)
    text = str(caught.value)
    assert "in epoch 1, step 2, at a learning rate of 9" in text
    assert "train again with a smaller --lr" in text
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["settings.json"]


def test_the_last_good_epoch_is_kept(tmp_path, monkeypatch):
    class Spoiling(RunSaver):
        def on_train_batch_end(self, number, logs=None):
            super().on_train_batch_end(number, logs)
            if self.model.training_state.epoch == 1 and number == 8:
                self.model.parameters[0].assign(self.model.parameters[0].array * np.float32("nan"))

    monkeypatch.setattr("gpukit.runs.run.RunSaver", Spoiling)
    out = tmp_path / "run"
    settings = replace(SETTINGS, validation_split=0.0, batch_size=34)
    with pytest.raises(SettingError, match="c1/kernel is not finite after epoch 2") as caught:
        runs.train(settings, out, verbose=0)
    assert f"{out} keeps epoch 1" in str(caught.value)
    tensors, state = checkpoint.read(out / "last.safetensors")
    assert state["training"]["epoch"] == 1
    assert all(np.isfinite(tensor).all() for tensor in tensors.values())
    assert len(history(out)) == 1


# Settings


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("lr", [0, -1, float("nan"), float("inf"), "x", True]),
        ("weight_decay", [-1, float("nan"), float("inf")]),
        ("epochs", [0, -1, 1.5, float("nan"), True]),
        ("batch_size", [0, -1, 1.5]),
        ("seed", [-1, 0.5]),
        ("limit", [0, -1]),
        ("validation_split", [-0.1, 1, 1.5, float("nan"), float("inf")]),
        ("dtype", ["float16", "int8", 3]),
        ("device", ["gpu", "cpu:x", "cpu:99", 3]),
        ("optimizer", ["adamw"]),
        ("model", ["lenet6", None]),
    ],
)
def test_settings_out_of_range(name, values):
    for value in values:
        with pytest.raises(GpukitError) as caught:
            RunSettings(**{"model": "lenet5", name: value})
        assert "\n" not in str(caught.value)


def test_settings_survive_their_file(tmp_path):
    settings = replace(SETTINGS, lr=1 / 3, data=str(tmp_path))
    (tmp_path / "settings.json").write_text(settings.to_json())
    assert RunSettings.read(tmp_path) == settings


def test_a_folder_of_data_is_kept_as_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert RunSettings("lenet5", data="mine").data == str(Path("mine").resolve())
    assert RunSettings("lenet5", data="mnist").data == "mnist"


def test_in_another_thread_signals_are_left_alone(tmp_path):
    results = []
    settings = replace(SETTINGS, epochs=1, limit=60)
    thread = threading.Thread(
        target=lambda: results.append(runs.train(settings, tmp_path / "run", verbose=0))
    )
    thread.start()
    thread.join()
    assert results[0].epochs == 1

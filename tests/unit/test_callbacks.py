"""Callbacks on scripted epochs: decisions as Keras documents them, and exact resume."""

import csv
import json
import math
import sys
import warnings

import numpy as np
import pytest

from gpukit import callbacks, optimizers, schedules
from gpukit.errors import CheckpointError, DataError, SettingError


class FakeModel:
    """Its weights say which epoch it is; a run of epochs has given figures."""

    def __init__(self, rate=0.1):
        self.optimizer = optimizers.SGD(rate)
        self.stop_training = False
        self.epoch = -1
        self.saved = []

    def state_tensors(self):
        return {"w": np.full(2, float(self.epoch)), "b": np.array(self.epoch)}

    def load_tensors(self, tensors, source):
        self.epoch = int(tensors["b"])

    def check_savable(self):
        pass

    def save(self, path):
        self.saved.append(str(path))
        path.write_text(f"epoch {self.epoch}")

    def save_weights(self, path):
        self.saved.append(f"weights of {path}")


def play(model, calls, figures, key="val_loss", start=0, end=True, state=None, arrays=None):
    """Run epochs with the figures given; the number of epochs that ran."""
    every = callbacks.CallbackList(calls, model)
    every.on_train_begin()
    if state is not None:
        every.load_state(json.loads(json.dumps(state)))
        every.load_arrays(arrays or {})
    done = 0
    for epoch, value in enumerate(figures[start:], start):
        every.on_epoch_begin(epoch)
        every.on_train_batch_begin(0)
        model.epoch = epoch
        logs = {"epoch": epoch, "loss": 1.0}
        if value is not None:
            logs[key] = value
        every.on_train_batch_end(0, {"loss": logs["loss"]})
        every.on_epoch_end(epoch, {**logs, "lr": model.optimizer.learning_rate})
        done += 1
        if model.stop_training:
            break
    if end:
        every.on_train_end()
    return done


@pytest.mark.parametrize(
    ("settings", "figures", "epochs", "key"),
    [
        ({"patience": 2}, [3, 2, 2.5, 2.4, 1, 0], 4, "val_loss"),
        ({"patience": 2}, [3, 2, 2.5, 1, 1.5, 1.2, 0], 6, "val_loss"),
        ({}, [3, 2, 2, 1], 3, "val_loss"),
        ({"min_delta": 0.5, "patience": 2}, [3, 2.8, 2.2, 2.0, 1.9, 1], 5, "val_loss"),
        ({"monitor": "val_accuracy", "patience": 1}, [0.1, 0.3, 0.2, 0.9], 3, "val_accuracy"),
        ({"monitor": "m", "mode": "max", "patience": 1}, [1, 2, 2, 3], 3, "m"),
        ({"baseline": 2.5, "patience": 2}, [4, 3.5, 3.4, 2.9, 2.8], 5, "val_loss"),
        ({"baseline": 2.5, "patience": 2}, [4, 3, 3.1, 1], 3, "val_loss"),
        ({"patience": 1, "start_from_epoch": 2}, [1, 2, 3, 4, 5, 0], 4, "val_loss"),
        ({"patience": 2}, [math.nan, 3, math.nan, math.nan, 1], 4, "val_loss"),
    ],
)
def test_early_stopping_counts_like_keras(settings, figures, epochs, key):
    model, stopping = FakeModel(), callbacks.EarlyStopping(**settings)
    assert play(model, [stopping], figures, key) == epochs
    assert model.stop_training == (epochs < len(figures))


def test_early_stopping_restores_the_best_weights(capsys):
    for figures, best in (([3, 1, 2, 2, 0], 1), ([3, 2, 1], 2)):
        model = FakeModel()
        stopping = callbacks.EarlyStopping(patience=2, restore_best_weights=True, verbose=1)
        play(model, [stopping], figures)
        assert model.epoch == best == stopping.best_epoch
    text = capsys.readouterr()
    assert "epoch 4: early stopping" in text.err and not text.out


def test_reduce_on_plateau_waits_cools_down_and_ends_at_min_lr():
    def rates(figures, **settings):
        model = FakeModel()
        callback = callbacks.ReduceLROnPlateau(**settings)
        seen = callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: after.append(model.optimizer.learning_rate)
        )
        after = []
        play(model, [callback, seen], figures)
        return np.round(after, 6).tolist()

    assert rates([1, 1, 1, 1, 1], factor=0.5, patience=2) == [0.1, 0.1, 0.05, 0.05, 0.025]
    assert rates([1, 0.9, 1, 0.8, 1], factor=0.5, patience=2) == [0.1] * 5
    # Smaller gains than min_delta do not count.
    assert rates([1, 0.99995, 0.9999], factor=0.5, patience=2) == [0.1, 0.1, 0.05]
    assert rates([1] * 6, factor=0.5, patience=1, cooldown=2) == [
        0.1,
        0.05,
        0.05,
        0.025,
        0.025,
        0.0125,
    ]
    assert rates([1] * 4, factor=0.1, patience=1, min_lr=0.03) == [0.1, 0.03, 0.03, 0.03]


def test_cooldown_is_kerass():
    """Keras counts the cooldown down first, so an epoch that ends it may begin to wait."""
    reduce = callbacks.ReduceLROnPlateau(factor=0.5, patience=2, cooldown=1)
    model = FakeModel()
    waits = []
    look = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: waits.append(reduce.wait))
    play(model, [reduce, look], [1] * 6)
    assert waits == [0, 1, 0, 1, 0, 1]


def test_learning_rate_scheduler(capsys):
    model, seen = FakeModel(), []
    look = callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(model.optimizer.learning_rate)
    )
    play(model, [callbacks.LearningRateScheduler(lambda epoch: 0.5 / (epoch + 1)), look], [1] * 3)
    assert seen == [0.5, 0.25, 0.5 / 3]
    model, seen[:] = FakeModel(), []
    play(model, [callbacks.LearningRateScheduler(lambda e, lr: lr / 2, verbose=1), look], [1] * 2)
    assert model.optimizer.learning_rate == 0.025
    assert "epoch 2: learning rate 0.025" in capsys.readouterr().err
    play(model, [callbacks.LearningRateScheduler(schedules.StepDecay(0.3, every=1))], [1] * 2)
    assert model.optimizer.learning_rate == pytest.approx(0.03)
    for bad in (lambda epoch: None, lambda epoch: math.nan, lambda epoch: -1.0):
        with pytest.raises(SettingError, match="epoch 0: the schedule's rate"):
            play(FakeModel(), [callbacks.LearningRateScheduler(bad)], [1])
    with pytest.raises(SettingError, match="use a function"):
        callbacks.LearningRateScheduler(0.1)


def test_checkpoint_names_and_best_only(tmp_path):
    model = FakeModel()
    every = callbacks.ModelCheckpoint(tmp_path / "new" / "{epoch:02d}-{val_loss:.2f}.safetensors")
    play(model, [every], [3, 1])
    assert [p.name for p in sorted((tmp_path / "new").iterdir())] == [
        "01-3.00.safetensors",
        "02-1.00.safetensors",
    ]
    model = FakeModel()
    best = tmp_path / "best.safetensors"
    play(model, [callbacks.ModelCheckpoint(best, save_best_only=True)], [3, 1, 2, math.nan, 0.5])
    assert len(model.saved) == 3 and best.read_text() == "epoch 4"
    model = FakeModel()
    callback = callbacks.ModelCheckpoint(
        best, "acc", save_best_only=True, save_weights_only=True, initial_value_threshold=0.5
    )
    play(model, [callback], [0.4, 0.6], "acc")
    assert model.saved == [f"weights of {best}"]


def test_checkpoints_beyond_those_to_keep_are_removed(tmp_path):
    """Those of the run before, too; nothing else, whatever a checkpoint's state says."""
    (tmp_path / "mine.txt").write_text("mine")
    names = tmp_path / "{epoch}.safetensors"
    first = callbacks.ModelCheckpoint(names, keep=2)
    play(FakeModel(), [first], [3, 2, 1])
    assert {p.name for p in tmp_path.iterdir()} == {"2.safetensors", "3.safetensors", "mine.txt"}
    state = first.state()
    state["written"].insert(0, str(tmp_path / "mine.txt"))
    again = callbacks.ModelCheckpoint(names, keep=2)
    play(FakeModel(), [again], [3, 2, 1, 4], start=3, state={"0-ModelCheckpoint": state})
    assert {p.name for p in tmp_path.iterdir()} == {"3.safetensors", "4.safetensors", "mine.txt"}
    with pytest.raises(SettingError, match=r"keep=2 of files that have one name.*\{epoch\}"):
        callbacks.ModelCheckpoint("last.safetensors", keep=2)


def test_checkpoint_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot make the folder"):
        play(FakeModel(), [callbacks.ModelCheckpoint(tmp_path / "file" / "x")], [1])
    with pytest.raises(SettingError, match="use epoch, loss, lr, val_loss"):
        play(FakeModel(), [callbacks.ModelCheckpoint(str(tmp_path / "{f1}"))], [1])


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_csv_logger(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("old\n")
    play(FakeModel(), [callbacks.CSVLogger(path)], [3, None, 1])
    assert path.read_text().splitlines()[0] == "epoch,loss,val_loss,lr"
    assert [r["val_loss"] for r in rows(path)] == ["3", "NA", "1"]
    play(FakeModel(), [callbacks.CSVLogger(path, append=True)], [7, 6], key="val_loss")
    assert [r["val_loss"] for r in rows(path)] == ["3", "NA", "1", "7", "6"]
    play(FakeModel(), [callbacks.CSVLogger(path, separator=";")], [9])
    assert path.read_text() == "epoch;loss;val_loss;lr\n0;1.0;9;0.1\n"
    with pytest.raises(SettingError):
        callbacks.CSVLogger(path, separator="")
    with pytest.raises(DataError, match="cannot write"):
        play(FakeModel(), [callbacks.CSVLogger(tmp_path / "no" / "log.csv")], [1])


def test_csv_logger_adds_columns_for_figures_that_come_later(tmp_path):
    path = tmp_path / "log.csv"
    play(FakeModel(), [callbacks.CSVLogger(path)], [None, 3, None, 1])
    assert path.read_text().splitlines()[0] == "epoch,loss,lr,val_loss"
    assert [r["val_loss"] for r in rows(path)] == ["NA", "3", "NA", "1"]
    play(FakeModel(), [callbacks.CSVLogger(path, append=True)], [7, 6], key="acc")
    assert [r["acc"] for r in rows(path)] == ["NA"] * 4 + ["7", "6"]


def test_reduce_lr_on_plateau_refuses_a_schedule_before_training():
    rate = optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(SettingError, match="follows the schedule ExponentialDecay"):
        play(FakeModel(rate), [callbacks.ReduceLROnPlateau()], [])


def test_terminate_on_nan():
    for loss, stops in ((1.0, False), (math.nan, True), (math.inf, True)):
        model = FakeModel()
        every = callbacks.CallbackList([callbacks.TerminateOnNaN()], model)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            every.on_train_batch_end(3, {"loss": loss})
        assert model.stop_training is stops and len(caught) == stops


def test_history_and_lambda():
    seen = []
    events = {
        name: (lambda *args, name=name: seen.append(name))
        for name in (
            "on_epoch_begin",
            "on_epoch_end",
            "on_train_begin",
            "on_train_end",
            "on_train_batch_begin",
            "on_train_batch_end",
        )
    }
    history = callbacks.History()
    play(FakeModel(), [callbacks.LambdaCallback(**events), history], [3, 1])
    assert history.epoch == [0, 1]
    assert history.history == {"loss": [1.0, 1.0], "val_loss": [3, 1], "lr": [0.1, 0.1]}
    epoch = ["on_epoch_begin", "on_train_batch_begin", "on_train_batch_end", "on_epoch_end"]
    assert seen == ["on_train_begin", *epoch, *epoch, "on_train_end"]


@pytest.mark.parametrize(
    "make",
    [
        callbacks.EarlyStopping,
        callbacks.ReduceLROnPlateau,
        lambda: callbacks.ModelCheckpoint("x", save_best_only=True),
    ],
)
def test_a_missing_figure_is_one_warning_that_names_the_others(make):
    """As in Keras: seed 001's ReduceLROnPlateau watches val_loss in a fit without validation."""
    model = FakeModel()
    with pytest.warns(
        UserWarning, match="no 'val_loss'.*validation_split.*epoch, loss, lr"
    ) as seen:
        assert play(model, [make()], [None, None, None]) == 3
    assert len(seen) == 1


@pytest.mark.parametrize("cut", range(1, 7))
def test_resume_decides_like_the_unbroken_run(tmp_path, cut):
    figures = [5, 4, 4.5, 4.4, 3.9, 4.0, 4.1, 4.2, 4.3, 3]

    def calls(name):
        return [
            callbacks.EarlyStopping(patience=4, restore_best_weights=True),
            callbacks.ReduceLROnPlateau(factor=0.5, patience=1, cooldown=1),
            callbacks.ModelCheckpoint(tmp_path / name, save_best_only=True),
            callbacks.CSVLogger(tmp_path / f"{name}.csv"),
            callbacks.History(),
        ]

    whole, expected = FakeModel(), calls("whole")
    play(whole, expected, figures)
    first, part = FakeModel(), calls("part")
    play(first, part, figures[:cut], end=False)
    kept = callbacks.CallbackList(part)
    state, arrays = kept.state(), kept.arrays()
    # The process dies an epoch after its last checkpoint: the log has a line too many.
    part[3].on_epoch_end(cut, {"loss": 9.0, "val_loss": 9.0, "lr": 9.0})
    second, again = FakeModel(first.optimizer.learning_rate), calls("part")
    play(second, again, figures, start=cut, state=state, arrays=arrays)
    assert second.epoch == whole.epoch == 4
    assert second.optimizer.learning_rate == whole.optimizer.learning_rate
    assert again[-1].history == expected[-1].history
    assert (tmp_path / "part.csv").read_text() == (tmp_path / "whole.csv").read_text()
    assert callbacks.CallbackList(again).state() == callbacks.CallbackList(expected).state()


@pytest.mark.parametrize(
    "make",
    [
        lambda: callbacks.EarlyStopping(patience=-1),
        lambda: callbacks.EarlyStopping(mode="best"),
        lambda: callbacks.EarlyStopping(min_delta=math.nan),
        lambda: callbacks.EarlyStopping(monitor=3),
        lambda: callbacks.ReduceLROnPlateau(factor=1.0),
        lambda: callbacks.ReduceLROnPlateau(min_lr=-1),
        lambda: callbacks.ReduceLROnPlateau(patience=1.5),
        lambda: callbacks.CallbackList([print]),
    ],
)
def test_mistakes(make):
    with pytest.raises(SettingError) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert sys.exc_info()[0] is None

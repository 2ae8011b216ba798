"""fit, evaluate and predict: what they refuse, exact resume by the library, and an honest ETA."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import subprocess
import sys
import warnings

import numpy as np
import pytest

from gpukit import callbacks, layers, losses, models, optimizers, schedules
from gpukit.errors import (
    CheckpointError,
    DataError,
    DTypeError,
    GpukitError,
    SettingError,
    ShapeError,
)
from gpukit.training import checkpoint, loop
from gpukit.training.progress import Pace, _clock, _epoch_line
from gpukit.training.state import TrainingState

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 8, 8, 1)).astype(np.float32)
Y = RNG.integers(0, 4, 50)


def make(optimizer="adam", seed=3):
    """Everything that has a memory: moving averages, masks, moments."""
    model = models.Sequential(
        [
            layers.Conv2D(3, 3, input_shape=(8, 8, 1), name="c"),
            layers.BatchNormalization(name="b"),
            layers.ReLU(name="r"),
            layers.Flatten(name="f"),
            layers.Dropout(0.3, name="drop"),
            layers.Dense(4, activation="softmax", name="d"),
        ],
        seed=seed,
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


def watchers(*more):
    """Their decisions depend on all epochs before."""
    return [
        *more,
        callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.2),
        callbacks.EarlyStopping("val_loss", patience=3, min_delta=0.01),
    ]


def fit(model, epochs, *, initial_epoch=0, more=(), x=X, y=Y):
    settings = {"batch_size": 16, "validation_split": 0.2, "verbose": 0}
    return model.fit(
        x, y, epochs=epochs, initial_epoch=initial_epoch, callbacks=watchers(*more), **settings
    )


def without_seconds(history):
    return {key: values for key, values in history.history.items() if key != "seconds"}


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].tobytes() == b[name].tobytes(), name


# Exact resume


@pytest.mark.parametrize(
    "optimizer",
    [
        lambda: "adam",
        lambda: optimizers.SGD(schedules.CosineDecay(0.05, 40), momentum=0.9, nesterov=True),
        lambda: optimizers.RMSprop(momentum=0.5, clipnorm=1.0),
        lambda: optimizers.Adagrad(weight_decay=1e-3),
    ],
    ids=["adam", "sgd, cosine", "rmsprop", "adagrad"],
)
@pytest.mark.parametrize("way", ["load_model", "load"])
def test_a_resumed_model_ends_with_the_same_bits(tmp_path, optimizer, way):
    scheduled = not isinstance(optimizer(), str) and optimizer()._schedule is not None
    if scheduled:  # a schedule and ReduceLROnPlateau do not go together
        more, watch = (), lambda: [callbacks.EarlyStopping("val_loss", patience=9)]
    else:
        more, watch = (), watchers
    settings = {"batch_size": 8, "validation_split": 0.2, "verbose": 0}

    whole = make(optimizer())
    expected = whole.fit(X, Y, epochs=6, callbacks=[*more, *watch()], **settings)
    whole.save(tmp_path / "whole.safetensors")

    first = make(optimizer())
    first.fit(X, Y, epochs=2, callbacks=watch(), **settings)
    first.save(tmp_path / "half.safetensors")
    if way == "load":
        second = make(optimizer(), seed=99).load(tmp_path / "half.safetensors")
    else:
        second = models.load_model(tmp_path / "half.safetensors")
    history = second.fit(X, Y, epochs=6, initial_epoch=2, callbacks=watch(), **settings)
    second.save(tmp_path / "resumed.safetensors")

    assert without_seconds(history) == without_seconds(expected)
    a, b = (checkpoint.read(tmp_path / f"{name}.safetensors") for name in ("whole", "resumed"))
    assert_same_bits(a[0], b[0])
    assert a[1]["context"] == b[1]["context"]


def test_resumed_from_every_epoch_that_model_checkpoint_saved(tmp_path):
    """Also from the epoch at which EarlyStopping stops: nothing is trained after it."""
    whole = make()
    saver = callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors")
    expected = fit(whole, 30, more=[saver])  # saver first: yet it sees what the others decided
    last = len(expected.epoch)
    assert last < 30, "early stopping must act for this test to show anything"
    for epoch in range(1, last + 1):
        model = models.load_model(tmp_path / f"{epoch}.safetensors")
        history = fit(
            model, 30, initial_epoch=epoch, more=[callbacks.ModelCheckpoint(tmp_path / "x")]
        )
        assert without_seconds(history) == without_seconds(expected)
        for ours, theirs in zip(model.get_weights(), whole.get_weights()):
            assert ours.tobytes() == theirs.tobytes()


def test_the_best_weights_survive_a_resume(tmp_path):
    def stopping():
        return callbacks.EarlyStopping("loss", mode="max", patience=4, restore_best_weights=True)

    path = tmp_path / "m.safetensors"
    whole, first = make(), make()
    settings = {"batch_size": 8, "verbose": 0}
    whole.fit(X, Y, epochs=5, callbacks=[stopping()], **settings)
    saver = callbacks.ModelCheckpoint(path)
    first.fit(X, Y, epochs=3, callbacks=[stopping(), saver], **settings)
    again = models.load_model(path)
    again.fit(X, Y, epochs=5, initial_epoch=3, callbacks=[stopping()], **settings)
    for ours, theirs in zip(again.get_weights(), whole.get_weights()):
        assert ours.tobytes() == theirs.tobytes()


def test_going_on_in_the_same_process_is_the_unbroken_run():
    whole, parts = make(), make()
    expected = fit(whole, 5)
    fit(parts, 2)
    history = fit(parts, 5, initial_epoch=2)
    assert without_seconds(history) == without_seconds(expected)


def test_fit_without_initial_epoch_begins_anew():
    model = make()
    fit(model, 2)
    assert fit(model, 1).epoch == [0]
    assert model.training_state.epoch == 1


def test_a_loaded_model_saved_again_forgets_nothing(tmp_path):
    model = make()
    fit(model, 2)
    model.save(tmp_path / "a.safetensors")
    models.load_model(tmp_path / "a.safetensors").save(tmp_path / "b.safetensors")
    (a, state_a), (b, state_b) = (checkpoint.read(tmp_path / f"{n}.safetensors") for n in "ab")
    assert_same_bits(a, b)
    assert state_a == state_b


@pytest.mark.parametrize("threads", ["1", "2", "3"])
def test_threads_do_not_change_bits(tmp_path, threads):
    """Not within a run, so not in a resumed one either."""
    program = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import hashlib, test_training as t\n"
        "model = t.make(); t.fit(model, 2)\n"
        "print(hashlib.sha256(b''.join(w.tobytes() for w in model.get_weights())).hexdigest())\n"
    )
    here = os.path.dirname(__file__)  # noqa: PTH120
    out = subprocess.run(
        [sys.executable, "-c", program, here],
        env={**os.environ, "GPUKIT_THREADS": threads},
        capture_output=True,
        text=True,
        check=True,
    )
    model = make()
    fit(model, 2)
    here = hashlib.sha256(b"".join(w.tobytes() for w in model.get_weights())).hexdigest()
    assert out.stdout.strip() == here


def test_callbacks_that_do_not_fit_what_was_remembered(tmp_path):
    class Odd(callbacks.Callback):
        def load_state(self, state):
            raise KeyError("wait")

    model = make()
    model.fit(X, Y, verbose=0, callbacks=[Odd()])
    with pytest.raises(CheckpointError, match=r"what callbacks remembered .*'wait'"):
        model.fit(X, Y, epochs=2, initial_epoch=1, verbose=0, callbacks=[Odd()])


# What is refused


def wrong(error, match, **settings):
    name = re.sub(r"\W+", " ", f"{settings.get('x', settings)}")[:30]
    return pytest.param(error, match, settings, id=f"{match} {name}")


@pytest.mark.parametrize(
    ("error", "match", "settings"),
    [
        *(
            wrong(SettingError, f"{name}=.*use a whole number, 1 or more", **{name: value})
            for name in ("batch_size", "epochs")
            for value in (0, -1, 1.5, math.nan, math.inf, True, "8", None)
            if (name, value) != ("batch_size", None)  # the default
        ),
        *(wrong(SettingError, "initial_epoch=", initial_epoch=value) for value in (-1, 0.5, "1")),
        *(
            wrong(SettingError, "validation_split=", validation_split=value)
            for value in (-0.1, 1, 1.5, math.nan, math.inf, "0.1")
        ),
        wrong(DataError, "leaves a part empty", x=X[:1], y=Y[:1], validation_split=0.5),
        wrong(ShapeError, r"takes inputs \(N, 8, 8, 1\), x has shape \(50, 8, 8\)", x=X[..., 0]),
        wrong(ShapeError, r"takes inputs .*x has shape \(50, 8, 8, 2\)", x=np.repeat(X, 2, 3)),
        wrong(DTypeError, r"is float32, x is float64; cast it", x=X.astype(np.float64)),
        wrong(DTypeError, r"uint8 images, x is int64; cast it", x=X.astype(np.int64)),
        wrong(DTypeError, "x is .*pass an array of numbers", x=np.array([["a"]])),
        wrong(DTypeError, "x is .*pass an array of numbers", x=np.array([None, {}])),
        wrong(DTypeError, "x is .*pass an array of numbers", x=X.astype(np.complex64)),
        wrong(DTypeError, "x is .*pass an array of numbers", x=np.float32(1)),
        wrong(DataError, "no images to train on", x=X[:0], y=Y[:0]),
        wrong(DataError, "x has 50 samples and y 49", y=Y[:49]),
        wrong(DTypeError, "y is .*pass an array of numbers", y=np.array(["a"] * 50)),
        wrong(DataError, "label 4 is out of range: 4 classes are", y=Y + 1),
        wrong(DataError, "label 9 is out of range: 4 classes are", y=np.append(Y[:-1], 9)),
        wrong(DataError, "label 9 is", validation_data=(X, np.append(Y[:-1], 9))),
        wrong(DataError, "no images in validation_data", validation_data=(X[:0], Y[:0])),
        wrong(ShapeError, "takes inputs .*x has shape", validation_data=(X[:, :4], Y)),
        wrong(SettingError, "validation_data is a pair", validation_data=(X, Y, Y, Y)),
        wrong(SettingError, "validation_data is a pair", validation_data=X),
        wrong(ShapeError, "x is no array", x=[[1.0], [1.0, 2.0]]),
        wrong(DataError, "label -1 is out of range: 4 classes are", y=Y - 1),
        wrong(GpukitError, "whole", y=Y + 0.5),
        wrong(ShapeError, "one class number for each sample", y=np.eye(5, dtype=np.float32)[Y]),
        wrong(SettingError, "is no callback", callbacks=[print]),
    ],
)
def test_what_fit_refuses(error, match, settings):
    model = make()
    before = [w.tobytes() for w in model.get_weights()]
    data = {"x": X, "y": Y, "verbose": 0}
    with pytest.raises(error, match=match) as caught:
        model.fit(**{**data, **settings})
    assert "\n" not in str(caught.value)
    assert [w.tobytes() for w in model.get_weights()] == before


@pytest.mark.parametrize("size", [0, -1, 1.5, "8"])
def test_what_evaluate_and_predict_refuse(size):
    model = make()
    with pytest.raises(SettingError, match="batch_size="):
        model.evaluate(X, Y, batch_size=size)
    with pytest.raises(SettingError, match="batch_size="):
        model.predict(X, batch_size=size)
    with pytest.raises(DataError, match="no images"):
        model.evaluate(X[:0], Y[:0])
    with pytest.raises(ShapeError, match="takes inputs"):
        model.predict(X[:, :4])


def test_a_filter_larger_than_its_input_names_layer_and_sizes():
    with pytest.raises(
        ShapeError, match=r"Conv2D 'big': filter height 5 .* height 3; use"
    ) as caught:
        models.Sequential([layers.Conv2D(2, 5, input_shape=(3, 3, 1), name="big")])
    assert "\n" not in str(caught.value)


def test_nothing_predicted_from_nothing():
    assert make().predict(X[:0]).shape == (0, 4)


@pytest.mark.parametrize(
    "data",
    [
        None, [], {}, {"epoch": -1}, {"epoch": math.inf}, {"sums": []}, {"sums": {"a": 1}},
        {"history": [{"loss": "x"}]}, {"history": [1]}, {"history": None}, {"batch": "x"},
        {"seconds": None},
    ],
)  # fmt: skip
def test_states_of_training_that_are_none(data):
    if isinstance(data, dict) and data:
        data = {**TrainingState().to_json(), **data}
    with pytest.raises(CheckpointError, match="not readable"):
        TrainingState.from_json(data)


def test_a_state_survives_json_to_the_bit():
    state = TrainingState(epoch=2, batch=3, seconds=0.1)
    state.add("loss", (1 / 3, 7.0))
    state.history.append({"epoch": 0, "loss": 2 / 3})
    again = TrainingState.from_json(json.loads(json.dumps(state.to_json())))
    assert again == state


# Progress


def test_eta_and_rate_by_a_scripted_clock():
    """1000 images; the first step compiles for 9 s, then 100 images take 1 s, saving 0.5 s."""
    pace = Pace(total=1000, done=0)
    pace.step(100, 9.0, now=9.0)
    assert pace.images_per_second is None
    assert pace.eta(9.0) is None
    pace.step(100, 1.0, now=10.0)
    assert pace.images_per_second == 100
    assert pace.eta(10.0) == 8.0  # 800 images at 1 s a hundred
    pace.step(100, 1.0, now=11.5)
    assert pace.images_per_second == 100  # of training alone
    assert pace.eta(11.5) == pytest.approx(700 * 2.5 / 200)  # all that it takes
    for i in range(7):
        pace.step(100, 1.0, now=12.5 + i)
    assert pace.eta(18.5) == 0


def test_a_resumed_run_counts_only_what_it_measured():
    pace = Pace(total=1000, done=800)
    pace.step(50, 1.0, now=100.0)
    pace.step(50, 1.0, now=101.0)
    assert pace.images_per_second == 50
    assert pace.eta(101.0) == 2.0


def test_eta_comes_true_where_steps_are_even():
    """Whatever the moment, what is told then and the time passed add up to the same end."""
    pace, now, ends = Pace(total=60 * 64, done=0), 0.0, []
    for step in range(60):
        took = 5.0 if step == 0 else 0.02
        now += took + (0.1 if step % 20 == 19 else 0.0)  # validation
        pace.step(64, took, now)
        ends.append(math.nan if pace.eta(now) is None else now + pace.eta(now))
    assert abs(ends[20] - now) < 0.25
    assert abs(ends[40] - now) < 0.1
    assert ends[-1] == now


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (61, "1:01"), (3661, "1:01:01")]
)
def test_clock(seconds, text):
    assert _clock(seconds) == text


def test_the_line_of_an_epoch():
    logs = {"epoch": 1, "loss": 0.5, "accuracy": 0.75, "val_loss": 0.6, "seconds": 2.0}
    line = _epoch_line(logs, 10, 5000)
    assert line == "epoch  2/10  loss 0.5000  accuracy 0.7500  val_loss 0.6000  2,500 images/s"


def test_verbose_prints_a_line_an_epoch_on_stderr(capsys):
    model = make()
    model.fit(X, Y, epochs=2, verbose=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert re.fullmatch(r"epoch 1/2  loss \S+  accuracy \S+ .*\nepoch 2/2  loss .*\n", err)
    model.fit(X, Y, verbose=0)
    assert capsys.readouterr() == ("", "")


def test_figures_do_not_depend_on_how_batches_are_cut():
    model = make()
    whole = model.evaluate(X, Y, batch_size=50)
    np.testing.assert_allclose(model.evaluate(X, Y, batch_size=7), whole, rtol=1e-6)
    np.testing.assert_allclose(loop.predict(model, X, batch_size=7), model.predict(X), rtol=1e-6)


def test_bytes_of_another_order_are_read_as_what_they_mean():
    plain, swapped = make(), make()
    plain.fit(X, Y, verbose=0)
    swapped.fit(X.astype(">f4"), Y.astype(">i4"), verbose=0)
    assert_same_bits(plain.state_tensors(), swapped.state_tensors())


def test_a_loss_that_is_no_number_is_said_once():
    model = make()
    with pytest.warns(UserWarning, match=r"epoch 1: the loss is nan.*TerminateOnNaN") as said:
        model.fit(np.full_like(X, np.nan), Y, epochs=3, verbose=0)
    assert len(said) == 1 and said[0].filename == __file__


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "binary_crossentropy"])
def test_sums_taken_for_probabilities_are_pointed_out(loss):
    model = models.Sequential([layers.Flatten(), layers.Dense(1, name="d")], seed=0)
    model.compile("sgd", loss)
    y = np.zeros((len(X), 1), np.float32)
    with pytest.warns(UserWarning, match=rf"Dense 'd' has no activation, but {loss} .*from_logits"):
        model.fit(X, y, verbose=0)


def test_no_warning_where_the_loss_takes_logits():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for loss in (losses.SparseCategoricalCrossentropy(from_logits=True), "mse"):
            model = models.Sequential([layers.Flatten(), layers.Dense(4)], seed=0)
            model.compile("sgd", loss)
            model.fit(X, Y if loss != "mse" else np.eye(4, dtype=np.float32)[Y], verbose=0)
        make().fit(X, Y, verbose=0)

"""Keys of logs: the names that users give, in every place, and monitors that follow them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gpukit import callbacks, metrics
from gpukit.errors import SettingError
from gpukit.layers import Dense
from gpukit.models import Sequential, load_model

X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = np.arange(24) % 2
ONE_HOT = np.eye(2, dtype=np.float32)[Y]


def model(chosen, loss="categorical_crossentropy"):
    made = Sequential([Dense(2, activation="softmax", input_shape=(3,))], seed=1)
    made.compile("sgd", loss, chosen)
    return made


@pytest.mark.parametrize(
    ("chosen", "keys"),
    [
        (["acc"], ["acc"]),
        (["accuracy", "mse"], ["accuracy", "mse"]),
        ("acc", ["acc"]),
        (["acc", "acc", "mse", "acc"], ["acc", "acc_1", "mse", "acc_2"]),
        ([metrics.Accuracy(name="right"), "top_1"], ["right", "top_1"]),
        ([metrics.LossMetric("mse"), metrics.TopKAccuracy(2)],
         ["mean_squared_error", "top_2_accuracy"]),
    ],
)  # fmt: skip
def test_keys_are_the_names_given(tmp_path, chosen, keys):
    made = model(chosen)
    assert made.metrics_names == ["loss", *keys]
    history = made.fit(X, ONE_HOT, validation_data=(X, ONE_HOT), verbose=0).history
    assert list(history) == [
        "loss", *keys, "val_loss", *(f"val_{key}" for key in keys), "lr", "seconds"
    ]  # fmt: skip
    figures = made.evaluate(X, ONE_HOT, return_dict=True)
    assert list(figures) == ["loss", *keys]
    assert list(made.train_on_batch(X, ONE_HOT, return_dict=True)) == ["loss", *keys]
    made.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").metrics_names == ["loss", *keys]


def test_equal_metrics_have_equal_figures():
    figures = model(["acc", "acc"]).evaluate(X, ONE_HOT, return_dict=True)
    assert figures["acc"] == figures["acc_1"]


@pytest.mark.parametrize("name", ["loss", "lr", "epoch", "val_acc"])
def test_names_of_other_figures_are_refused(name):
    with pytest.raises(SettingError, match=f"named '{name}'.*another name="):
        model([metrics.Accuracy(name=name)])


def test_configurations_without_names_load():
    """Those of files that were written before metrics had names."""
    for config, name in (
        ({"class": "Accuracy", "threshold": 0.5}, "accuracy"),
        ({"class": "TopKAccuracy", "k": 3}, "top_3_accuracy"),
        (
            {"class": "LossMetric", "loss": {"class": "MeanSquaredError"}},
            "mean_squared_error",
        ),
    ):
        assert metrics.get(config).name == name


@pytest.mark.parametrize(
    "make",
    [
        callbacks.EarlyStopping,
        callbacks.ReduceLROnPlateau,
        lambda **named: callbacks.ModelCheckpoint("unused", save_best_only=True, **named),
    ],
)
@pytest.mark.parametrize("monitor", ["val_accuracy", "val_los", "accuracy"])
def test_a_monitor_that_does_not_exist_stops_fit_at_its_start(make, monitor):
    made = model(["acc"])
    before = made.get_weights()
    with pytest.raises(SettingError, match=r"is not in the logs; use one of loss, acc, val_loss"):
        made.fit(X, ONE_HOT, validation_data=(X, ONE_HOT), callbacks=[make(monitor=monitor)])
    for kept, now in zip(before, made.get_weights()):
        np.testing.assert_array_equal(kept, now)


def test_figures_of_a_users_callback_may_be_monitored():
    class Mine(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["mine"] = float(epoch)

    stopping = callbacks.EarlyStopping("mine", mode="min", patience=1)
    history = model([]).fit(X, ONE_HOT, epochs=9, verbose=0, callbacks=[Mine(), stopping])
    assert history.history["mine"] == [0.0, 1.0]
    with pytest.raises(SettingError, match="'mine' is not in the logs"):
        model([]).fit(X, ONE_HOT, verbose=0, callbacks=[stopping, Mine()])


def test_a_checkpoint_of_every_epoch_needs_no_figure(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        saver = callbacks.ModelCheckpoint(tmp_path / "m.safetensors")
        model([]).fit(X, ONE_HOT, verbose=0, callbacks=[saver])
    assert (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("monitor", "direction"),
    [
        ("val_acc", 1), ("accuracy_1", 1), ("val_f1", 1), ("f1_score", 1), ("auc", 1),
        ("val_precision", 1), ("recall_2", 1), ("mean_iou", 1), ("top_5_accuracy", 1),
        ("val_top_k_categorical_accuracy", 1), ("val_loss", -1), ("mse", -1), ("val_mae", -1),
        ("root_mean_squared_error", -1), ("binary_crossentropy", -1), ("kl_divergence", -1),
        ("false_positives", -1), ("dice_loss", -1), ("lr", -1), ("val_mystery", 0),
        ("recalled", 0),
    ],
)  # fmt: skip
def test_auto_knows_what_is_better(monitor, direction):
    callback = callbacks.EarlyStopping(monitor)
    if direction:
        assert callback.better(2, 1) == (direction == 1)
        assert callback.better(1, 2) == (direction == -1)
    else:
        with pytest.raises(SettingError, match=f"higher '{monitor}' is better; use mode='max' or"):
            callback.better(2, 1)


def test_auto_asks_the_metric_first():
    made = model([metrics.Accuracy(name="error_free"), metrics.LossMetric("mse", name="top")])
    for monitor, direction in (("error_free", 1), ("top", -1)):
        callback = callbacks.EarlyStopping(monitor)
        made.fit(X, ONE_HOT, verbose=0, callbacks=[callback])
        assert callback.better(2, 1) == (direction == 1)

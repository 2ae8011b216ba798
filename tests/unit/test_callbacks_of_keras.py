"""Keras's callbacks: an interrupted fit goes on to the same bits; every argument is obeyed."""

import numpy as np
import pytest

from gpukit import callbacks, layers, models
from gpukit.errors import SettingError

X = np.random.default_rng(0).normal(size=(24, 4)).astype("float32")
Y = np.arange(24) % 3


def network():
    model = models.Sequential(
        [
            layers.Dense(8, "relu", input_shape=(4,)),
            layers.Dropout(0.3),
            layers.Dense(3, "softmax"),
        ],
        seed=5,
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["acc"])
    return model


class Interrupt(callbacks.Callback):
    def __init__(self, step):
        self.left = step

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("freq", "stop"), [("epoch", 8), (2, 8), (3, 11), (1, 6), ("epoch", 2)])
def test_an_interrupted_fit_goes_on_to_the_same_bits(freq, stop, tmp_path):
    settings = {"batch_size": 5, "epochs": 4, "verbose": 0, "validation_split": 0.25}
    whole = network()
    history = whole.fit(X, Y, **settings).history

    def backup():
        return callbacks.BackupAndRestore(tmp_path / "backup", save_freq=freq)

    with pytest.raises(KeyboardInterrupt):
        network().fit(X, Y, callbacks=[backup(), Interrupt(stop)], **settings)
    again = network()
    found = again.fit(X, Y, callbacks=[backup()], **settings).history
    for a, b in zip(whole.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(a, b)
    for name in set(history) - {"seconds"}:
        assert found[name] == history[name][-len(found[name]) :], name
    assert not (tmp_path / "backup").exists()


def test_a_backup_stays_where_asked(tmp_path):
    callback = callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)
    network().fit(X, Y, epochs=2, verbose=0, callbacks=[callback])
    again = network()
    again.fit(X, Y, epochs=2, verbose=0, callbacks=[callback])  # there is nothing left to do
    assert again.training_state.epoch == 2
    with pytest.raises(SettingError, match="save_freq='step'"):
        callbacks.BackupAndRestore(tmp_path, save_freq="step")


def test_checkpoints_each_so_many_batches(tmp_path):
    callback = callbacks.ModelCheckpoint(
        tmp_path / "{epoch}-{batch}-{loss:.1f}.safetensors", save_freq=3
    )
    network().fit(X, Y, batch_size=6, epochs=2, verbose=0, callbacks=[callback])
    names = sorted(p.name.rpartition("-")[0] for p in tmp_path.iterdir())
    assert names == ["1-3", "2-2"]  # batches 3 and 6 of four an epoch
    with pytest.raises(SettingError, match="save_freq=0"):
        callbacks.ModelCheckpoint("x", save_freq=0)


def test_lambda_callbacks_take_every_event():
    seen = []
    callback = callbacks.LambdaCallback(
        on_test_batch_end=lambda batch, logs: seen.append(batch), on_train_end=None
    )
    network().fit(X, Y, validation_split=0.5, verbose=0, callbacks=[callback])
    assert seen
    with pytest.raises(TypeError, match=r"LambdaCallback\(\) has no argument 'on_step'; use one"):
        callbacks.LambdaCallback(on_step=print)


@pytest.mark.parametrize("name", ["RemoteMonitor", "TensorBoard"])
def test_what_is_not_there_is_refused_by_name(name):
    with pytest.raises(SettingError, match=f"^{name}: .*CSVLogger"):
        getattr(callbacks, name)("logs")

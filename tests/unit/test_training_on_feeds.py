"""fit, evaluate and predict take feeds: the same as arrays, and what only feeds have."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from gpukit import layers
from gpukit.data import (
    ArrayFeed,
    Augment,
    Batch,
    ColourNoise,
    Feed,
    ImageFeed,
    Normalise,
    colours,
    scan,
)
from gpukit.errors import CheckpointError, DataError, SettingError
from gpukit.models import Sequential
from gpukit.training import loop
from gpukit.training.state import TrainingState

RNG = np.random.default_rng(5)
X = RNG.integers(0, 256, (26, 6, 6, 3), dtype=np.uint8)
Y = RNG.integers(0, 4, 26)


def make(device="cpu", dtype="float32"):
    model = Sequential(
        [layers.Flatten(), layers.Dense(4, activation="softmax")],
        device=device,
        dtype=dtype,
        seed=3,
    )
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    model.normalise = Normalise(1 / 255, (0.4, 0.5, 0.6), (0.2, 0.3, 0.25))
    return model


class Views(Feed):
    """Each image as `views` in a row, the v-th darkened by v levels of its channels."""

    def __init__(self, views: int, shift: bool = True) -> None:
        self.count, self.batch_size, self.image_shape = len(X), 4, X.shape[1:]
        self.views, self.shift = views, shift
        self.opened = self.closed = 0

    def epoch(self, number=0, start=0):
        self.opened += 1
        try:
            for first in range(start * 4, self.count, 4):
                x = np.repeat(X[first : first + 4], self.views, axis=0)
                dark = np.tile(-np.arange(self.views, dtype=np.float32), len(x) // self.views)
                shift = np.repeat(dark[:, None], 3, axis=1) if self.shift else None
                yield Batch(x, Y[first : first + 4], shift)
        finally:
            self.closed += 1


def weights(model):
    return model.get_weights()


def same(a, b):
    return all((x == y).all() for x, y in zip(weights(a), weights(b), strict=True))


def test_a_feed_of_arrays_trains_as_the_arrays_do():
    arrays, feeds = make(), make()
    one = arrays.fit(X, Y, batch_size=8, epochs=3, verbose=0, validation_data=(X[:9], Y[:9]))
    feed = ArrayFeed(X, Y, 8, seed=3)
    held = ArrayFeed(X[:9], Y[:9], 8, shuffle=False)
    two = feeds.fit(feed, epochs=3, verbose=0, validation_data=held)
    assert same(arrays, feeds)
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        assert one.history[name] == two.history[name]
    assert arrays.evaluate(X, Y, batch_size=5) == feeds.evaluate(ArrayFeed(X, Y, 5, shuffle=False))
    np.testing.assert_array_equal(
        arrays.predict(X), feeds.predict(ArrayFeed(X, Y, 256, shuffle=False))
    )


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_images_are_shifted_and_normalised_on_the_device(device, dtype):
    model = make(device, dtype)
    shift = RNG.normal(0, 20, (26, 3)).astype(np.float32)
    y = model.to_device(X, shift)
    assert y.dtype == dtype and str(getattr(y, "device", "cpu")) == device
    mean, std = np.array([0.4, 0.5, 0.6]), np.array([0.2, 0.3, 0.25])
    expected = ((X + shift[:, None, None].astype(np.float64)) / 255 - mean) / std
    host = y.data if device == "cpu:1" else y
    tolerance = 2e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(host, expected, rtol=0, atol=tolerance)
    np.testing.assert_array_equal(
        make().to_device(X), Normalise(1 / 255, tuple(mean), tuple(std))(X)
    )


def test_uint8_samples_of_other_ranks():
    model = Sequential([layers.Dense(4)], seed=1)
    flat = X.reshape(26, -1)
    np.testing.assert_array_equal(model.predict(flat), model.predict(flat * np.float32(1 / 255)))


def test_views_are_averaged():
    model = make()
    model.fit(X, Y, epochs=2, verbose=0)
    feed = Views(3)
    darker = [X.astype(np.float64) - v for v in range(3)]
    mean, scale = model.normalise.affine(3)
    outputs = [model.predict(((x - mean) * scale).astype(np.float32)) for x in darker]
    expected = np.mean(outputs, axis=0, dtype=np.float64)
    np.testing.assert_allclose(model.predict(feed), expected, rtol=1e-5)
    figures = model.evaluate(feed, return_dict=True)
    loss = -np.log(expected[np.arange(len(Y)), Y]).mean()
    assert figures["loss"] == pytest.approx(loss, rel=1e-5)
    assert figures["accuracy"] == pytest.approx((expected.argmax(1) == Y).mean())


def test_a_batch_that_is_not_the_last_can_end_an_epoch():
    model, feed = make(), Views(1)

    class Stop(loop.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 1

    model.fit(feed, epochs=5, verbose=0, callbacks=[Stop()])
    assert feed.opened == feed.closed == 1


def test_what_feeds_are_refused():
    model = make()
    with pytest.raises(SettingError, match="brings its targets"):
        model.fit(Views(1), Y, verbose=0)
    with pytest.raises(SettingError, match="brings its targets"):
        model.evaluate(Views(1), Y)
    with pytest.raises(SettingError, match="validation_split"):
        model.fit(Views(1), validation_split=0.2, verbose=0)
    with pytest.raises(SettingError, match="2 views"):
        model.fit(Views(2), verbose=0)
    empty = ArrayFeed(X[:0], Y[:0])
    with pytest.raises(DataError, match="no images to train"):
        model.fit(empty, verbose=0)
    with pytest.raises(DataError, match="validation_data"):
        model.fit(Views(1), validation_data=empty, verbose=0)
    with pytest.raises(DataError, match="no images"):
        model.evaluate(empty)


def test_labels_of_a_feed_are_looked_at_before_training():
    model = make()
    model.fit(X, Y, epochs=1, verbose=0)
    before = weights(model)
    with pytest.raises(Exception, match="label"):
        model.fit(ArrayFeed(X, np.append(Y[:-1], 4), 8), verbose=0)
    assert all((a == b).all() for a, b in zip(before, weights(model), strict=True))


class Kept(Views):
    """A feed that knows itself again."""

    def __init__(self, name: str) -> None:
        super().__init__(1)
        self.name = name

    def config(self):
        return {"name": self.name}

    def take_up(self, config):
        if config != self.config():
            raise CheckpointError(f"trained on {config['name']}, this is {self.name}")

    def remarks(self):
        return [f"{self.name} is done"]


def test_a_run_goes_on_with_its_own_feed_only(tmp_path, capsys):
    model = make()
    model.fit(Kept("a"), epochs=1, verbose=2)
    assert "a is done" in capsys.readouterr().err
    model.save(tmp_path / "m.safetensors")
    again = make()
    again.build((None, 6, 6, 3))
    again.load(tmp_path / "m.safetensors")
    with pytest.raises(CheckpointError, match="trained on a, this is b"):
        again.fit(Kept("b"), epochs=2, initial_epoch=1, verbose=0)
    again.fit(Kept("a"), epochs=2, initial_epoch=1, verbose=0)
    again.fit(Kept("b"), epochs=1, verbose=0)  # from the start, on what one likes


def test_the_state_of_training_keeps_the_feed():
    state = TrainingState(feed={"seed": 1})
    assert TrainingState.from_json(state.to_json()).feed == {"seed": 1}
    older = {name: value for name, value in state.to_json().items() if name != "feed"}
    assert TrainingState.from_json(older).feed == {}
    for wrong in ([], 3, "x"):
        with pytest.raises(CheckpointError):
            TrainingState.from_json({**state.to_json(), "feed": wrong})


class SaveAt(loop.Callback):
    """Saves in the middle of an epoch, and stops there."""

    def __init__(self, path, epoch: int, batch: int) -> None:
        super().__init__()
        self.path, self.epoch, self.batch = path, epoch, batch

    def on_train_batch_end(self, batch, logs=None):
        if (self.model.training_state.epoch, batch) == (self.epoch, self.batch):
            self.model.save(self.path)
            raise KeyboardInterrupt


def test_training_on_pictures_goes_on_within_an_epoch(tmp_path):
    for part in ("train", "val"):
        for label, name in enumerate("ab"):
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for number in range(11):
                Image.fromarray(X[2 * number + label]).save(folder / f"{number}.png")
    images = scan(tmp_path / "pictures")
    mean, covariance = colours(ImageFeed(images.train, 8, 6))
    augment = Augment(colour=ColourNoise.from_covariance(covariance))

    def network():
        model = Sequential(
            [layers.Flatten(), layers.Dense(8), layers.Dropout(0.5), layers.Dense(2, "softmax")],
            seed=3,
        )
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        model.normalise = Normalise.centred(mean)
        return model

    def fit(model, workers, augment=augment, **settings):
        train = ImageFeed(images.train, 4, 6, augment, seed=3, workers=workers)
        held = ImageFeed(images.val, 7, 6, Augment("ten", flip=False), workers=workers)
        with train, held:
            settings = {"validation_data": held, "verbose": 0, "epochs": 3, **settings}
            return loop.fit(model, train, **settings)

    whole = network()
    history = fit(whole, 0).history
    assert len(history["val_accuracy"]) == 3
    for epoch, batch in ((0, 0), (1, 2), (2, 5)):
        path = tmp_path / f"{epoch}-{batch}.safetensors"
        begun = network()
        with pytest.raises(KeyboardInterrupt):
            fit(begun, 1, callbacks=[SaveAt(path, epoch, batch)])
        resumed = network()
        resumed.build((None, 6, 6, 3))
        resumed.load(path)
        fresh = ColourNoise.from_covariance(covariance * 2)  # as other sampled images would give
        fit(resumed, 2, Augment(colour=fresh), state=resumed.training_state)
        assert same(resumed, whole)
        rows = resumed.training_state.history
        for name in ("loss", "val_loss", "val_accuracy"):
            assert [row[name] for row in rows] == history[name]

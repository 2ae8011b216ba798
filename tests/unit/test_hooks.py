"""Steps and callbacks that users write are called as Keras calls them."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import Tensor, callbacks, metrics, optimizers
from gpukit.errors import SettingError
from gpukit.layers import BatchNormalization, Dense, Input
from gpukit.models import Model, Sequential

RNG = np.random.default_rng(1)
X, Y = RNG.normal(size=(20, 4)).astype(np.float32), RNG.integers(0, 3, 20)
V = (X[:6], Y[:6])


class Recorder(callbacks.Callback):
    def __init__(self):
        self.events = []


def _recording(event):
    def method(self, *args, logs=None):
        *place, logs = args if logs is None else (*args, logs)
        self.events.append((event, *place, sorted(logs)))

    return method


for name in dir(callbacks.Callback):
    if name.startswith("on_") and name not in ("on_batch_begin", "on_batch_end"):
        setattr(Recorder, name, _recording(name))


def layers():
    return [Dense(5, activation="relu", input_shape=(4,)), Dense(3, activation="softmax")]


def compiled(model, **settings):
    model.compile(
        optimizers.SGD(0.1, momentum=0.9),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **settings,
    )
    return model


def test_the_events_of_fit_in_order_and_with_their_logs():
    model, told = compiled(Sequential(layers(), seed=1)), Recorder()
    model.fit(X, Y, batch_size=10, epochs=1, validation_data=V, callbacks=[told], verbose=0)
    figures = ["accuracy", "loss"]
    assert told.events[:3] == [
        ("on_train_begin", []),
        ("on_epoch_begin", 0, []),
        ("on_train_batch_begin", 0, []),
    ]
    names = [event for event, *_ in told.events]
    assert names[3:] == [
        "on_train_batch_end",
        *("on_train_batch_begin", "on_train_batch_end"),
        *("on_test_begin", "on_test_batch_begin", "on_test_batch_end", "on_test_end"),
        *("on_epoch_end", "on_train_end"),
    ]
    assert ("on_train_batch_end", 1, figures) in told.events
    assert ("on_test_batch_end", 0, figures) in told.events
    assert ("on_test_end", figures) in told.events
    assert {"val_loss", "val_accuracy", *figures} <= {*told.events[-1][1]}
    assert told.params == {"epochs": 1, "steps": 2, "verbose": 0} and told.model is model


def test_the_events_of_evaluate_and_predict():
    model, told = compiled(Sequential(layers(), seed=1)), Recorder()
    model.evaluate(X, Y, batch_size=10, callbacks=[told])
    assert [e[:2] for e in told.events] == [
        ("on_test_begin", []),
        *((f"on_test_batch_{when}", i) for i in (0, 1) for when in ("begin", "end")),
        ("on_test_end", ["accuracy", "loss"]),
    ]
    told.events.clear()
    model.predict(X, batch_size=10, callbacks=told)
    assert told.events == [
        ("on_predict_begin", []),
        ("on_predict_batch_begin", 0, []),
        ("on_predict_batch_end", 0, ["outputs"]),
        ("on_predict_batch_begin", 1, []),
        ("on_predict_batch_end", 1, ["outputs"]),
        ("on_predict_end", []),
    ]


def test_batches_by_their_older_names():
    class Old(callbacks.Callback):
        seen = ()

        def on_batch_begin(self, batch, logs=None):
            self.seen = (*self.seen, batch)

        def on_batch_end(self, batch, logs=None):
            self.seen = (*self.seen, round(logs["loss"], 6))

    old = Old()
    history = compiled(Sequential(layers(), seed=1)).fit(
        X, Y, batch_size=10, callbacks=old, verbose=0
    )
    assert old.seen[::2] == (0, 1)
    assert old.seen[-1] == round(history.history["loss"][0], 6)


class Own(Sequential):
    """A step as in Keras's guide, with a metric of its own."""

    calls = ()

    def train_step(self, data):
        x, y = data
        self.calls = (*self.calls, (type(x).__name__, x.shape, y.shape))
        self.zero_grad()
        y_pred = self(x, training=True)
        loss = self.compute_loss(y=y, y_pred=y_pred)
        loss.backward()
        self.optimizer.step(self)
        for metric in self.metrics:
            metric.update_state(y, y_pred)
        return {"loss": loss, **{m.name: m.result() for m in self.metrics}}


def test_a_train_step_of_ones_own_computes_what_the_usual_one_does():
    own, usual = compiled(Own(layers(), seed=1)), compiled(Sequential(layers(), seed=1))
    mine = own.fit(X, Y, batch_size=10, epochs=3, verbose=0).history
    theirs = usual.fit(X, Y, batch_size=10, epochs=3, verbose=0).history
    assert own.calls[0] == ("Tensor", (10, 4), (10,)) and len(own.calls) == 6
    np.testing.assert_allclose(mine["accuracy"], theirs["accuracy"])  # begun anew each epoch
    for a, b in zip(own.get_weights(), usual.get_weights()):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    assert own.context.step == usual.context.step == 6
    assert own.evaluate(X, Y) == pytest.approx(usual.evaluate(X, Y), rel=1e-5)
    assert own.train_on_batch(X, Y, return_dict=True)["loss"] == pytest.approx(
        usual.train_on_batch(X, Y, return_dict=True)["loss"], rel=1e-4
    )


def test_a_step_that_adds_to_the_usual_one():
    class More(Sequential):
        def train_step(self, data):
            return {**super().train_step(data), "rate": self.optimizer.learning_rate}

        def test_step(self, data):
            return {**super().test_step(data), "double": 2 * super().test_step(data)["loss"]}

    more, usual = compiled(More(layers(), seed=1)), compiled(Sequential(layers(), seed=1))
    for model in (more, usual):
        model.history = model.fit(
            X, Y, batch_size=8, epochs=2, validation_data=V, verbose=0
        ).history
    for name in ("loss", "accuracy", "val_accuracy"):
        np.testing.assert_allclose(more.history[name], usual.history[name], rtol=1e-6)
    assert more.history["rate"] == pytest.approx([0.1, 0.1])
    assert more.history["val_double"] == pytest.approx(2 * np.array(more.history["val_loss"]))
    for a, b in zip(more.get_weights(), usual.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_a_tracker_is_reset_at_each_pass():
    class Tracked(Sequential):
        def train_step(self, data):
            self.tracker.update_state(1.0)
            return {"loss": self.tracker.result(), "count": self.count.result()}

        def test_step(self, data):
            self.tracker.update_state(float(len(data[1])))
            return {"loss": self.tracker.result()}

    model = Tracked(layers(), seed=1)
    model.compile("sgd")
    model.tracker, model.count = metrics.Mean(name="loss"), metrics.Mean(name="count")
    model.tracker.update_state(100.0)
    history = model.fit(X, Y, batch_size=10, epochs=2, validation_data=V, verbose=0).history
    assert history["loss"] == [1.0, 1.0] and history["val_loss"] == [6.0, 6.0]
    assert model.evaluate(X, Y, batch_size=10) == 10.0


def test_a_predict_step_of_ones_own():
    class Doubled(Sequential):
        def predict_step(self, data):
            assert isinstance(data, Tensor)
            return 2.0 * super().predict_step(data)

    model = Doubled(layers(), seed=1)
    np.testing.assert_allclose(model.predict(X, batch_size=7), 2 * model(X).numpy(), rtol=1e-6)


def test_a_step_given_to_one_object_and_of_a_functional_model():
    made = []

    class Functional(Model):
        def test_step(self, data):
            made.append(len(data[1]))
            return {"loss": 1.5}

    a = Input((4,))
    model = Functional(a, Dense(3)(BatchNormalization()(a)), seed=1)
    model.compile("sgd", "mse")
    assert model.evaluate(X, np.zeros((20, 3), np.float32), batch_size=16) == 1.5
    assert made == [16, 4]
    model.train_step = lambda data: {"loss": 2.5}
    assert model.fit(X, Y, verbose=0).history["loss"] == [2.5]


@pytest.mark.parametrize("made", [None, 1.0, {"loss": np.ones(3)}, {"loss": "much"}])
def test_what_is_no_dict_of_figures_is_refused(made):
    model = compiled(Sequential(layers(), seed=1))
    model.train_step = lambda data: made
    with pytest.raises(SettingError, match="sequential: train_step returned"):
        model.fit(X, Y, verbose=0)


def test_a_step_of_ones_own_is_neither_cut_nor_repeated():
    model = compiled(Own(layers(), seed=1))
    for settings in ({"accumulate": 2}, {"replay": 1}):
        with pytest.raises(SettingError, match=r"has a train_step of its own.*leave accumulate"):
            model.fit(X, Y, verbose=0, **settings)


def test_a_model_with_a_call_of_its_own_is_refused_with_the_way_out():
    with pytest.raises(SettingError, match=r"Net: a model has no call.*train Sequential\(\[Net"):

        class Net(Model):
            def call(self, inputs, training):
                return inputs


@pytest.mark.parametrize(
    "stray", [Dense(3), [Dense(3)], {"a": Tensor(np.ones(3, np.float32), requires_grad=True)}]
)
def test_what_a_model_holds_that_is_no_part_of_it_is_refused_at_first_use(stray, tmp_path):
    model = compiled(Sequential(layers(), seed=1))
    model.extra = stray
    for use in (
        lambda: model.fit(X, Y, verbose=0),
        lambda: model.save(tmp_path / "m.safetensors"),
    ):
        with pytest.raises(SettingError, match=r"sequential: its attribute 'extra.* no part of"):
            use()


def test_models_in_a_model_are_trained_by_its_step_and_saved_by_themselves(tmp_path):
    class Pair(Sequential):
        def train_step(self, data):
            x, y = data
            loss = self.other.train_on_batch(x.numpy(), y)
            return {"loss": loss}

    model = compiled(Pair(layers(), seed=1))
    model.other, model.first = Sequential(layers(), seed=2), model.layers[0]
    model.other.compile("sgd", "sparse_categorical_crossentropy")
    before = model.other.get_weights()
    model.fit(X, Y, verbose=0)
    assert not np.array_equal(model.other.get_weights()[0], before[0])
    with pytest.raises(SettingError, match=r"'other' is the model 'sequential'.*save each"):
        model.save(tmp_path / "m.safetensors")

"""Steps in parts, twice, and again to name what first was not finite; users' results."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import Tensor, callbacks, layers, metrics, models, ops, optimizers
from gpukit.autograd import differentiable
from gpukit.cli import main
from gpukit.errors import DTypeError, GpukitError, ReplayError, SettingError, ShapeError, TapeError

rng = np.random.default_rng(0)
X = rng.normal(size=(50, 8, 8, 3)).astype(np.float32)
Y = np.arange(50) % 4


def make(device="cpu", dtype="float32", optimizer="adam"):
    model = models.Sequential(
        [
            layers.Conv2D(
                6, 3, activation="relu", input_shape=(8, 8, 3), kernel_regularizer="l2", name="conv"
            ),
            layers.Dropout(0.3),
            layers.Flatten(),
            layers.Dense(16, activation="relu", activity_regularizer="l2", name="hidden"),
            layers.Dropout(0.5),
            layers.Dense(4, activation="softmax", name="output"),
        ],
        device=device,
        dtype=dtype,
        seed=1,
    )
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


# Batches in parts


@pytest.mark.parametrize("parts", [2, 3, 4, 15, 100])
def test_parts_of_a_batch_train_as_the_whole(parts):
    whole, cut = make(dtype="float64"), make(dtype="float64")
    x = X.astype(np.float64)
    # 50 = 15 + 15 + 15 + 5: neither batches nor parts are all of one length.
    history = whole.fit(x, Y, batch_size=15, epochs=2, verbose=0).history
    in_parts = cut.fit(x, Y, batch_size=15, epochs=2, verbose=0, accumulate=parts).history
    for a, b in zip(whole.get_weights(), cut.get_weights(), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(in_parts["loss"], history["loss"], rtol=1e-12)
    assert in_parts["accuracy"] == history["accuracy"]


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
def test_masks_of_parts_are_cut_from_that_of_the_whole(device):
    x = Tensor(np.ones((10, 3, 7), np.float32)).to(device)
    key = {"rate": 0.4, "seed": 3, "layer": 2, "step": 5}
    whole = ops.dropout(x, **key).numpy()
    for first in (1, 2, 9):
        np.testing.assert_array_equal(
            ops.dropout(x[first:], sample=first, **key).numpy(), whole[first:]
        )


def test_a_step_that_fails_leaves_no_gradients():
    class Failing(metrics.Metric):
        name = "failing"

        def update(self, y_true, y_pred):
            raise MemoryError("no more")

    model = make()
    model.fit(X, Y, verbose=0)
    model.compile("sgd", "sparse_categorical_crossentropy", [Failing()])
    with pytest.raises(MemoryError, match="in epoch 1, step 1, on a batch of 32"):
        model.fit(X, Y, verbose=0)
    assert all(parameter.grad is None for parameter in model.parameters)
    assert model.context.sample == 0


# Replays


def test_a_layer_that_is_not_deterministic_is_named():
    class Restless(layers.Layer):
        calls = 0

        def call(self, inputs, training):
            Restless.calls += training
            return inputs * (1.0 + Restless.calls)

    model = models.Sequential(
        [layers.Flatten(), Restless(name="restless"), layers.Dense(4, activation="softmax")], seed=0
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ReplayError, match=r"step 3, computed twice.* output of Restless 'restl"):
        model.fit(X, Y, batch_size=10, verbose=0, replay=3)


def test_the_command_ends_with_a_code_of_its_own(tmp_path, monkeypatch, capsys):
    def differ(model, work):
        raise ReplayError("lenet5: step 2, computed twice, gave other bits")

    monkeypatch.setattr("gpukit.training.loop.take_step_twice", differ)
    arguments = ["train", "lenet5", "--limit", "200", "--replay", "2", "--quiet"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(tmp_path / "run")])
    assert end.value.code == 3
    assert capsys.readouterr().err == "gpukit: lenet5: step 2, computed twice, gave other bits\n"


# What first was not finite


@differentiable
def spoiled(x):
    """x, whose gradient is infinite."""
    return x * np.float32(1), (lambda gy: gy * np.float32("inf"),)


class Spoiling(layers.Layer):
    def call(self, inputs, training):
        return spoiled(inputs)


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_first_layer_that_is_not_finite_is_named(device, parts):
    model = make(device)
    kernel = model.get_layer("hidden").kernel
    kernel.assign(np.full(kernel.shape, 1e38, np.float32))
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="output of Dense 'hidden' was"):
        model.fit(
            X, Y, verbose=0, callbacks=[callbacks.TerminateOnNaN()], batch_size=10, accumulate=parts
        )
    assert model.not_finite == (
        "the output of Dense 'hidden' was the first that is not finite, in epoch 1, step 1"
    )
    assert model.context.step == 1


def test_a_gradient_that_is_not_finite_stops_training_before_the_loss_is():
    model = models.Sequential(
        [layers.Flatten(), layers.Dense(5), Spoiling(name="evil"), layers.Dense(4, name="end")],
        seed=0,
    )
    model.compile("sgd", "mse")
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match="the loss is [0-9]"):
        model.fit(X, np.ones((50, 4)), verbose=0, callbacks=[callbacks.TerminateOnNaN()])
    assert model.not_finite.startswith(
        "the gradient that Spoiling 'evil' passes back was the first"
    )


@pytest.mark.parametrize("where", ["input", "target"])
def test_data_that_are_not_finite_are_named(where):
    x, y = X.copy(), np.ones((50, 4), np.float32)
    (x if where == "input" else y)[40] = np.nan
    model = make()
    model.compile("sgd", "mse")
    with np.errstate(all="ignore"), pytest.warns(UserWarning, match=f"the {where} of the model"):
        model.fit(x, y, batch_size=10, shuffle=False, verbose=0)
    assert model.not_finite.endswith("in epoch 1, step 5")


def test_looking_for_what_was_first_changes_nothing():
    def train(check):
        model = models.Sequential(
            [
                layers.BatchNormalization(input_shape=(8, 8, 3), name="norm"),
                layers.Flatten(),
                layers.Dropout(0.5),
                layers.Dense(4, activation="softmax"),
            ],
            seed=0,
        )
        model.compile(optimizers.SGD(1e30), "sparse_categorical_crossentropy")
        with np.errstate(all="ignore"), pytest.warns(UserWarning):
            model.not_finite = "" if check else "known"
            model.fit(X, Y, batch_size=10, epochs=1, verbose=0)
        return model.get_layer("norm").moving_mean.numpy().copy()

    np.testing.assert_array_equal(train(True), train(False))


# Training within training


def test_fit_within_fit_is_refused():
    model = make()
    inner = callbacks.LambdaCallback(on_epoch_end=lambda e, logs: model.fit(X, Y, verbose=0))
    with pytest.raises(SettingError, match="fit was called within fit"):
        model.fit(X, Y, epochs=3, verbose=0, callbacks=[inner])
    model.fit(X, Y, verbose=0)  # and works again afterwards


def test_loading_within_fit_is_refused(tmp_path):
    model = make()
    model.save(tmp_path / "m.safetensors")
    load = callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: model.load(tmp_path / "m.safetensors")
    )
    with pytest.raises(SettingError, match="load within fit"):
        model.fit(X, Y, verbose=0, callbacks=[load])


def test_evaluation_within_fit_changes_nothing():
    plain, watched = make(), make()
    seen = []
    look = callbacks.LambdaCallback(
        on_epoch_end=lambda e, logs: seen.append((watched.evaluate(X, Y), watched.predict(X[:2])))
    )
    plain.fit(X, Y, epochs=2, verbose=0)
    watched.fit(X, Y, epochs=2, verbose=0, callbacks=[look])
    assert len(seen) == 2
    for a, b in zip(plain.get_weights(), watched.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


# What functions of the user's return


def train(layer=None, loss="sparse_categorical_crossentropy", metric=None, **dense):
    chain = [layers.Flatten(input_shape=(8, 8, 3)), layers.Dense(5, **dense)]
    chain += [layer] if layer else []
    model = models.Sequential([*chain, layers.Dense(4, activation="softmax")], seed=0)
    model.compile("sgd", loss, metric)
    model.fit(X, Y, verbose=0)


RESULTS = [
    (lambda x: x.numpy() * 2, TapeError, "returned a ndarray for a Tensor"),
    (lambda x: [x], TapeError, "returned a list for a Tensor"),
    (lambda x: 1.0, TapeError, "returned a float for a Tensor"),
    (lambda x: Tensor(x.numpy().astype(np.float64)), DTypeError, "returned float64 for float32"),
    (lambda x: ops.sum(x, axis=1), ShapeError, r"returned shape \(32,\); it must be \(32, 5\)"),
    (lambda x: ops.to_device(x, "cpu:1"), GpukitError, "returned an array on cpu:1 for one on cpu"),
]


@pytest.mark.parametrize(("function", "kind", "says"), RESULTS)
def test_results_of_layers_are_checked(function, kind, says):
    class Mine(layers.Layer):
        def call(self, inputs, training):
            return function(inputs)

    with pytest.raises(kind, match=f"Mine 'mine': call {says}"):
        train(Mine(name="mine"))


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (lambda t, y: np.ones(len(t), np.float32), "returned a ndarray for a Tensor"),
        (lambda t, y: Tensor(np.ones(len(t), np.float32)), "returned a Tensor without a way back"),
        (lambda t, y: None, "returned a NoneType"),
        (lambda t, y: ops.mean(y), r"gave shape \(\) for a batch"),
    ],
)
def test_results_of_losses_are_checked(loss, says):
    with pytest.raises(GpukitError, match=f"the loss <lambda> {says}"):
        train(loss=loss)


def test_results_of_penalties_and_constraints_are_checked():
    with pytest.raises(TapeError, match="regularizer <lambda> returned a float"):
        train(kernel_regularizer=lambda w: 1.0)
    with pytest.raises(ShapeError, match=r"constraint <lambda> returned shape \(5,\)"):
        train(kernel_constraint=lambda w: w[0])


@pytest.mark.parametrize("result", [None, 1.0, (1,), ("a", 1)])
def test_results_of_metrics_are_checked(result):
    class Mine(metrics.Metric):
        name = "mine"

        def update(self, y_true, y_pred):
            return result

    with pytest.raises(SettingError, match=r"Mine\.update returned"):
        train(metric=[Mine()])


@pytest.mark.parametrize(
    ("gradient", "says"),
    [
        (lambda gy: None, "gradient 1 returned a NoneType"),
        (lambda gy: 1.0, "gradient 1 returned a float"),
        (lambda gy: gy[:1], r"gradient 1 returned shape \(1, 3\)"),
        (lambda gy: gy.astype(np.float64), "gradient 1 returned float64"),
    ],
)
def test_results_of_gradients_are_checked(gradient, says):
    @differentiable
    def mine(x):
        return x * np.float32(2), (gradient,)

    x = Tensor(np.ones((2, 3), np.float32), requires_grad=True)
    with pytest.raises(GpukitError, match=says):
        mine(x).sum().backward()

"""What is frozen does not move, gets no gradient, and stays frozen in files."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

from gpukit import Parameter, Tensor, ops, optimizers
from gpukit.autograd import tape
from gpukit.errors import SettingError
from gpukit.inspect import summary
from gpukit.inspect.sizes import sizes
from gpukit.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, Input
from gpukit.models import Model, Sequential, load_model
from gpukit.training import checkpoint

RNG = np.random.default_rng(5)
X = RNG.normal(size=(16, 6, 6, 2)).astype(np.float32)
Y = RNG.integers(0, 3, 16)


def network(optimizer="sgd", **head):
    model = Sequential(
        [
            Conv2D(4, 3, input_shape=(6, 6, 2), name="conv", kernel_regularizer="l2"),
            BatchNormalization(name="norm", momentum=0.5),
            Flatten(),
            Dense(5, activation="tanh", name="middle", kernel_constraint="unit_norm"),
            Dense(3, activation="softmax", name="head", **head),
        ],
        seed=3,
    )
    model.compile(optimizer, "sparse_categorical_crossentropy")
    return model


def moved(model, work):
    """Names of the parameters that `work()` changes."""
    before = {p.name: p.numpy().copy() for p in model.parameters}
    work()
    return {p.name for p in model.parameters if not np.array_equal(before[p.name], p.numpy())}


def train(model, epochs=2):
    return lambda: model.fit(X, Y, batch_size=8, epochs=epochs, verbose=0)


EVERYTHING = {p.name for p in network().parameters}
HEAD = {"head/kernel", "head/bias"}
MOMENTUM = [
    optimizers.SGD(0.05, momentum=0.9, weight_decay=0.01),
    optimizers.Adam(0.01, weight_decay=0.01),
    optimizers.RMSprop(0.01, momentum=0.5),
    optimizers.Adagrad(0.05),
]


@pytest.mark.parametrize("optimizer", MOMENTUM, ids=lambda o: type(o).__name__)
def test_a_layer_is_frozen_at_any_time_and_thawed_again(optimizer):
    model = network(type(optimizer).from_config(optimizer.get_config()))
    assert moved(model, train(model)) == EVERYTHING
    for name in ("conv", "norm", "middle"):
        model.get_layer(name).trainable = False
    # Neither momentum that is left, nor decay, constraints or moving averages.
    assert moved(model, train(model)) == HEAD
    assert {p.name for p in model.trainable_weights} == HEAD
    model.get_layer("norm").trainable = True
    assert moved(model, train(model)) == HEAD | {p for p in EVERYTHING if p.startswith("norm")}
    model.get_layer("conv").kernel.trainable = True
    assert "conv/kernel" in moved(model, train(model))
    model.trainable = True
    assert moved(model, train(model)) == EVERYTHING


@pytest.mark.parametrize("when", ["made", "before build", "after build", "after compile"])
def test_whenever_it_is_frozen(when):
    layer = Dense(4, name="first", trainable=when != "made")
    model = Sequential([layer, Dense(3, activation="softmax", name="head")], seed=1)
    x = X.reshape(16, -1)
    if when == "before build":
        layer.trainable = False
    if when == "after build":
        model.predict(x)
        layer.trainable = False
    model.compile("adam", "sparse_categorical_crossentropy")
    if when == "after compile":
        layer.trainable = False
    model.predict(x)
    assert moved(model, lambda: model.fit(x, Y, verbose=0)) == HEAD
    assert layer.get_config()["trainable"] is False
    layer.trainable = True
    assert len(moved(model, lambda: model.fit(x, Y, verbose=0))) == 4


def test_a_model_freezes_all_its_layers_and_is_frozen_itself():
    model = network()
    model.trainable = False
    assert not any(layer.trainable for layer in model.layers)
    assert model.trainable_weights == []
    assert len(model.non_trainable_weights) == len(model.weights) == 10
    model.get_layer("head").trainable = True  # as in Keras, the model itself stays frozen
    with pytest.warns(UserWarning, match="no trainable weights") as caught:
        assert moved(model, train(model, epochs=3)) == set()
    assert len(caught) == 1
    with pytest.warns(UserWarning, match="no trainable weights"):
        losses = model.fit(X, Y, batch_size=16, epochs=2, verbose=0).history["loss"]
    assert losses == [pytest.approx(model.evaluate(X, Y), rel=1e-6)] * 2


def test_a_model_without_parameters_is_measured():
    model = Sequential([Flatten(input_shape=(3,))])
    model.compile("sgd", "mse")
    with pytest.warns(UserWarning, match="no trainable weights"):
        history = model.fit(np.ones((4, 3), np.float32), np.zeros((4, 3), np.float32), verbose=0)
    assert history.history["loss"] == [1.0]


def test_no_gradient_of_what_is_frozen_is_computed(monkeypatch):
    made = []
    node = tape.Node.__init__
    monkeypatch.setattr(
        tape.Node, "__init__", lambda self, *given: made.append(given[0]) or node(self, *given)
    )
    model = network()
    model.train_on_batch(X, Y)
    assert {"conv2d", "batch_norm", "dense"} <= {*made}
    made.clear()
    for layer in model.layers[:-1]:
        layer.trainable = False
    model.train_on_batch(X, Y)
    # The tape begins at the last layer: nothing before it is kept or passed back.
    assert made.count("dense") == 1
    assert not {"conv2d", "batch_norm", "batch_norm_inference", "tanh", "reshape"} & {*made}


def test_gradients_pass_through_what_is_frozen():
    model = network()
    whole = Tensor(X, requires_grad=True)
    ops.sum(ops.square(model(whole))).backward()
    model.trainable = False
    part = Tensor(X, requires_grad=True)
    ops.sum(ops.square(model(part, training=True))).backward()  # inference all the same
    np.testing.assert_array_equal(part.grad.numpy(), whole.grad.numpy())
    assert all(p.grad is None for p in model.parameters)


def test_penalties_are_those_of_what_is_trained():
    model = network()
    conv = model.get_layer("conv")
    assert model.penalty().item() == pytest.approx(0.01 * float((conv.kernel.numpy() ** 2).sum()))
    conv.trainable = False
    assert model.penalty() is None


def test_frozen_layers_against_torch():
    torch = pytest.importorskip("torch")
    model = Sequential(
        [
            Conv2D(4, 3, input_shape=(6, 6, 2), trainable=False),
            BatchNormalization(trainable=False),
            BatchNormalization(momentum=0.9),
            Flatten(),
            Dense(3),
        ],
        seed=3,
        dtype="float64",
    )
    conv, fixed, norm, _, dense = model.layers
    fixed.set_weights([RNG.uniform(0.5, 2, 4) for _ in range(4)])
    model.compile(optimizers.SGD(0.1, momentum=0.9), "mse")
    x, y = X.astype(np.float64), RNG.normal(size=(16, 3))

    def tensor(a):
        return torch.tensor(np.array(a))

    layer = torch.nn.Conv2d(2, 4, 3, dtype=torch.float64).requires_grad_(False)
    layer.weight.copy_(tensor(conv.kernel.numpy().transpose(3, 2, 0, 1)))
    layer.bias.zero_()
    still = torch.nn.BatchNorm2d(4, eps=1e-3, dtype=torch.float64).requires_grad_(False).eval()
    for name, p in zip(("weight", "bias", "running_mean", "running_var"), fixed.parameters):
        getattr(still, name).copy_(tensor(p.numpy()))
    moving = torch.nn.BatchNorm2d(4, eps=1e-3, dtype=torch.float64)
    head = torch.nn.Linear(64, 3, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(tensor(dense.kernel.numpy().T))
        head.bias.zero_()
    trained = [*moving.parameters(), *head.parameters()]
    optimizer = torch.optim.SGD(trained, 0.1, momentum=0.9)
    kept = [p.numpy().copy() for layer in (conv, fixed) for p in layer.parameters]
    for _ in range(3):
        got = model.train_on_batch(x, y)
        z = moving(still(layer(tensor(x.transpose(0, 3, 1, 2)))))
        loss = torch.nn.functional.mse_loss(head(z.permute(0, 2, 3, 1).flatten(1)), tensor(y))
        assert got == pytest.approx(loss.item(), rel=1e-12)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    np.testing.assert_allclose(dense.kernel.numpy(), head.weight.detach().numpy().T, rtol=1e-10)
    np.testing.assert_allclose(norm.gamma.numpy(), moving.weight.detach().numpy(), rtol=1e-10)
    for before, p in zip(kept, (*conv.parameters, *fixed.parameters)):
        np.testing.assert_array_equal(p.numpy(), before)


def test_what_the_optimiser_remembers_is_kept_while_frozen():
    def run(frozen_steps):
        model = network(optimizers.SGD(0.05, momentum=0.9))
        model.train_on_batch(X, Y)
        middle = model.get_layer("middle")
        middle.trainable = False
        state = model.optimizer.state()
        for _ in range(frozen_steps):
            model.train_on_batch(X, Y)
        now = model.optimizer.state()
        for name, value in state.items():
            if "middle" in name:
                np.testing.assert_array_equal(now[name], value)
        assert {n for n in now if n.endswith("velocity")} == {
            n for n in state if n.endswith("velocity")
        }
        middle.trainable = True
        return model

    model = run(2)
    velocity = model.optimizer.state()["optimizer/middle/bias/velocity"]
    before = model.get_layer("middle").bias.numpy().copy()
    bias = model.get_layer("middle").bias
    model.train_on_batch(X, Y)
    after = model.optimizer.state()["optimizer/middle/bias/velocity"]
    np.testing.assert_allclose(bias.numpy(), before + after, rtol=1e-5)
    assert not np.array_equal(after, velocity)


def test_a_parameter_that_joins_later_begins_anew():
    model = network(optimizers.SGD(0.05, momentum=0.9))
    middle = model.get_layer("middle")
    middle.trainable = False
    train(model)()
    assert not any("middle" in name for name in model.optimizer.state())
    middle.trainable = True
    before = middle.bias.numpy().copy()
    model.train_on_batch(X, Y)
    velocity = model.optimizer.state()["optimizer/middle/bias/velocity"]
    np.testing.assert_allclose(middle.bias.numpy() - before, velocity, rtol=1e-4, atol=1e-7)


def test_files_keep_what_is_frozen_and_go_on_to_the_same_bits(tmp_path):
    def begin():
        model = network(optimizers.Adam(0.01))
        train(model)()
        model.get_layer("conv").trainable = False
        model.get_layer("norm").trainable = False
        model.get_layer("middle").kernel.trainable = False
        train(model)()
        return model

    model = begin()
    model.save(tmp_path / "frozen.safetensors")
    loaded = load_model(tmp_path / "frozen.safetensors")
    names = {"middle/bias", *HEAD}
    assert {p.name for p in loaded.trainable_weights} == names
    assert [layer.trainable for layer in loaded.layers] == [False, False, True, True, True]
    for each in (model, loaded):
        each.stop_training = False
        assert moved(each, train(each)) == names
        each.trainable = True
        assert moved(each, train(each)) == EVERYTHING
    for a, b in zip(model.get_weights(), loaded.get_weights()):
        np.testing.assert_array_equal(a, b)
    model.trainable = False
    model.save(tmp_path / "still.safetensors")
    assert load_model(tmp_path / "still.safetensors").trainable is False


def test_a_file_whose_optimiser_never_met_a_parameter(tmp_path):
    model = network(optimizers.Adam(0.01))
    model.get_layer("conv").trainable = False
    train(model)()
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    loaded.trainable = True
    assert moved(loaded, train(loaded)) == EVERYTHING
    other = network(optimizers.Adam(0.01))
    other.get_layer("head").trainable = False
    other.load(tmp_path / "m.safetensors")
    assert [layer.trainable for layer in other.layers] == [True, True, True, True, False]


def test_files_of_before_there_was_freezing_are_read(tmp_path):
    model = network()
    path = tmp_path / "m.safetensors"
    model.save(path)
    tensors, state = checkpoint.read(path)
    del state["model"]["frozen"], state["format"]
    for config in state["model"]["structure"]["layers"]:
        del config["trainable"]
    checkpoint.write(path, tensors, state)
    loaded = load_model(path)
    assert loaded.trainable and len(loaded.trainable_weights) == 8


def test_counts_of_trainable_and_frozen(capsys):
    model = network()
    model.get_layer("conv").trainable = False
    figures = {f.name: f for f in sizes(model)}
    assert (figures["conv"].weights, figures["conv"].biases) == (72, 4)
    assert (figures["conv"].trainable, figures["conv"].frozen) == (0, 76)
    assert (figures["norm"].trainable, figures["norm"].frozen) == (8, 8)
    summary.show(model)
    assert "351 trainable, 84 frozen" in capsys.readouterr().out.replace("\n", " ")
    assert json.dumps([f.frozen for f in figures.values()]) == "[76, 8, 0, 0, 0]"


def test_a_layer_called_for_inference_keeps_that(tmp_path):
    a = Input((4,))
    drop = Dropout(0.5, name="drop")
    norm = BatchNormalization(name="norm", momentum=0.0)
    model = Model(a, Dense(2)(norm(drop(a, training=False), training=False)), seed=1)
    model.compile("sgd", "mse")
    x = RNG.normal(size=(8, 4)).astype(np.float32)
    path = tmp_path / "m.safetensors"
    model.save(path)
    for each in (model, load_model(path)):
        np.testing.assert_array_equal(each(x, training=True).numpy(), each.predict(x))
        names = moved(each, lambda one=each: one.train_on_batch(x, np.zeros((8, 2), np.float32)))
        assert names == {"norm/gamma", "norm/beta", "dense/kernel", "dense/bias"}
    b = Input((4,))
    always = Model(b, drop.from_config(drop.get_config())(b, training=True), seed=1)
    assert (always.predict(np.ones((8, 4), np.float32)) == 0).any()


def test_layers_shared_by_two_models_are_frozen_in_both():
    a = Input((4,))
    features = Dense(3, name="features")(a)
    first = Model(a, Dense(2, name="one")(features), seed=1)
    second = Model(a, Dense(2, name="two")(features), seed=1)
    x, y = np.ones((4, 4), np.float32), np.zeros((4, 2), np.float32)
    for model in (first, second):
        model.compile(optimizers.SGD(0.1, momentum=0.9), "mse")
        assert len(moved(model, lambda one=model: one.train_on_batch(x, y))) == 4
    first.get_layer("features").trainable = False
    for model, own in ((first, "one"), (second, "two")):
        names = moved(model, lambda one=model: one.train_on_batch(x, y))
        assert names == {f"{own}/kernel", f"{own}/bias"}


def test_settings_that_are_no_truth_values():
    model = network()
    with pytest.raises(SettingError, match="Dense 'head': trainable='no'"):
        model.get_layer("head").trainable = "no"
    with pytest.raises(SettingError, match="sequential: trainable=None"):
        model.trainable = None
    with pytest.raises(SettingError, match="parameter 'p': trainable=2"):
        Parameter(np.zeros(2, np.float32), "p").trainable = 2


def test_nothing_warns_where_something_is_trained():
    model = network()
    model.get_layer("conv").trainable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(model)()

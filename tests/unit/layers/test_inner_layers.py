"""What a user's layer holds is built, trained, counted, named and saved with it, or refused."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import Parameter, Tensor, no_grad, ops
from gpukit.core.settings import training_mode
from gpukit.device import get_device
from gpukit.errors import SettingError
from gpukit.inspect.sizes import sizes
from gpukit.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    Layer,
    ReLU,
    register,
)
from gpukit.models import Model, Sequential, load_model

X = np.random.default_rng(2).normal(size=(16, 6, 6, 2)).astype(np.float32)
Y = np.arange(16) % 3


@register
class Residual(Layer):
    """As users of Keras write a block: layers in an attribute, a list and a dict."""

    def __init__(self, filters, **options):
        super().__init__(**options)
        self.filters = filters
        self.first = Conv2D(filters, 3, padding="same", kernel_regularizer="l2")
        self.norms = [BatchNormalization(momentum=0.5), BatchNormalization(name="second")]
        self.rest = {"conv": Conv2D(filters, 3, padding="same"), "deeper": (ReLU(), [Dropout(0.5)])}
        self.short = Conv2D(filters, 1)

    def call(self, inputs, training):
        x = self.rest["deeper"][0](self.norms[0](self.first(inputs)))
        x = self.norms[1](self.rest["conv"](self.rest["deeper"][1][0](x)))
        return x + self.short(inputs)


@register
class Outer(Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.block = Residual(4)
        self.head = Sequential([Flatten(), Dense(5, activation="relu"), Dense(3)])
        self.scale = Parameter(np.full(3, 2.0, np.float64), "scale")

    def call(self, inputs, training):
        return self.head(self.block(inputs), training) * self.scale


NAMES = [
    *("residual/first/kernel", "residual/first/bias"),
    *(f"residual/norms_0/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")),
    *(f"residual/second/{n}" for n in ("gamma", "beta", "moving_mean", "moving_variance")),
    *("residual/rest_conv/kernel", "residual/rest_conv/bias"),
    *("residual/short/kernel", "residual/short/bias"),
]


def network(**settings):
    model = Sequential(
        [Residual(4, input_shape=(6, 6, 2)), Flatten(), Dense(3, activation="softmax")],
        seed=4,
        **settings,
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def test_names_counts_and_shapes():
    model = network()
    assert [p.name for p in model.layers[0].parameters] == NAMES
    assert model.layers[0].count_params() == 76 + 16 + 16 + 148 + 12
    assert model.layers[0].compute_output_shape((None, 6, 6, 2)) == (None, 6, 6, 4)
    assert model.layers[0].compute_output_shape((None, None, 6, 2)) == (None, None, 6, 4)
    assert model.output_shape == (None, 3)
    assert len(model.trainable_weights) == 12
    two = Sequential([Residual(2, input_shape=(4, 4, 2)), Residual(2)], seed=1)
    assert len({p.name for p in two.parameters}) == 28
    assert two.parameters[-1].name == "residual_1/short/bias"


def test_every_parameter_is_trained():
    model = network()
    before = model.get_weights()
    model.fit(X, Y, batch_size=8, verbose=0)
    for p, old in zip(model.parameters, before):
        assert not np.array_equal(p.numpy(), old) or p.name.endswith("rest_conv/bias"), p.name


def test_the_same_network_without_a_block():
    """Loss, gradients, penalties and steps are those of the layers one by one."""
    block = network()
    a = Input((6, 6, 2))
    first = Conv2D(4, 3, padding="same", kernel_regularizer="l2")
    layers = [first, BatchNormalization(momentum=0.5), ReLU()]
    x = a
    for layer in layers:
        x = layer(x)
    conv, norm, short = Conv2D(4, 3, padding="same"), BatchNormalization(), Conv2D(4, 1)
    out = Dense(3, activation="softmax")
    plain = Model(a, out(Flatten()(Add()([norm(conv(x)), short(a)]))), seed=4)
    plain.compile("sgd", "sparse_categorical_crossentropy")
    parts = [first, layers[1], norm, conv, short, out]
    weights = block.get_weights()
    for layer in parts:
        count = len(layer.parameters)
        layer.set_weights(weights[:count])
        weights = weights[count:]
    block.layers[0].rest["deeper"][1][0].rate = 0.0
    for _ in range(3):
        ours, theirs = block.train_on_batch(X, Y), plain.train_on_batch(X, Y)
        assert ours == pytest.approx(theirs, rel=1e-5)
    own = [p for layer in parts for p in layer.parameters]
    for a, b in zip(block.parameters, own):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)


def test_saved_and_loaded_and_gone_on_with(tmp_path):
    model = network()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, Y, batch_size=8, verbose=0)
    path = tmp_path / "m.safetensors"
    model.save(path)
    loaded = load_model(path)
    assert [p.name for p in loaded.parameters] == [p.name for p in model.parameters]
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    for each in (model, loaded):  # the masks of dropout included
        each.fit(X, Y, batch_size=8, epochs=2, initial_epoch=1, verbose=0)
    for a, b in zip(loaded.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_first_values_and_masks_follow_the_models_seed():
    first, again, other = network(), network(), Sequential(network().layers[:0], seed=5)
    other.add(Residual(4, input_shape=(6, 6, 2)))
    for a, b, c in zip(first.get_weights(), again.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)
        assert np.array_equal(a, c) == (len({*a.ravel()}) == 1)
    drop = first.layers[0].rest["deeper"][1][0]
    assert drop.context is first.context
    streams = [layer.stream for layer in first.every_layer()]
    assert len({*streams}) == len(streams)


def test_frozen_with_the_layer():
    model = network()
    block = model.layers[0]
    block.trainable = False
    assert not block.norms[0].trainable
    before = [p.numpy().copy() for p in block.parameters]
    model.fit(X, Y, verbose=0)
    for p, old in zip(block.parameters, before):
        np.testing.assert_array_equal(p.numpy(), old)
    block.trainable = True
    block.first.trainable = False
    assert len(block.trainable_weights) == 8


def test_frozen_before_it_is_built_and_in_files(tmp_path):
    block = Residual(4, input_shape=(6, 6, 2), trainable=False)
    model = Sequential([block, Flatten(), Dense(3)], seed=1)
    assert len(model.trainable_weights) == 2
    block.trainable = True
    block.norms[1].trainable = False
    model.compile("sgd", "mse")
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    assert not loaded.layers[0].norms[1].trainable and loaded.layers[0].norms[0].trainable
    assert len(loaded.trainable_weights) == len(model.trainable_weights) == 10


def test_blocks_models_and_parameters_in_a_layer(tmp_path):
    model = Sequential([Outer(input_shape=(6, 6, 2), name="outer")], seed=3)
    names = [p.name for p in model.parameters]
    assert names[0] == "outer/scale" and model.parameters[0].dtype == np.float32
    assert "outer/block/first/kernel" in names and "outer/head/dense_1/bias" in names
    assert len({*names}) == len(names) == 19
    model.compile("sgd", "mse")
    model.fit(X, np.zeros((16, 3), np.float32), verbose=0)
    assert model.context.step == 1
    model.save(tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    again = Sequential([Outer(input_shape=(6, 6, 2), name="outer")], seed=3)
    fresh = Sequential([Outer(input_shape=(6, 6, 2), name="outer")], seed=3)
    for a, b in zip(again.get_weights(), fresh.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_without_a_model():
    block = Residual(3)
    made = block(X)
    assert isinstance(made, Tensor) and made.shape == (16, 6, 6, 3)
    with training_mode():
        ops.sum(block(X) ** 2).backward()
    assert all(p.grad is not None for p in block.trainable_weights)
    total = 0.01 * float((block.first.kernel.numpy() ** 2).sum())
    assert block.regularization().item() == pytest.approx(total)
    copy = Residual(3)
    copy.build((None, 6, 6, 2))
    copy.set_weights(block.get_weights())
    with no_grad():
        np.testing.assert_array_equal(copy(X).numpy(), block(X).numpy())


def test_on_the_device_of_the_layer():
    model = network(device="cpu:1")
    assert {p.device for p in model.parameters} == {get_device("cpu:1")}
    model.train_on_batch(X, Y)


def test_a_layer_that_two_layers_hold_is_counted_once(tmp_path):
    shared = Dense(3, kernel_regularizer="l2")

    class Half(Layer):
        def __init__(self, dense, **options):
            super().__init__(**options)
            self.dense = dense

        def call(self, inputs, training):
            return self.dense(inputs)

    model = Sequential([Half(shared, input_shape=(3,), name="a"), Half(shared, name="b")], seed=1)
    assert [p.name for p in model.parameters] == ["a/dense/kernel", "a/dense/bias"]
    total = 0.01 * float((shared.kernel.numpy() ** 2).sum())
    assert model.penalty().item() == pytest.approx(total)
    model.compile("sgd", "mse")
    model.train_on_batch(np.ones((2, 3), np.float32), np.ones((2, 3), np.float32))
    model.save_weights(tmp_path / "m.safetensors")
    model.load(tmp_path / "m.safetensors")


class Kept:
    pass


def refused(make, match):
    class Wrong(Layer):
        def __init__(self):
            super().__init__(name="wrong")
            make(self)

        def call(self, inputs, training):
            return self.use(inputs)

    for call in (
        lambda: Wrong()(np.ones((2, 3), np.float32)),
        lambda: Sequential([Wrong()]).predict(np.ones((2, 3), np.float32)),
    ):
        with pytest.raises(SettingError, match=match) as caught:
            call()
        assert str(caught.value).startswith("Wrong 'wrong': ")


def test_what_cannot_be_tracked_is_refused_by_name():
    def leaf(layer):
        layer.gains = [Tensor(np.ones(3, np.float32), requires_grad=True)]
        layer.use = lambda x: x * layer.gains[0]

    refused(leaf, "attribute 'gains_0' is a Tensor that requires a gradient.*add_parameter")

    def a_set(layer):
        layer.parts = {Dense(3)}
        layer.use = lambda x: next(iter(layer.parts))(x)

    refused(a_set, "attribute 'parts' is a set.*use a list or a dict")

    def hidden(layer):
        layer.kept = Kept()
        layer.kept.dense = Dense(3)
        layer.use = lambda x: layer.kept.dense(x)

    refused(hidden, "its call uses Dense 'dense', which it does not hold.*put it in an attribute")

    def made_in_call(layer):
        layer.use = lambda x: Dense(3)(x)

    refused(made_in_call, "its call uses Dense 'dense'")

    def same(layer):
        layer.a, layer.b = Dense(3, name="x"), Dense(3, name="x")
        layer.use = lambda x: layer.b(layer.a(x))

    refused(same, "holds two layers named 'x'")


def test_a_layer_that_joins_late_is_refused():
    class Late(Layer):
        def __init__(self):
            super().__init__(name="late")
            self.parts = [Dense(3)]

        def call(self, inputs, training):
            for part in self.parts:
                inputs = part(inputs)
            return inputs

    layer = Late()
    x = np.ones((2, 3), np.float32)
    layer(x)
    layer.parts.append(Dense(3))
    with pytest.raises(SettingError, match=r"Late 'late'.*before the first call"):
        layer(x)


def test_multiply_adds_are_those_of_all_inner_layers():
    block, *_ = sizes(network())
    assert block.multiply_adds == 36 * 4 * (9 * 2 + 9 * 4 + 2)
    assert (block.trainable, block.frozen) == (252, 16)
    nested = Sequential([Outer(input_shape=(6, 6, 2))])
    assert sizes(nested)[0].multiply_adds == block.multiply_adds + 144 * 5 + 5 * 3

"""What every model does: weights in and out, names, seeds, devices, dtypes, training by hand."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from gpukit import data, layers, losses, ops, optimizers
from gpukit.errors import DataError, DTypeError, SettingError, ShapeError
from gpukit.layers import Activation, Conv2D, Dense, Dropout, Flatten, Input
from gpukit.models import Sequential, get, lenet5


@pytest.fixture(scope="module")
def images():
    return data.load(limit=256)


def message(call, error):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def small(**settings):
    return Sequential(
        [
            Conv2D(3, 5, strides=3, activation="relu", input_shape=(28, 28, 1)),
            Dropout(0.2),
            Flatten(),
            Dense(10, activation="softmax"),
        ],
        **{"seed": 5, **settings},
    )


def test_a_loop_of_ones_own_learns(images):
    """Ten lines, as the README has them."""
    model = lenet5(seed=0)
    optimizer = optimizers.SGD(0.05, momentum=0.9)
    first = None
    for epoch in range(10):
        for x, y in data.batches(images.train_images, images.train_labels, 64, epoch=epoch):
            loss = ops.softmax_cross_entropy(model.logits(x, training=True), y).mean()
            loss.backward()
            optimizer.step(model)
            model.zero_grad()
            first = first or loss.item()
    assert first == pytest.approx(2.3, abs=0.3)
    assert loss.item() < 0.5 * first


def test_the_loop_by_hand_is_train_on_batch(images):
    """With the fused loss, with probabilities, and with what fit does: the same step."""
    x = images.train_images[:32] / np.float32(255)
    y = images.train_labels[:32].astype(np.int64)
    weights = []
    for way in ("fit", "logits", "probabilities"):
        model = small()
        optimizer = optimizers.SGD(0.1)
        if way == "fit":
            model.compile(optimizer, "sparse_categorical_crossentropy")
            model.train_on_batch(x, y)
        else:
            if way == "logits":
                loss = ops.softmax_cross_entropy(model.logits(x, training=True), y).mean()
            else:
                loss = losses.SparseCategoricalCrossentropy()(y, model(x, training=True))
            loss.backward()
            optimizer.step(model)
            model.zero_grad()
        assert model.context.step == 1
        assert all(p.grad is None for p in model.parameters)
        weights.append(model.get_weights())
    for a, b, c in zip(*weights):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-4, atol=1e-6)


def test_each_call_in_training_draws_new_masks(images):
    """The average over masks is Monte-Carlo dropout; outside training there are none."""
    model = Sequential([Dropout(0.5, input_shape=(64,))], seed=1)
    x = np.ones((2, 64), np.float32)
    one, two = model(x, training=True), model(x, training=True)
    assert (one != two).any() and set(np.unique(one)) == {0.0, 2.0}
    np.testing.assert_array_equal(model(x), x)
    assert model.context.step == 2
    mean = np.mean([model(x, training=True) for _ in range(400)], axis=0)
    assert abs(mean - 1).max() < 0.3


def test_logits_are_what_comes_before_the_last_activation():
    x = np.random.default_rng(0).normal(size=(4, 6)).astype(np.float32)
    for last in ([Dense(3, activation="softmax")], [Dense(3), Activation("softmax")]):
        model = Sequential([Dense(5, input_shape=(6,)), *last], seed=1)
        np.testing.assert_allclose(ops.softmax(model.logits(x)).numpy(), model(x).numpy())
    linear = Sequential([Dense(3, input_shape=(6,))], seed=1)
    np.testing.assert_array_equal(linear.logits(x).numpy(), linear(x).numpy())


def test_weights_in_and_out():
    model, other = small(seed=1), small(seed=2)
    x = np.random.default_rng(0).normal(size=(2, 28, 28, 1)).astype(np.float32)
    assert (model.predict(x) != other.predict(x)).any()
    weights = model.get_weights()
    assert [w.shape for w in weights] == [(5, 5, 1, 3), (3,), (192, 10), (10,)]
    other.set_weights(weights)
    np.testing.assert_array_equal(model.predict(x), other.predict(x))
    weights[0][:] = 0
    assert (model.get_weights()[0] != 0).any(), "get_weights gives copies"
    model.set_weights([w.tolist() for w in weights])
    assert not model.get_weights()[0].any()
    before = other.get_weights()
    assert "has 4 parameter arrays, 3 were" in message(
        lambda: other.set_weights(weights[:3]), ShapeError
    )
    weights[3] = weights[3][:9]
    assert "'dense/bias' has shape (10,)" in message(lambda: other.set_weights(weights), ShapeError)
    for a, b in zip(before, other.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert model.count_params() == sum(w.size for w in before) == 2008


def test_names_are_counted_in_each_model_by_itself():
    for _ in range(2):
        model = Sequential([Dense(4), Dense(4), Dense(4, name="dense_2"), Flatten(), Dense(1)])
        names = [layer.name for layer in model.layers]
        assert names == ["dense", "dense_1", "dense_2", "flatten", "dense_3"]
    assert message(lambda: model.get_layer("conv"), SettingError).endswith("flatten, dense_3")
    assert model.get_layer("dense_2") is model.layers[2]
    text = message(lambda: Sequential([Dense(1, name="a"), Dense(1, name="a")]), SettingError)
    assert "two layers named 'a'" in text
    assert "cannot be named" in message(
        lambda: Sequential([Dense(1, name="optimizer")]), SettingError
    )
    shared = Dense(1)
    assert "already" in message(lambda: Sequential([shared, shared]), SettingError)


def test_a_seed_fixes_the_first_values_whatever_was_made_before():
    first, _, second = small(seed=7), small(seed=8), small(seed=7)
    for a, b in zip(first.get_weights(), second.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert (small(seed=8).get_weights()[0] != first.get_weights()[0]).any()
    # Layers of one model differ from each other, too.
    twins = Sequential([Dense(4, input_shape=(4,)), Dense(4)], seed=7).get_weights()
    assert (twins[0] != twins[2]).any()


def test_add_one_by_one_before_and_after_it_is_built(images):
    whole = small()
    grown = Sequential(seed=5)
    x = images.train_images[:8]
    for i, layer in enumerate(small().layers):
        grown.add(type(layer).from_config(layer.get_config()))
        if i == 2:
            assert grown.predict(x).shape == (8, 192)
            grown.parameter_buffers()
    np.testing.assert_array_equal(grown.predict(x), whole.predict(x))
    for model in (whole, grown):
        model.compile("sgd", "sparse_categorical_crossentropy")
        model.train_on_batch(x, images.train_labels[:8])
    for a, b in zip(grown.get_weights(), whole.get_weights()):
        np.testing.assert_array_equal(a, b)
    grown.add(Dense(2, activation="softmax", name="more"))
    before = grown.get_layer("more").get_weights()[0]
    grown.fit(x, images.train_labels[:8] % 2, verbose=0)
    assert not np.array_equal(grown.get_layer("more").get_weights()[0], before)


def test_a_layer_that_does_not_fit_is_not_added():
    model = small()
    assert "needs (N, H, W, C)" in message(lambda: model.add(Conv2D(2, 3)), ShapeError)
    assert "is no layer" in message(lambda: model.add("dense"), SettingError)
    assert len(model.layers) == 4
    model.predict(np.zeros((1, 28, 28, 1), np.float32))


def test_models_without_input_shape_are_built_by_their_first_data():
    model = Sequential([Conv2D(2, 3), Flatten(), Dense(3)], seed=1)
    assert model.input_shape is None and model.count_params() == 0
    assert repr(model) == "<Sequential 'sequential', not built>"
    # What does not fit leaves it open for data that do.
    message(lambda: model.predict(np.zeros((2, 2, 2, 1), np.float32)), ShapeError)
    assert model.predict(np.zeros((2, 5, 5, 1), np.float32)).shape == (2, 3)
    assert model.input_shape == (None, 5, 5, 1)
    assert "takes inputs (N, 5, 5, 1)" in message(
        lambda: model.predict(np.zeros((2, 6, 6, 1), np.float32)), ShapeError
    )
    started = Sequential([Input((5, 5, 1)), Conv2D(2, 3)], seed=1)
    assert started.output_shape == (None, 3, 3, 2)


def test_empty_models_say_so():
    model = Sequential()
    x = np.zeros((1, 2), np.float32)
    for call in (lambda: model.predict(x), lambda: model(x), lambda: model.fit(x, x)):
        assert "has no layers" in message(call, SettingError)
    model.add(Dense(2))
    for call in (lambda: model.fit(x, x, verbose=0), lambda: model.evaluate(x, x)):
        assert "call compile(optimizer, loss) first" in message(call, SettingError)
    model.compile()
    assert "has no loss" in message(lambda: model.fit(x, x, verbose=0), SettingError)
    assert "unknown model 'lenet6'" in message(lambda: get("lenet6"), SettingError)


def test_uint8_images_are_scaled_and_other_types_refused(images):
    model = small()
    x = images.train_images[:4]
    scaled = x * np.float32(1 / 255)
    np.testing.assert_array_equal(model.predict(x), model.predict(scaled))
    np.testing.assert_array_equal(model(x).numpy(), model(scaled).numpy())
    model.normalise = data.Normalise.from_images(images.train_images)
    normalised = model.normalise(x)
    np.testing.assert_array_equal(model.predict(x), model(normalised).numpy())
    np.testing.assert_array_equal(model(x).numpy(), model.predict(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    expected = losses.SparseCategoricalCrossentropy()(images.train_labels[:4], model(normalised))
    assert model.evaluate(x, images.train_labels[:4]) == pytest.approx(expected.item(), rel=1e-5)
    model.train_on_batch(x, images.train_labels[:4])
    for call in (model.predict, model):
        text = message(lambda call=call: call(scaled.astype(np.float64)), DTypeError)
        assert "float64" in text and "astype(np.float32)" in text
        text = message(lambda call=call: call(x.astype(np.int64)), DTypeError)
        assert "int64" in text and "astype(np.float32)" in text
    assert model([[[[0.5]] * 28] * 28]).shape == (1, 10)


def test_float64_models(images):
    model = small(dtype="float64")
    assert {w.dtype.name for w in model.get_weights()} == {"float64"}
    assert model.predict(images.train_images[:2]).dtype == np.float64  # uint8 is converted
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    x = images.train_images / 255.0
    history = model.fit(x, images.train_labels, epochs=3, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    assert "float32" in message(lambda: model.predict(x.astype(np.float32)), DTypeError)
    assert "use float32 or float64" in message(lambda: small(dtype="float16"), SettingError)


def test_training_on_a_twin_gives_the_same_bits(images):
    def trained(device):
        model = small(device=device)
        model.compile(optimizers.SGD(0.05, momentum=0.9), "sparse_categorical_crossentropy")
        history = model.fit(
            images.train_images,
            images.train_labels,
            batch_size=50,
            epochs=2,
            verbose=0,
            validation_split=0.25,
        )
        return model, history.history

    host, figures = trained("cpu")
    twin, same = trained("cpu:1")
    assert twin.device.name == "cpu:1"
    for key in ("loss", "val_loss"):
        assert figures[key] == same[key]
    for a, b in zip(host.get_weights(), twin.get_weights()):
        np.testing.assert_array_equal(a, b)
    x = images.test_images[:3] * np.float32(1 / 255)
    assert type(twin.predict(x)) is np.ndarray
    outputs = twin(x)
    assert outputs.device.name == "cpu:1", "arrays of the host come along"
    np.testing.assert_array_equal(outputs.numpy(), host(x).numpy())
    losses.SparseCategoricalCrossentropy()(images.test_labels[:3], outputs).backward()
    text = message(lambda: Sequential(host.layers, device="cpu:1"), SettingError)
    assert "is on cpu:1" in text and "give them one device" in text


def test_train_on_batch(images):
    model = small()
    model.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    x, y = images.train_images[:16], images.train_labels[:16]
    loss, accuracy = model.train_on_batch(x, y)
    assert loss > 0 and 0 <= accuracy <= 1
    assert set(model.train_on_batch(x, y, return_dict=True)) == {"loss", "accuracy"}
    assert model.context.step == 2 and model.optimizer.iterations == 2
    assert "x has 16 samples and y 15" in message(
        lambda: model.train_on_batch(x, y[:15]), Exception
    )


@pytest.mark.parametrize("activation", ["relu", "tanh", None])
def test_all_zero_weights_learn_nothing(images, activation):
    """Seed 000: all outputs are 0, no errors come back, no updates but of the last bias."""
    model = Sequential(
        [
            Flatten(input_shape=(28, 28, 1)),
            Dense(20, activation=activation, kernel_initializer="zeros", name="first"),
            Dense(10, kernel_initializer="zeros", activation="softmax", name="last"),
        ]
    )
    model.compile(optimizers.SGD(0.05), "sparse_categorical_crossentropy", ["accuracy"])
    x, y = images.train_images, images.train_labels
    model.fit(x, y, epochs=5, verbose=0)
    first, hidden, last, bias = model.get_weights()
    assert not first.any() and not hidden.any() and not last.any()
    assert bias.any(), "only the shares of the classes are learnt"
    assert model.evaluate(x, y)[1] < 0.2
    started = Sequential(
        [
            Flatten(input_shape=(28, 28, 1)),
            Dense(20, activation=activation),
            Dense(10, activation="softmax"),
        ],
        seed=1,
    )
    started.compile(optimizers.SGD(0.05), "sparse_categorical_crossentropy", ["accuracy"])
    started.fit(x, y, epochs=15, verbose=0)
    assert started.evaluate(x, y)[1] > 0.4, "small random values break the symmetry"


def test_first_values_of_lenet_are_within_the_bound_of_the_notes():
    """r = √(6/(in + out)), in and out counted as connections of a unit for convolutions."""
    for layer, fan in zip(
        [lay for lay in lenet5(seed=0).layers if lay.parameters],
        [(25, 150), (150, 400), (400, 120), (120, 84), (84, 10)],
    ):
        kernel, bias = layer.get_weights()
        r = np.sqrt(6 / sum(fan))
        assert 0.9 * r < np.abs(kernel).max() <= r and not bias.any()
        assert abs(kernel.mean()) < 4 * r / np.sqrt(3 * kernel.size)


def test_layers_of_ones_own(images):
    @layers.register
    class Scaled(layers.Layer):
        def __init__(self, start=1.0, name=None, input_shape=None, dtype=None):
            super().__init__(name=name, input_shape=input_shape, dtype=dtype)
            self.start = start

        def create_parameters(self, input_shape):
            from gpukit.initializers import Constant

            self.scale = self.add_parameter("scale", input_shape[-1:], Constant(self.start))

        def call(self, inputs, training):
            return ops.multiply(inputs, self.scale)

    model = Sequential(
        [Flatten(input_shape=(28, 28, 1)), Scaled(0.5), Dense(10, activation="softmax")], seed=1
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    before = model.get_weights()[0]
    np.testing.assert_array_equal(before, np.full(784, 0.5, np.float32))
    model.fit(images.train_images, images.train_labels, epochs=1, verbose=0)
    assert (model.get_layer("scaled").scale.numpy() != before).any()
    again = Sequential.from_structure(model.structure(), seed=1)
    again.set_weights(model.get_weights())
    np.testing.assert_array_equal(
        again.predict(images.test_images), model.predict(images.test_images)
    )


@pytest.mark.parametrize("way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_go_on_like_the_model_and_leave_it_alone(images, way):
    x, y = images.train_images[:64], images.train_labels[:64]
    model = small(device="cpu")
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.fit(x, y, verbose=0)
    other, before = way(model), model.get_weights()
    other.fit(x, y, verbose=0)
    for a, b, start in zip(model.get_weights(), other.get_weights(), before):
        np.testing.assert_array_equal(a, start)
        assert (b != start).any()
    model.fit(x, y, verbose=0)
    for a, b in zip(model.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_slips_of_construction_and_of_single_batches(images):
    assert "list of layers" in message(lambda: Sequential(Dense(2), Dense(3)), SettingError)
    assert "'flaot': models use" in message(lambda: Sequential(dtype="flaot"), SettingError)
    for seed in (-1, "a", 1.5):
        assert "seed=" in message(lambda seed=seed: Sequential(seed=seed), SettingError)
    model = small()
    assert "has shape" in message(lambda: model.set_weights([1, 2, 3, 4]), ShapeError)
    model.compile("sgd", "sparse_categorical_crossentropy")
    text = message(
        lambda: model.train_on_batch(images.train_images[:0], images.train_labels[:0]), DataError
    )
    assert "no images" in text and model.context.step == 0


def test_the_names_at_the_top_are_those_of_programs():
    import gpukit

    a = gpukit.Input((3,))
    assert isinstance(gpukit.Model(a, Dense(2)(a)), gpukit.Model)
    assert gpukit.Sequential is Sequential and {"Input", "Model", "Sequential"} <= {*dir(gpukit)}

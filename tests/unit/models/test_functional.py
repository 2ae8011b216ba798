"""Graphs of layers: branches, shared layers, what cannot be a model."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import Tensor, no_grad
from gpukit.core.settings import training_mode
from gpukit.errors import SettingError, ShapeError
from gpukit.layers import (
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    Input,
    ReLU,
)
from gpukit.models import Model, Sequential


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def message(call, error):
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def two_branches(**settings):
    a = Input((6, 6, 3))
    b = Conv2D(4, 3, padding="same", activation="relu")(a)
    c = Conv2D(4, 1)(a)
    d = Concatenate()([Add()([b, c]), a])
    return Model(inputs=a, outputs=Dense(2)(Flatten()(d)), seed=1, **settings)


def test_branches_are_their_layers_by_hand(rng):
    model = two_branches()
    x = rng.normal(size=(3, 6, 6, 3)).astype(np.float32)
    by_name = {layer.name: layer for layer in model.layers}
    assert list(by_name) == ["conv2d", "conv2d_1", "add", "concatenate", "flatten", "dense"]
    b, c = by_name["conv2d"](x), by_name["conv2d_1"](x)
    d = np.concatenate([b.numpy() + c.numpy(), x], axis=-1).reshape(3, -1)
    np.testing.assert_array_equal(model(x).numpy(), by_name["dense"](d).numpy())
    assert model.input_shape == (None, 6, 6, 3) and model.output_shape == (None, 2)
    assert "Model 'model': (N, 6, 6, 3) → (N, 2)" in repr(model)


def test_a_layer_used_twice_shares_its_parameters_and_sums_its_gradients(rng):
    a = Input((4,))
    shared = Dense(4, activation="tanh", name="shared")
    model = Model(a, Add()([shared(shared(a)), a]), dtype="float64", seed=1)
    assert [p.name for p in model.parameters] == ["shared/kernel", "shared/bias"]
    x = rng.normal(size=(5, 4))
    model(x).sum().backward()
    mine = shared.kernel.grad.numpy().copy()

    # The same with two layers of the same values: their gradients, summed.
    one, two = Dense(4, activation="tanh"), Dense(4, activation="tanh")
    for layer in (one, two):
        layer.build((None, 4), dtype="float64")
        layer.set_weights(shared.get_weights())
    two(one(x)).sum().backward()
    np.testing.assert_allclose(mine, one.kernel.grad.numpy() + two.kernel.grad.numpy(), rtol=1e-12)


def test_a_layer_with_activity_penalty_used_twice_is_penalised_twice(rng):
    a = Input((4,))
    shared = Dense(4, activity_regularizer="l1")
    model = Model(a, Add()([shared(a), shared(ReLU()(a))]), dtype="float64")
    model.compile("sgd", "mse")
    x = rng.normal(size=(5, 4))
    seen = np.abs(shared(x).numpy()).sum() + np.abs(shared(np.maximum(x, 0)).numpy()).sum()
    for _ in range(2):  # and not once more in each pass
        model.for_loss(x)
        assert model.penalty().item() == pytest.approx(0.01 * seen / 5)


def test_a_deep_graph_needs_no_recursion(rng):
    a = Input((2,))
    x = a
    dense = Dense(2, kernel_initializer="ones", name="d")
    for _ in range(1500):
        x = Add()([x, a])
    model = Model(a, dense(x), dtype="float64")
    y = model(np.ones((1, 2)))
    y.sum().backward()
    assert y.numpy().tolist() == [[3002.0, 3002.0]]
    assert len(model.graph()) == 1501


def test_values_that_no_later_layer_reads_are_let_go(rng):
    import weakref

    seen = []

    class Watch(ReLU):
        def call(self, inputs, training):
            alive = [r for r in seen if r() is not None]
            assert len(alive) <= 2, "only what is still to be read may be kept"
            outputs = super().call(inputs, training)
            seen.append(weakref.ref(outputs))
            return outputs

    a = Input((2,))
    x = a
    for _ in range(6):
        x = Watch()(x)
    with no_grad():
        Model(a, x)(Tensor(np.ones((1, 2), np.float32)))
    assert len(seen) == 6


def test_what_cannot_be_a_model():
    a, b = Input((4,), name="first"), Input((4,), name="second")
    joined = Add()([a, b])
    assert "given 2 inputs" in message(lambda: Model([a, b], joined), SettingError)
    assert "given 2 outputs" in message(lambda: Model(a, [ReLU()(a), ReLU()(a)]), SettingError)
    text = message(lambda: Model(a, joined), SettingError)
    assert "InputLayer 'second'" in text
    assert "InputLayer 'second'" in message(lambda: Model(a, b), SettingError)
    assert "no layer between" in message(lambda: Model(a, a), SettingError)
    assert "not ndarray" in message(lambda: Model(np.zeros(4), a), SettingError)
    assert "not Dense" in message(lambda: Model(a, Dense(2)), SettingError)
    twice = Dense(2, name="x")(Dense(4, name="x")(a))
    assert "two layers named 'x'" in message(lambda: Model(a, twice), SettingError)
    assert Model([a], [ReLU()(a)]).output_shape == (None, 4), "Keras's lists of one"


def test_a_shared_layer_must_fit_all_its_inputs():
    a = Input((4,))
    shared = Dense(3, name="s")
    text = message(lambda: Model(a, shared(shared(a))), ShapeError)
    assert "Dense 's': was built for inputs (N, …, 4), got (N, 3)" in text
    norm = BatchNormalization(name="bn")
    wide = Dense(5)(norm(a))
    assert "'bn': was built for" in message(lambda: Model(a, norm(wide)), ShapeError)


def test_wrong_inputs(rng):
    model = two_branches()
    for call in (model, model.predict):
        text = message(lambda call=call: call(np.zeros((2, 6, 6, 1), np.float32)), ShapeError)
        assert "conv2d" in text or "model takes inputs (N, 6, 6, 3)" in text
    assert "x has shape (6, 6, 3)" in message(
        lambda: model.predict(np.zeros((6, 6, 3), np.float32)), ShapeError
    )


def features_and_classifier():
    """A classifier, and a model of its layers but the last: the features that retrieval uses."""
    a = Input((6,))
    features = Dropout(0.5)(Dense(5, activation="relu", name="features")(a))
    classifier = Model(a, Dense(3, activation="softmax", name="classes")(features), seed=1)
    return classifier, Model(a, features)


def test_models_may_share_layers(rng):
    classifier, extractor = features_and_classifier()
    x = rng.normal(size=(8, 6)).astype(np.float32)
    y = rng.integers(0, 3, 8)
    assert [p.name for p in extractor.parameters] == ["features/kernel", "features/bias"]
    classifier.compile("sgd", "sparse_categorical_crossentropy")
    classifier.fit(x, y, epochs=1, verbose=0)
    extractor.compile("sgd", "mse")
    assert extractor.parameter_buffers()[0].holds_its_parameters()
    before = classifier.get_weights()
    # The extractor holds the shared parameters now: training the classifier must still reach them.
    classifier.fit(x, y, epochs=2, verbose=0)
    changed = [(a != b).any() for a, b in zip(before, classifier.get_weights())]
    assert changed == [True, True, True, True]
    layer = classifier.get_layer("features")
    np.testing.assert_array_equal(extractor.predict(x), layer(x).numpy())
    extractor.fit(x, np.zeros((8, 5), np.float32), epochs=1, verbose=0)
    np.testing.assert_array_equal(extractor.predict(x), layer(x).numpy())


def test_masks_of_shared_layers_change_with_every_step_of_either_model(rng):
    classifier, extractor = features_and_classifier()
    assert classifier.context is extractor.context
    x = np.abs(rng.normal(size=(4, 6))).astype(np.float32)
    with training_mode():
        masks = [(m(x).numpy(), extractor(x).numpy() == 0)[1] for m in (classifier, extractor) * 2]
    for i, first in enumerate(masks):
        assert all((first != later).any() for later in masks[i + 1 :])


def test_a_model_shares_with_one_other_only():
    one, other = Sequential([Dense(4)]), Sequential([Dense(4)])
    one.layers[0].rename("one")
    fresh = Dense(4, name="fresh")
    assert Sequential([fresh, one.layers[0]]).context is one.context is fresh.context
    text = message(lambda: Sequential([one.layers[0], other.layers[0]]), SettingError)
    assert "shares layers with a model that Dense 'dense' is not of" in text

"""Models come back from files as they went in: structure, weights, optimiser, training."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import constraints, data, layers, losses, optimizers, regularizers, schedules
from gpukit import metrics as metric_family
from gpukit.errors import CheckpointError
from gpukit.layers import (
    ELU,
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Input,
    LeakyReLU,
    LocalResponseNormalization,
    MaxPooling2D,
    ReLU,
    Reshape,
    Softmax,
    ToDevice,
    from_config,
)
from gpukit.layers.base import _family
from gpukit.models import Model, Sequential, load_model

SHAPE = (12, 12, 4)


def every_layer():
    """A chain with every kind of layer that fits into one, none of them at its defaults."""
    return Sequential(
        [
            Input(SHAPE),
            Conv2D(8, (3, 2), strides=(1, 2), padding=((1, 1), (0, 1)), groups=2, use_bias=False,
                   kernel_regularizer=regularizers.l1_l2(1e-3, 1e-3), kernel_constraint="max_norm"),
            BatchNormalization(momentum=0.8, epsilon=1e-2),
            LeakyReLU(0.2),
            DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu"),
            MaxPooling2D(3, 2, "same"),
            LocalResponseNormalization(3, alpha=0.1, groups=2),
            ELU(0.5),
            AveragePooling2D(2, 1),
            ReLU(),
            Reshape((-1, 16)),
            Dense(6, activation="tanh", activity_regularizer="l2", bias_constraint="non_neg"),
            Flatten(),
            Dropout(0.3),
            Dense(5, kernel_initializer="he_normal", bias_regularizer="l1"),
            Softmax(),
        ],
        name="every-layer",
        seed=9,
    )  # fmt: skip


def graph(activation="softmax"):
    """Branches, a layer that is used twice, and a stretch on another device."""
    a = Input(SHAPE)
    shared = Conv2D(4, 3, padding="same", activation="relu", name="shared")
    b = Add()([shared(shared(a)), a])
    c = Concatenate()([GlobalAveragePooling2D()(b), Flatten()(MaxPooling2D(4)(b))])
    d = ToDevice("cpu")(Dropout(0.2)(ToDevice("cpu:1")(c)))
    return Model(a, Activation(activation)(Dense(5)(d)), name="graph", device="cpu", seed=9)


def augmented():
    """Every layer that changes pictures, before a small network."""
    return Sequential(
        [
            Input(SHAPE),
            layers.Resizing(14, 13, interpolation="nearest"),
            layers.RandomCrop(13, 12, seed=4),
            layers.CenterCrop(12, 11),
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, (-0.1, 0.2), fill_mode="constant", fill_value=0.5),
            layers.RandomZoom(0.2),
            layers.RandomRotation(0.1, interpolation="nearest"),
            layers.RandomBrightness(0.1, value_range=(0, 1)),
            layers.RandomContrast(0.2, value_range=(0, 1)),
            layers.Rescaling(2.0, offset=-1.0),
            Flatten(),
            Dense(5, activation="softmax"),
        ],
        name="augmented",
        seed=9,
    )


MODELS = {"sequential": every_layer, "graph": graph, "augmented": augmented}


@pytest.fixture(params=MODELS)
def model(request):
    made = MODELS[request.param]()
    made.compile(
        optimizers.Adam(schedules.StepDecay(0.01, every=3)),
        losses.CategoricalCrossentropy(),
        ["accuracy", "top_2_accuracy"],
    )
    return made


def samples(count=24):
    rng = np.random.default_rng(6)
    x = rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8)
    return x, np.eye(5, dtype=np.float32)[rng.integers(0, 5, count)]


def test_every_layer_is_in_one_of_the_models():
    used = {type(lay).__name__ for make in MODELS.values() for lay in make().layers}
    # Of gpukit's own: other tests register theirs.
    known = {name for name, cls in _family.classes.items() if cls.__module__.startswith("gpukit.")}
    assert used == known


def test_a_loaded_model_is_the_saved_one(model, tmp_path):
    x, y = samples()
    model.class_names = tuple("abcde")
    model.normalise = data.Normalise.from_images(x)
    model.fit(x, y, batch_size=8, epochs=2, verbose=0)
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    assert type(again) is type(model) and again.name == model.name
    assert again.structure() == model.structure()
    assert [(lay.name, [p.name for p in lay.parameters], lay.stream) for lay in again.layers] == [
        (lay.name, [p.name for p in lay.parameters], lay.stream) for lay in model.layers
    ]
    for a, b in zip(again.state_tensors().items(), model.state_tensors().items(), strict=True):
        assert a[0] == b[0]
        np.testing.assert_array_equal(a[1], b[1])
    assert again.normalise == model.normalise and again.class_names == model.class_names
    assert again.context.seed == model.context.seed and again.context.step == model.context.step
    assert again.optimizer.get_config() == model.optimizer.get_config()
    np.testing.assert_array_equal(again.predict(x), model.predict(x))
    assert again.evaluate(x, y) == model.evaluate(x, y)
    # The optimiser's memory, the schedule's place and the masks of dropout go on, to the bit.
    for one in (model, again):
        one.fit(x, y, batch_size=8, epochs=4, initial_epoch=2, verbose=0)
    for a, b in zip(again.get_weights(), model.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert again.optimizer.iterations == model.optimizer.iterations == 12


def test_loading_into_a_model_that_is_there(model, tmp_path):
    x, y = samples()
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    model.save(tmp_path / "m.safetensors")
    other = type(model).from_structure(model.structure(), seed=77)
    assert (other.predict(x) != model.predict(x)).any()
    assert other.load(tmp_path / "m.safetensors") is other
    np.testing.assert_array_equal(other.predict(x), model.predict(x))


def test_weights_alone(model, tmp_path):
    x, y = samples()
    model.fit(x, y, batch_size=8, epochs=1, verbose=0)
    model.save_weights(tmp_path / "w.safetensors")
    bare = load_model(tmp_path / "w.safetensors")
    np.testing.assert_array_equal(bare.predict(x), model.predict(x))
    assert bare._optimizer is None
    # A compiled model keeps the optimiser that it was given.
    bare.compile(optimizers.SGD(0.1), "categorical_crossentropy")
    bare.load(tmp_path / "w.safetensors")
    assert isinstance(bare.optimizer, optimizers.SGD)
    bare.train_on_batch(x, y)


def snapshot(model):
    return (
        [w.copy() for w in model.get_weights()],
        {k: v.copy() for k, v in model.optimizer.state().items()},
        (model.context.seed, model.context.step, model.training_state.epoch, model.normalise),
    )


@pytest.mark.parametrize(
    "other",
    [
        lambda: Sequential([Flatten(input_shape=SHAPE), Dense(5)], seed=1),
        lambda: Sequential([Flatten(input_shape=SHAPE), Dense(4, name="q")]),
        # The same names in other shapes; the same with one layer more, and one less.
        lambda: small(wide=7),
        lambda: small(more=True),
        lambda: small(bias=False),
    ],
)
def test_a_checkpoint_of_another_model_changes_nothing(other, tmp_path):
    x, y = samples()
    model = small()
    model.compile("adam", "mse")
    model.train_on_batch(x, y)
    stranger = other()
    stranger.compile("adam", "mse")
    stranger.save(tmp_path / "other.safetensors")
    before = snapshot(model)
    with pytest.raises(CheckpointError, match=r"other\.safetensors"):
        model.load(tmp_path / "other.safetensors")
    after = snapshot(model)
    for a, b in zip(before[0], after[0]):
        np.testing.assert_array_equal(a, b)
    assert before[1].keys() == after[1].keys()
    for name, value in before[1].items():
        np.testing.assert_array_equal(value, after[1][name])
    assert before[2] == after[2]


def small(wide=5, more=False, bias=True):
    chain = [Flatten(input_shape=SHAPE), Dense(wide, use_bias=bias, name="d")]
    if more:
        chain.append(Dense(5, name="e"))
    return Sequential(chain, seed=1)


def test_load_model_on_a_twin(model, tmp_path):
    x, _ = samples()
    model.save(tmp_path / "m.safetensors")
    twin = load_model(tmp_path / "m.safetensors", device="cpu:1")
    assert {p.device.name for p in twin.parameters} == {"cpu:1"}
    np.testing.assert_array_equal(twin.predict(x), model.predict(x))


def test_a_model_not_built_yet_keeps_its_structure(tmp_path):
    model = Sequential([Flatten(), Dense(3, activation="relu")], name="open", seed=4)
    model.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    x = np.ones((2, 5), np.float32)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_what_cannot_be_saved_says_so_before_anything_is_written(tmp_path):
    from gpukit.errors import SettingError

    model = Sequential([Dense(3, activation=lambda x: x, input_shape=(4,))])
    with pytest.raises(SettingError, match="Dense's activation"):
        model.save(tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_settings_by_name_and_by_object_come_back_alike():
    layer = Dense(3, kernel_constraint=constraints.MaxNorm(3.0, axis=0), kernel_regularizer="l2")
    again = from_config(layer.get_config())
    assert again.kernel_constraint.max_value == 3.0
    config = metric_family.get("acc").get_config()
    assert config == {**metric_family.get("accuracy").get_config(), "name": "acc"}

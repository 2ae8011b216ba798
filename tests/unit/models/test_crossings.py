"""Layers on several devices: only crossings name one, and everything else follows from them."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import callbacks, get_device, ops, optimizers
from gpukit.errors import CheckpointError, DeviceError, GpukitError, SettingError, ShapeError
from gpukit.layers import (
    Add,
    Concatenate,
    Dense,
    Dropout,
    Input,
    Layer,
    Shard,
    Softmax,
    ToDevice,
    from_config,
)
from gpukit.models import Model, Sequential, load_model
from gpukit.training import checkpoint

CPU, TWIN = get_device("cpu"), get_device("cpu:1")


def message(call, kind=GpukitError):
    """The one line of the error that `call` raises."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def columns(devices=("cpu", "cpu:1"), **settings):
    """(N, 6) → (N, 3): a hidden layer of 4 + 6 units, seen by both halves of the output."""
    a = Input((6,))
    b = ToDevice(devices[1], name="there")(a)
    halves = []
    for x, letter, first, units in ((a, "a", 0, 4), (b, "b", 4, 6)):
        hidden = Dense(units, activation="tanh", kernel_regularizer="l2", name=f"hidden{letter}")
        hidden.shard = Shard("hidden", first, 10)
        halves.append(hidden(x))
    both = Concatenate(name="both")([halves[0], ToDevice(devices[0], name="back")(halves[1])])
    out = Softmax(name="softmax")(Dense(3, name="out")(Dropout(0.5, name="dropout")(both)))
    settings = {"seed": 3, "dtype": "float64", "places": {"there": 1, "back": 0}, **settings}
    return Model(a, out, device=devices[0], **settings)


def whole(**settings):
    """The same function with the hidden layer in one."""
    a = Input((6,))
    hidden = Dense(10, activation="tanh", kernel_regularizer="l2", name="hidden")(a)
    out = Softmax(name="softmax")(Dense(3, name="out")(Dropout(0.5, name="dropout")(hidden)))
    return Model(a, out, device="cpu", **{"seed": 3, "dtype": "float64", **settings})


def samples():
    rng = np.random.default_rng(0)
    return rng.standard_normal((5, 6)), rng.integers(0, 3, 5)


def test_layers_are_on_the_device_of_their_inputs():
    a = Input((6,))
    assert a.device is None
    b = ToDevice("cpu:1")(a)
    c = Dense(3)(b)
    assert b.device is c.device is TWIN and c.shape == (None, 3)
    assert "cpu:1" in repr(c) and "device" not in repr(a)
    back = ToDevice("cpu")(c)
    assert back.device is CPU and Add()([Dense(3)(a), back]).device is CPU

    model = columns()
    assert model.devices == (CPU, TWIN) and model.output_device is CPU
    assert {n: model.get_layer(n).kernel.device for n in ("hiddena", "hiddenb", "out")} == {
        "hiddena": CPU,
        "hiddenb": TWIN,
        "out": CPU,
    }
    assert [buffer.name for buffer in model.parameter_buffers()] == ["cpu/float64", "cpu:1/float64"]
    assert columns(("cpu:2", "cpu")).devices == (get_device("cpu:2"), CPU)
    assert Sequential([Dense(2, input_shape=(3,))], device="cpu:1").devices == (TWIN,)


def test_inputs_of_two_devices_are_an_error_that_names_both():
    a = Input((6,))
    there, elsewhere = ToDevice("cpu:1")(a), ToDevice("cpu:2")(a)
    text = message(lambda: Add(name="sum")([there, elsewhere]), DeviceError)
    assert text.startswith("Add 'sum'") and "cpu:1" in text and "cpu:2" in text
    assert "ToDevice('cpu:1')" in text
    # Whether the model's own device is the same one shows when the model is made.
    mixed = Add(name="sum")([a, there])
    assert Model(a, mixed, device="cpu:1").devices == (TWIN,)
    text = message(lambda: Model(a, Add(name="sum")([a, there]), device="cpu"), DeviceError)
    assert text.startswith("Add 'sum'") and "on cpu and on cpu:1" in text and "ToDevice" in text


def test_what_has_parameters_is_on_one_device():
    a = Input((6,))
    shared = Dense(6, name="shared")
    there = ToDevice("cpu")(shared(ToDevice("cpu:1")(a)))
    outputs = Add()([shared(a), there])
    text = message(lambda: Model(a, outputs, device="cpu"), SettingError)
    assert "Dense 'shared'" in text and "on cpu and on cpu:1" in text
    # What has none may be used anywhere: a Dropout then has one mask.
    dropout = Dropout(0.5)
    there = ToDevice("cpu")(dropout(ToDevice("cpu:1")(a)))
    model = Model(a, Concatenate()([dropout(a), there]), device="cpu", seed=0)
    x, _ = samples()
    first, second = ops.split(model(x.astype(np.float32), training=True), 2)
    np.testing.assert_array_equal(first, second)
    assert (np.asarray(first) == 0).any()


def test_a_crossing_is_a_copy_there_and_back():
    layer = ToDevice("cpu:1", name="there")
    x, _ = samples()
    y = layer(x)
    assert y.device is TWIN and layer.device is TWIN and not layer.parameters
    assert layer(y) is y, "nothing to do where it is already"
    config = layer.get_config()
    assert config == {"class": "ToDevice", "device": "cpu:1", "name": "there"}
    assert from_config(config).get_config() == config
    text = message(lambda: ToDevice("cuda:7", name="there"), DeviceError)
    assert text.startswith("ToDevice 'there': device 'cuda:7'")
    text = message(lambda: Sequential([ToDevice("cpu:1", name="there")]), SettingError)
    assert "ToDevice 'there'" in text and "Model" in text


@pytest.mark.parametrize("devices", [("cpu", "cpu"), ("cpu", "cpu:1"), ("cpu:1", "cpu:3")])
def test_penalties_of_all_devices_join_the_loss(devices):
    x, y = samples()
    losses = []
    for model in (whole(), columns(devices)):
        model.compile(optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        losses.append([model.train_on_batch(x, y) for _ in range(4)] + [model.evaluate(x, y)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-12)
    assert losses[0][3] != losses[0][0]


def test_parts_begin_with_the_values_of_the_whole():
    """Glorot's bound depends on the whole's outputs and groups, not on the part's."""
    kernel = whole().get_layer("hidden").kernel.numpy()
    model = columns()
    np.testing.assert_array_equal(model.get_layer("hiddena").kernel.numpy(), kernel[:, :4])
    np.testing.assert_array_equal(model.get_layer("hiddenb").kernel.numpy(), kernel[:, 4:])
    numbers = {layer.name: layer.stream for layer in model.layers}
    assert numbers["hiddena"] == numbers["hiddenb"] == 0 and numbers["dropout"] == 1
    wrong = Dense(4, name="part")
    wrong.shard = Shard("all", 7, 10)
    text = message(lambda: Model(a := Input((6,)), wrong(a)), ShapeError)
    assert text == "Dense 'part': is 7 … 10 of 'all', which has 10"
    for bad in (("", 0, 4), ("x", -1, 4), ("x", 0, 0), ("x", 0.0, 4), ("x", 0, 4, 0)):
        message(lambda bad=bad: Shard(*bad), SettingError)


def test_files_hold_the_whole(tmp_path):
    model = columns()
    expected = whole().state_tensors()
    joined = model.state_tensors()
    assert joined.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(joined[name], array)
    other = whole(seed=4)
    assert (other.get_layer("hidden").kernel.numpy() != expected["hidden/kernel"]).any()
    model.save(tmp_path / "m.safetensors")
    other.load(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(
        other.get_layer("hidden").kernel.numpy(), expected["hidden/kernel"]
    )


def test_a_part_alone_keeps_its_own_name(tmp_path):
    """Of one column, as when its features are looked at, a file has what there is."""
    model = columns(("cpu", "cpu"))
    (node,) = (n for n in model._order if n.layer.name == "hiddena")
    column = Model(model._inputs, node, device="cpu", dtype="float64")
    assert [*column.state_tensors()] == ["hiddena/kernel", "hiddena/bias"]
    column.save(tmp_path / "a.safetensors")
    again = load_model(tmp_path / "a.safetensors", device="cpu")
    x, _ = samples()
    np.testing.assert_array_equal(again.predict(x), column.predict(x))


def test_names_of_wholes_are_taken():
    a = Input((6,))
    part = Dense(6, name="first")
    part.shard = Shard("second", 0, 12)
    for outputs in (Dense(2, name="second")(part(a)), part(Dense(6, name="second")(a))):
        assert "second" in message(lambda outputs=outputs: Model(a, outputs), SettingError)


def test_what_does_not_fit_changes_nothing(tmp_path):
    def compiled(model):
        model.compile(optimizers.SGD(0.1, momentum=0.9), "sparse_categorical_crossentropy")
        model.train_on_batch(*samples())
        return model

    path = tmp_path / "m.safetensors"
    small = Input((6,))
    hidden = Dense(8, name="hidden")(small)
    compiled(
        Model(small, Softmax(name="softmax")(Dense(3, name="out")(hidden)), dtype="float64")
    ).save(path)
    model = compiled(columns())
    before = [p.numpy().copy() for p in model.parameters]
    text = message(lambda: model.load(path), CheckpointError)
    assert "'hidden/kernel' is (6, 8) there and (6, 10) in model" in text and str(path) in text
    for a, b in zip(before, model.parameters):
        np.testing.assert_array_equal(a, b.numpy())
    for given in (("cpu",), ("cpu", "cpu:1", "cpu:2"), ()):
        columns().save(path)
        text = message(lambda given=given: load_model(path, devices=given), SettingError)
        assert "2 devices" in text and f"{len(given)} were given" in text
    text = message(lambda: load_model(path, device="cpu", devices=("cpu", "cpu:1")), SettingError)
    assert "device='cpu'" in text
    assert "cuda:7" in message(lambda: load_model(path, devices=("cpu", "cuda:7")), DeviceError)
    whole().save(path)
    assert "1 device," in message(lambda: load_model(path, devices=("cpu", "cpu:1")), SettingError)


class Noisy(Layer):
    """Counts the calls of its initialiser."""

    drawn = 0

    def create_parameters(self, input_shape):
        self.add_parameter("kernel", (input_shape[-1],), self.draw)

    def draw(self, shape, dtype, rng):
        type(self).drawn += 1
        return np.ones(shape)

    def call(self, inputs, training):
        return inputs


def test_what_a_file_overwrites_is_not_drawn(tmp_path):
    from gpukit.layers import register

    register(Noisy)
    Sequential([Noisy(input_shape=(3,))]).save(tmp_path / "m.safetensors")
    before = Noisy.drawn
    again = load_model(tmp_path / "m.safetensors")
    assert Noisy.drawn == before == 1
    np.testing.assert_array_equal(again.get_weights()[0], 1)


def test_the_norm_of_all_gradients_is_over_all_devices():
    x, y = samples()
    weights = []
    for model in (whole(), columns(), columns(("cpu", "cpu"))):
        model.compile(optimizers.SGD(0.1, global_clipnorm=1e-3), "sparse_categorical_crossentropy")
        before = model.state_tensors()
        before = {name: array.copy() for name, array in before.items()}
        model.train_on_batch(x, y)
        moved = {name: array - before[name] for name, array in model.state_tensors().items()}
        assert np.sqrt(sum((a**2).sum() for a in moved.values())) == pytest.approx(1e-4)
        weights.append(moved)
    for other in weights[1:]:
        for name, array in weights[0].items():
            np.testing.assert_allclose(other[name], array, rtol=0, atol=1e-15)


def test_a_model_may_end_on_another_device():
    x, y = samples()
    figures = []
    for cross in (False, True):
        a = Input((6,))
        hidden = Dense(4, activation="tanh", kernel_regularizer="l2", name="hidden")(a)
        hidden = ToDevice("cpu:1", name="there")(hidden) if cross else hidden
        outputs = Dense(3, activation="softmax", kernel_regularizer="l2", name="out")(hidden)
        model = Model(a, outputs, device="cpu", dtype="float64", seed=1)
        model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
        history = model.fit(x, y, batch_size=2, epochs=2, validation_split=0.2, verbose=0)
        figures.append([*history.history["loss"], *history.history["val_loss"]])
        figures[-1] += [*model.evaluate(x, y), *model.predict(x).ravel()]
    assert model.output_device is TWIN and model.devices == (CPU, TWIN)
    assert figures[0] == figures[1]


def test_fit_goes_on_in_another_form(tmp_path):
    """Optimiser, masks, order of samples and the weights of the best epoch go with the file."""
    x, y = samples()
    x, y = np.concatenate([x, x + 1]), np.concatenate([y, y])
    settings = {"batch_size": 4, "verbose": 0}

    def watch(*more):
        best_is_first = callbacks.EarlyStopping(
            "loss", mode="max", patience=9, restore_best_weights=True
        )
        return {"callbacks": [best_is_first, *more], **settings}

    def compiled(model):
        model.compile(optimizers.Adam(0.01), "sparse_categorical_crossentropy")
        return model

    path = tmp_path / "m.safetensors"
    unbroken = compiled(whole())
    expected = unbroken.fit(x, y, epochs=5, **watch())
    for first, second in ((whole, columns), (columns, whole)):
        compiled(first()).fit(x, y, epochs=3, **watch(callbacks.ModelCheckpoint(path)))
        model = compiled(second(seed=99)).load(path)
        history = model.fit(x, y, epochs=5, initial_epoch=3, **watch())
        np.testing.assert_allclose(
            history.history["loss"], expected.history["loss"], rtol=0, atol=1e-12
        )
        for name, array in unbroken.state_tensors().items():
            np.testing.assert_allclose(model.state_tensors()[name], array, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda structure: structure["parts"].update(hiddena=["hidden", 3, 10, 1]),
        lambda structure: structure["parts"].update(hiddena=["hidden", 0, 10**12, 1]),
        lambda structure: structure["parts"].update(hiddena=["hidden", "0", 10, 1]),
        lambda structure: structure["parts"].update(hiddena=[]),
        lambda structure: structure["parts"].update(other=["hidden", 0, 10, 1]),
        lambda structure: structure.update(parts=[3]),
        lambda structure: crossing(structure).update(place=10**9),
        lambda structure: crossing(structure).update(place=-1),
        lambda structure: crossing(structure).update(place="1"),
        lambda structure: crossing(structure).update(place=None),
        lambda structure: crossing(structure).pop("place"),
    ],
)
def test_files_that_describe_no_model(tmp_path, spoil):
    path = tmp_path / "m.safetensors"
    columns().save(path)
    tensors, state = checkpoint.read(path)
    spoil(state["model"]["structure"])
    checkpoint.write(path, tensors, state)
    for given in ({"device": "cpu"}, {"devices": ("cpu", "cpu:1")}):
        text = message(lambda given=given: load_model(path, **given), CheckpointError)
        assert str(path) in text


def crossing(structure):
    return next(c for c in structure["layers"] if c["name"] == "there")

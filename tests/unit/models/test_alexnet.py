"""AlexNet's forms: what they are made of, their sizes, and bad settings in one line each."""

from __future__ import annotations

import numpy as np
import pytest
from alexnets import FORMS, GROUPED, narrow

from gpukit import get_device, models
from gpukit.errors import CheckpointError, DeviceError, GpukitError, SettingError, ShapeError
from gpukit.inspect.sizes import sizes
from gpukit.layers import Conv2D, Dense, Dropout, LocalResponseNormalization, ToDevice

SIMPLIFIED = {"columns": 1}


def shapes(model):
    return {layer.name: tuple(n for n in layer.built_shapes[1][1:]) for layer in model.layers}


def by_hand(groups):
    """(parameters, connections of filters and units) of the paper's net, layer by layer.

    Maps C×F×F → K on S×S: F·F·C/groups·K weights, each used S·S times.
    """
    convolutions = [  # size, input maps, groups, maps, side
        (11, 3, 1, 96, 55),
        (5, 96, groups, 256, 27),
        (3, 256, 1, 384, 13),
        (3, 384, groups, 384, 13),
        (3, 384, groups, 256, 13),
    ]
    dense = [(6 * 6 * 256, 4096), (4096, 4096), (4096, 1000)]
    parameters = connections = units = 0
    for size, channels, g, maps, side in convolutions:
        weights = size * size * channels // g * maps
        parameters += weights + maps
        connections += weights * side * side
        units += maps * side * side
    for before, after in dense:
        parameters += before * after + after
        connections += before * after
        units += after
    return parameters, connections, units


@pytest.mark.parametrize(
    ("settings", "groups", "parameters", "connections"),
    [
        (GROUPED, 2, 60_965_224, 724_406_816),
        ({"columns": 2, "devices": ("cpu", "cpu:1")}, 2, 60_965_224, 724_406_816),
        (SIMPLIFIED, 1, 62_378_344, 1_135_256_096),
    ],
    ids=["grouped", "two columns", "simplified"],
)
def test_the_sizes_of_the_notes(settings, groups, parameters, connections):
    assert by_hand(groups) == (parameters, connections, 659_272)
    # Zeros are drawn at once; the counts do not depend on values.
    model = models.alexnet(kernel_initializer="zeros", **settings)
    assert model.count_params() == parameters
    table = [f for f in sizes(model) if f.weights]
    assert sum(f.weights + f.biases for f in table) == parameters
    assert sum(f.connections for f in table) == connections
    assert sum(f.units for f in table) == 659_272


def test_two_columns_are_those_of_the_paper():
    model = models.alexnet(kernel_initializer="zeros", devices=("cpu", "cpu:1"))
    found = shapes(model)
    expected = {
        "conv1": (55, 55, 48), "norm1": (55, 55, 48), "pool1": (27, 27, 48),
        "conv2": (27, 27, 128), "norm2": (27, 27, 128), "pool2": (13, 13, 128),
        "conv3": (13, 13, 192), "conv4": (13, 13, 192), "conv5": (13, 13, 128),
        "pool5": (6, 6, 128), "fc6": (2048,), "fc7": (2048,), "fc8": (500,),
    }  # fmt: skip
    for name, shape in expected.items():
        assert found[f"{name}a"] == found[f"{name}b"] == shape, name
    assert found["flatten"] == (9216,) and found["dropout6"] == found["dropout7"] == (4096,)
    assert model.output_shape == (None, 1000)
    # What a column reads: its own half, except in conv3 and in the dense layers.
    channels = {name: model.get_layer(f"{name}b").kernel.shape[-2] for name in expected
                if name[:4] == "conv" or name[:2] == "fc"}  # fmt: skip
    assert channels == {"conv1": 3, "conv2": 48, "conv3": 256, "conv4": 192, "conv5": 192,
                        "fc6": 9216, "fc7": 4096, "fc8": 4096}  # fmt: skip
    crossings = {lay.name: found[lay.name] for lay in model.layers if isinstance(lay, ToDevice)}
    assert crossings == {
        "image_a_to_b": (227, 227, 3),
        "pool2_a_to_b": (13, 13, 128), "pool2_b_to_a": (13, 13, 128),
        "pool5_a_to_b": (6, 6, 128), "pool5_b_to_a": (6, 6, 128),
        "fc6_a_to_b": (2048,), "fc6_b_to_a": (2048,),
        "fc7_a_to_b": (2048,), "fc7_b_to_a": (2048,),
        "fc8_b_to_a": (500,),
    }  # fmt: skip
    # Each value that the columns exchange crosses once forward, its gradient once back: 31 MB each
    # way at batch 128.
    exchanged = sum(np.prod(s) for name, s in crossings.items() if name.endswith("a_to_b"))
    assert (exchanged - 227 * 227 * 3) * 4 * 128 * 2 == 31_064_064
    for layer in model.layers:
        if layer.parameters:
            assert layer.kernel.device is get_device("cpu:1" if layer.name[-1] == "b" else "cpu")
    assert model.devices == (get_device("cpu"), get_device("cpu:1"))


@pytest.mark.parametrize("form", [*FORMS][:3])
def test_settings_of_the_layers(form):
    model = models.alexnet(width=1 / 16, input_size=67, seed=1, **FORMS[form])
    ones = {"conv2", "conv4", "conv5", "fc6", "fc7"}
    for layer in model.layers:
        if isinstance(layer, (Conv2D, Dense)):
            name = layer.name.rstrip("ab")
            assert (layer.bias.numpy() == (name in ones)).all(), name
            assert layer.activation == (None if name == "fc8" else "relu")
        if isinstance(layer, LocalResponseNormalization):
            assert (layer.size, layer.alpha, layer.beta, layer.k) == (5, 5e-4, 0.75, 2.0)
            assert layer.groups == (2 if form == "grouped" else 1)
        if isinstance(layer, Dropout):
            assert layer.rate == 0.5
    kernels = np.concatenate(
        [p.numpy().ravel() for p in model.parameters if p.name.endswith("/kernel")]
    )
    assert abs(kernels.std() - 0.01) < 1e-4 and abs(kernels.mean()) < 1e-4


def test_the_simplified_net_pools_first():
    names = [layer.name for layer in narrow(**SIMPLIFIED).layers]
    grouped = [layer.name for layer in narrow(**GROUPED).layers]
    assert names[:6] == ["conv1", "pool1", "norm1", "conv2", "pool2", "norm2"]
    assert grouped[:6] == ["conv1", "norm1", "pool1", "conv2", "norm2", "pool2"]
    assert names[6:] == grouped[6:] == [
        "conv3", "conv4", "conv5", "pool5", "flatten", "fc6", "dropout6", "fc7", "dropout7",
        "fc8", "softmax",
    ]  # fmt: skip
    model = models.alexnet(kernel_initializer="zeros", **SIMPLIFIED)
    found = shapes(model)
    assert [found[n] for n in ("conv1", "pool1", "conv2", "pool2", "conv3", "pool5", "fc6")] == [
        (55, 55, 96), (27, 27, 96), (27, 27, 256), (13, 13, 256), (13, 13, 384), (6, 6, 256),
        (4096,),
    ]  # fmt: skip


def test_width_scales_maps_and_units_to_even_numbers():
    def column(width):
        model = models.alexnet(width=width, input_size=67, kernel_initializer="zeros")
        found = shapes(model)
        return [found[f"{name}a"][-1] for name in ("conv1", "conv2", "conv3", "conv5", "fc6")]

    assert column(0.5) == [24, 64, 96, 64, 1024]
    assert column(1 / 3) == [16, 42, 64, 42, 682]
    assert column(1e-6) == [2, 2, 2, 2, 2]
    # An odd number of classes: the first column scores one more.
    found = shapes(narrow())
    assert (found["fc8a"], found["fc8b"]) == ((4,), (3,))


def test_other_images():
    model = models.alexnet((80, 67, 1), 10, width=0.1, kernel_initializer="zeros")
    assert model.input_shape == (None, 80, 67, 1) and model.output_shape == (None, 10)
    assert models.get("alexnet") is models.alexnet
    assert (
        models.alexnet(width=0.1, input_size=67, device="cpu:1", columns=1).device.name == "cpu:1"
    )


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"columns": 3}, SettingError, ["columns=3", "1 or 2"]),
        ({"columns": 0}, SettingError, ["columns=0", "1 or 2"]),
        ({"columns": True}, SettingError, ["columns=True", "1 or 2"]),
        ({"columns": 2.0}, SettingError, ["columns=2.0", "1 or 2"]),
        ({"columns": 2, "groups": True}, SettingError, ["columns=2 with groups=True", "columns=1"]),
        ({"width": 0}, SettingError, ["width=0", "above 0"]),
        ({"width": -1.5}, SettingError, ["width=-1.5"]),
        ({"width": float("nan")}, SettingError, ["width=nan"]),
        ({"width": "wide"}, SettingError, ["width='wide'"]),
        ({"width": 1000}, SettingError, ["width=1000", "at most 8"]),
        ({"input_size": 66}, ShapeError, ["66×66", "67×67"]),
        ({"input_size": 0}, SettingError, ["input_size=0"]),
        ({"input_size": 67.5}, SettingError, ["input_size=67.5"]),
        ({"input_shape": (224, 40, 3)}, ShapeError, ["224×40", "67×67"]),
        ({"input_shape": (224, 224)}, ShapeError, ["(224, 224)", "height, width, channels"]),
        ({"input_shape": (100, 100, 3), "input_size": 90}, SettingError, ["100", "input_size=90"]),
        ({"classes": 1}, SettingError, ["classes=1", "2 or more"]),
        ({"dropout": 1.0}, SettingError, ["dropout=1.0"]),
        ({"devices": ("cpu", "cuda:9")}, DeviceError, ["column b", "cuda:9"]),
        ({"devices": ("cpu", "tpu")}, DeviceError, ["column b", "tpu"]),
        ({"devices": ("cpu",)}, SettingError, ["columns=2 on 1 device (cpu)"]),
        ({"devices": "cpu:1"}, SettingError, ["columns=2 on 1 device (cpu:1)"]),
        ({"devices": ()}, SettingError, ["columns=2 on 0 devices"]),
        ({"devices": ("cpu",) * 3}, SettingError, ["columns=2 on 3 devices"]),
        ({"columns": 1, "devices": ("cpu", "cpu:1")}, SettingError, ["columns=1 on 2 devices"]),
        (
            {"devices": ("cpu", "cpu:1"), "device": "cpu:1"},
            SettingError,
            ["device='cpu:1'", "(cpu, cpu:1)", "leave out one"],
        ),
    ],
    ids=str,
)
def test_bad_settings(settings, kind, words):
    with pytest.raises(GpukitError) as caught:
        models.alexnet(**{"width": 0.1, **settings})
    text = str(caught.value)
    assert type(caught.value) is kind and text.startswith("alexnet: ") and "\n" not in text
    for word in words:
        assert word in text, text


@pytest.mark.parametrize("form", ["grouped", "one device"])
def test_a_checkpoint_of_another_width(tmp_path, form):
    path = tmp_path / "m.safetensors"
    narrow(devices=("cpu", "cpu:1")).save(path)
    model = models.alexnet(width=1 / 8, classes=7, input_size=67, **FORMS[form])
    before = [w.tobytes() for w in model.get_weights()]
    with pytest.raises(CheckpointError) as caught:
        model.load(path)
    text = str(caught.value)
    assert "\n" not in text and str(path) in text
    assert "'conv1/kernel' is (11, 11, 3, 8) there and (11, 11, 3, 12) in alexnet" in text
    assert [w.tobytes() for w in model.get_weights()] == before

"""What holds for every layer: shapes, configurations, devices, dtypes, empty batches."""

import json

import numpy as np
import pytest

from gpukit import Tensor, get_device, layers, to_host
from gpukit.errors import CheckpointError

IMAGE = (3, 9, 8, 4)
VECTOR = (3, 6)

# (layer, shape of one input or list of shapes)
CASES = {
    "conv": (lambda: layers.Conv2D(6, 3), IMAGE),
    "conv same": (lambda: layers.Conv2D(6, (3, 2), strides=2, padding="same"), IMAGE),
    "conv pads": (lambda: layers.Conv2D(6, 3, padding=((0, 1), (2, 0)), dilation_rate=2), IMAGE),
    "conv groups": (
        lambda: layers.Conv2D(
            6,
            3,
            groups=2,
            activation="elu",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer="l2",
            kernel_constraint="non_neg",
            algo={"forward": "reference"},
        ),
        IMAGE,
    ),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"), IMAGE),
    "dense": (lambda: layers.Dense(5, activation="softmax", bias_regularizer="l1"), VECTOR),
    "dense of images": (lambda: layers.Dense(5, activation="tanh"), IMAGE),
    "max pool": (lambda: layers.MaxPooling2D(), IMAGE),
    "max pool overlapping": (lambda: layers.MaxPooling2D(3, 2, "same"), IMAGE),
    "average pool": (lambda: layers.AveragePooling2D((2, 3), 1, padding=1), IMAGE),
    "global average": (lambda: layers.GlobalAveragePooling2D(), IMAGE),
    "dropout": (lambda: layers.Dropout(0.4, seed=3, classic=True), VECTOR),
    "flatten": (lambda: layers.Flatten(), IMAGE),
    "reshape": (lambda: layers.Reshape((2, -1, 4)), IMAGE),
    "activation": (lambda: layers.Activation("sigmoid"), IMAGE),
    "linear": (lambda: layers.Activation(None), IMAGE),
    "relu": (lambda: layers.ReLU(), IMAGE),
    "leaky relu": (lambda: layers.LeakyReLU(0.1), IMAGE),
    "elu": (lambda: layers.ELU(0.5), IMAGE),
    "softmax": (lambda: layers.Softmax(), VECTOR),
    "batch norm": (lambda: layers.BatchNormalization(momentum=0.5, scale=False), IMAGE),
    "batch norm of vectors": (lambda: layers.BatchNormalization(center=False), VECTOR),
    "lrn": (lambda: layers.LocalResponseNormalization(3, groups=2), IMAGE),
    "add": (lambda: layers.Add(), [IMAGE, IMAGE, IMAGE]),
    "concatenate": (lambda: layers.Concatenate(), [IMAGE, (3, 9, 8, 2)]),
    "concatenate rows": (lambda: layers.Concatenate(axis=1), [IMAGE, (3, 2, 8, 4)]),
    "rescaling": (lambda: layers.Rescaling(2.0, -1.0), IMAGE),
    "resizing": (lambda: layers.Resizing(5, 11), IMAGE),
    "centre crop": (lambda: layers.CenterCrop(4, 5), IMAGE),
    "flip": (lambda: layers.RandomFlip(seed=3), IMAGE),
    "crop": (lambda: layers.RandomCrop(4, 5, seed=3), IMAGE),
    "translation": (lambda: layers.RandomTranslation(0.3, 0.2, seed=3), IMAGE),
    "rotation": (lambda: layers.RandomRotation(0.2, seed=3), IMAGE),
    "zoom": (lambda: layers.RandomZoom(0.3, seed=3), IMAGE),
    "brightness": (lambda: layers.RandomBrightness(0.3, (-9, 9), seed=3), IMAGE),
    "contrast": (lambda: layers.RandomContrast(0.3, (-9, 9), seed=3), IMAGE),
    "input": (lambda: layers.InputLayer((9, 8, 4)), IMAGE),
}


def inputs_of(shapes, rng, dtype=np.float32, device="cpu"):
    def make(shape):
        return get_device(device).asarray(rng.normal(size=shape).astype(dtype))

    return [make(s) for s in shapes] if isinstance(shapes, list) else make(shapes)


def open_batch(shapes):
    if isinstance(shapes, list):
        return [(None, *s[1:]) for s in shapes]
    return (None, *shapes[1:])


@pytest.fixture(params=CASES, ids=lambda name: name.replace(" ", "-"))
def case(request):
    return CASES[request.param]


@pytest.mark.parametrize("training", [False, True])
def test_output_has_the_computed_shape(case, training):
    make, shapes = case
    layer = make()
    expected = layer.compute_output_shape(open_batch(shapes))
    y = layer(inputs_of(shapes, np.random.default_rng(0)), training=training)
    assert expected[0] is None
    assert tuple(y.shape[1:]) == expected[1:] and y.shape[0] == 3
    assert y.dtype == np.float32


def test_empty_batch(case):
    make, shapes = case
    empty = [(0, *s[1:]) for s in shapes] if isinstance(shapes, list) else (0, *shapes[1:])
    y = make()(inputs_of(empty, np.random.default_rng(0)), training=True)
    assert y.shape[0] == 0


def test_config_survives_json(case):
    make, shapes = case
    layer = make()
    before = json.loads(json.dumps(layer.get_config()))
    layer.compute_output_shape(open_batch(shapes))
    layer(inputs_of(shapes, np.random.default_rng(0)))
    again = layers.from_config(json.loads(json.dumps(layer.get_config())))
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config() == before


def test_same_values_on_a_twin_and_in_float64(case):
    make, shapes = case
    host = make()
    rng = np.random.default_rng(1)
    x = inputs_of(shapes, rng, np.float64)
    shape = open_batch(shapes)
    host.build(shape, dtype=np.float64, rng=np.random.default_rng(5))
    twin = make()
    twin.build(shape, device="cpu:1", dtype=np.float64, rng=np.random.default_rng(5))
    move = get_device("cpu:1").asarray
    moved = [move(a) for a in x] if isinstance(x, list) else move(x)
    for training in (True, False):
        a = getattr(host(x, training), "array", None)
        a = host(x, training) if a is None else a
        b = twin(moved, training)
        b = getattr(b, "array", b)
        assert b.device is get_device("cpu:1")
        assert a.dtype == np.float64
    # Layers without a seed of their own draw other masks; none of the cases has one.
    np.testing.assert_allclose(to_host(b), to_host(a), rtol=1e-12)


def test_gradients_reach_inputs_and_parameters(case):
    make, shapes = case
    layer = make()
    x = inputs_of(shapes, np.random.default_rng(0))
    leaves = [Tensor(a, requires_grad=True) for a in (x if isinstance(x, list) else [x])]
    y = layer(leaves if isinstance(x, list) else leaves[0], training=True)
    (y * y).sum().backward()
    for leaf in leaves:
        assert leaf.grad is not None and leaf.grad.shape == leaf.shape
    for parameter in layer.parameters:
        assert (parameter.grad is not None) == parameter.trainable, parameter.name


def test_unknown_class_and_argument_are_refused():
    with pytest.raises(CheckpointError, match="unknown class 'Evil'"):
        layers.from_config({"class": "Evil"})
    with pytest.raises(CheckpointError, match="unknown class None"):
        layers.from_config({})
    with pytest.raises(CheckpointError, match="'colour'"):
        layers.from_config({"class": "Flatten", "colour": 1})
    with pytest.raises(CheckpointError, match="Dense"):
        layers.from_config({"class": "Dense"})


def test_every_public_layer_is_a_case():
    covered = {type(make()).__name__ for make, _ in CASES.values()}
    public = {
        name
        for name in layers.__all__
        if isinstance(getattr(layers, name), type)
        and issubclass(getattr(layers, name), layers.Layer)
    }
    assert public - {"Layer", "ToDevice"} == covered  # ToDevice: test_crossings.py

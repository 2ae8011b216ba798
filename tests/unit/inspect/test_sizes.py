"""Size tables, with the figures of the lecture notes, and where the notes round or leave out."""

from __future__ import annotations

import numpy as np
import pytest

import gpukit
from gpukit.errors import SettingError, ShapeError
from gpukit.inspect.sizes import sizes
from gpukit.layers import (
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
    MaxPooling2D,
    ReLU,
)
from gpukit.models import Model, Sequential, lenet5


def chain(shape, *layers, **settings):
    return Sequential([Input(shape), *layers], **settings)


def last(model):
    return sizes(model)[-1]


def of(model):
    """Figures by the name of the layer."""
    return {f.name: f for f in sizes(model)}


# Seed 002's table of LeNet

# layer: units, connections, weights
LENET = {
    "c1": (4704, 117_600, 150),
    "s2": (1176, 4704, 0),
    "c3": (1600, 240_000, 2400),
    "s4": (400, 1600, 0),
    "f5": (120, 48_000, 48_000),
    "f6": (84, 10_080, 10_080),
    "output": (10, 840, 840),
}


def test_lenet_is_the_table_of_the_notes():
    figures = of(lenet5())
    del figures["flatten"]
    assert {n: (f.units, f.connections, f.weights) for n, f in figures.items()} == LENET
    for name in ("c1", "c3", "f5", "f6", "output"):
        assert figures[name].multiply_adds == figures[name].connections
    assert figures["s2"].multiply_adds == 0, "a maximum multiplies nothing"


def test_rules_of_thumb_of_the_notes():
    figures = of(lenet5())
    conv, dense = ("c1", "c3"), ("f5", "f6", "output")

    def share(names, what):
        total = sum(getattr(f, what) for f in figures.values())
        return sum(getattr(figures[n], what) for n in names) / total

    assert share(conv, "units") > 0.75 and share(conv, "connections") > 0.8
    assert share(dense, "weights") > 0.95


def test_where_the_table_differs_from_what_is_there():
    """The notes' figures are without biases, of a C3 that sees every map, with padding counted."""
    model = lenet5()
    figures = sizes(model)
    weights, biases = sum(f.weights for f in figures), sum(f.biases for f in figures)
    assert (weights, biases) == (61_470, 236)
    assert model.count_params() == 61_706, "the notes' weights and 236 biases that they leave out"

    # LeCun's paper: each map of C3 saw 3, 4 or 6 maps of S2, 60 pairs of the 96 that are here,
    # so that it had 60·25 + 16 = 1,516 parameters and 151,600 connections with biases.
    c3 = of(model)["c3"]
    pairs = 6 * 3 + 9 * 4 + 1 * 6
    assert (c3.weights, pairs * 25) == (2400, 1500)
    assert (c3.connections + c3.units, pairs * 25 * 100 + c3.units) == (241_600, 151_600)

    # Its S2 and S4 averaged and had a coefficient and a bias for each map; today's have nothing.
    assert of(model)["s2"].weights == of(model)["s2"].biases == 0

    # Connections to the two pixels of padding around the image are counted: 117,600 = 4704·25.
    rows = [min(i + 2, 27) - max(i - 2, 0) + 1 for i in range(28)]
    assert 6 * sum(rows) ** 2 == 107_736


def test_filters_of_the_notes_leave_out_depth_and_biases():
    """Seed 000: "5 × 5 × 100 = 2500 parameters for learning 100 filters"."""
    grey, colour = (last(chain((200, 200, c), Conv2D(100, 5))) for c in (1, 3))
    assert (grey.weights, grey.biases) == (2500, 100)
    assert colour.weights == 7500, "of the colour image beside it, three times as many"
    # Seed 002: a 200×200 image, 100 filters of 10×10, 10K parameters.
    ten = last(chain((200, 200, 1), Conv2D(100, 10)))
    assert (ten.weights, ten.biases) == (10_000, 100)
    # Seed 000: (200·200·3)·5 neurons = 120,000·5, one such perceptron has 120,000 (seed 001).
    flat = last(chain((200, 200, 3), Flatten(), Dense(5)))
    assert flat.weights == 120_000 * 5 and flat.biases == 5
    assert last(chain((32, 32, 3), Flatten(), Dense(1))).weights == 3072


def test_ten_filters_on_32_by_32():
    """Seed 003: 10 5×5 filters, stride 1, pad 2 → 32×32×10 and 76·10 = 760 parameters."""
    figures = last(chain((32, 32, 3), Conv2D(10, 5, strides=1, padding=2)))
    assert figures.output_shape == (32, 32, 10)
    assert figures.weights + figures.biases == 76 * 10 == 760
    six = last(chain((32, 32, 3), Conv2D(6, 5)))
    assert six.output_shape == (28, 28, 6)
    shrinking = chain((32, 32, 3), Conv2D(1, 5), Conv2D(1, 5))
    assert [f.output_shape[0] for f in sizes(shrinking)] == [32, 28, 24]


# Output sizes


@pytest.mark.parametrize(
    ("size", "stride", "pad", "output"),
    [(3, 1, 0, 5), (3, 2, 0, 3), (3, 1, 1, 7), (5, 1, 2, 7), (7, 1, 3, 7), (1, 1, 0, 7)],
)
def test_a_filter_on_7_by_7(size, stride, pad, output):
    layer = Conv2D(1, size, strides=stride, padding=pad, strict=True)
    assert last(chain((7, 7, 1), layer)).output_shape == (output, output, 1)


def test_stride_3_on_7_by_7_does_not_fit():
    """Seeds 000, 001, 003: (7 − 3)/3 + 1 = 2.33 "doesn't fit!"; seed 004 floors."""
    assert last(chain((7, 7, 1), Conv2D(1, 3, strides=3))).output_shape == (2, 2, 1)
    with pytest.raises(ShapeError, match=r"2\.33 does not fit"):
        chain((7, 7, 1), Conv2D(1, 3, strides=3, strict=True))
    with gpukit.strict(), pytest.raises(ShapeError, match=r"2\.33 does not fit"):
        chain((7, 7, 1), Conv2D(1, 3, strides=3))
    with gpukit.strict():
        layer = Conv2D(1, 3, strides=3, strict=False)
        assert last(chain((7, 7, 1), layer)).output_shape == (2, 2, 1)


def test_a_model_with_open_sizes_has_no_table():
    for model in (Sequential([Dense(3)]), chain((None, None, 3), Conv2D(1, 3))):
        with pytest.raises(SettingError, match="no fixed input shape yet"):
            sizes(model)


# Small filters


def test_receptive_fields_of_stacked_3_by_3():
    two = chain((32, 32, 8), *(Conv2D(8, 3) for _ in range(2)))
    three = chain((32, 32, 8), *(Conv2D(8, 3, padding="same") for _ in range(3)))
    assert last(two).receptive_field == (5, 5)
    assert last(three).receptive_field == (7, 7)
    assert last(three).receptive_field == last(chain((32, 32, 8), Conv2D(8, 7))).receptive_field


@pytest.mark.parametrize("channels", [4, 16])
def test_three_3_by_3_against_one_7_by_7(channels):
    h, w, c = 20, 30, channels
    plain = {"padding": "same", "use_bias": False}
    three = sizes(chain((h, w, c), *(Conv2D(c, 3, **plain) for _ in range(3))))
    seven = last(chain((h, w, c), Conv2D(c, 7, **plain)))
    assert sum(f.weights for f in three) == 27 * c * c
    assert seven.weights == 49 * c * c
    assert sum(f.multiply_adds for f in three) == 27 * h * w * c * c
    assert seven.multiply_adds == 49 * h * w * c * c


def test_one_by_one():
    """Seed 001: 32 filters 1×1 on 56×56×64, each a 64-dimensional product."""
    figures = last(chain((56, 56, 64), Conv2D(32, 1)))
    assert figures.output_shape == (56, 56, 32)
    assert figures.connections == 64 * figures.units and figures.receptive_field == (1, 1)


# Receptive fields by experiment


def influence(model, centre):
    """Rows and columns of the input that change one output, found by backpropagation."""
    from gpukit import Tensor

    shape = (1, *model.input_shape[1:])
    x = Tensor(np.random.default_rng(0).normal(size=shape), requires_grad=True)
    y = model(x)
    y[0, centre[0], centre[1], 0].backward()
    rows, columns = np.nonzero(x.grad.numpy()[0].any(axis=-1))
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize(
    "layers",
    [
        lambda: [Conv2D(2, 3), Conv2D(2, (3, 5), strides=(2, 1)), Conv2D(2, 3)],
        lambda: [Conv2D(2, 3, dilation_rate=2), Conv2D(2, 3, dilation_rate=(1, 3))],
        lambda: [Conv2D(2, 5, strides=2), AveragePooling2D(3, 2), Conv2D(2, 3)],
        lambda: [DepthwiseConv2D(3, strides=2), BatchNormalization(), DepthwiseConv2D((5, 3))],
        lambda: [Conv2D(2, 3), Dense(4), Conv2D(2, 3)],  # Dense over images sees one pixel
    ],
)
def test_receptive_field_is_what_a_gradient_reaches(layers):
    model = chain((41, 41, 2), *layers(), dtype="float64", seed=1)
    figures = last(model)
    centre = (figures.output_shape[0] // 2, figures.output_shape[1] // 2)
    assert figures.receptive_field == influence(model, centre)


def test_branches_see_what_the_widest_sees():
    a = Input((31, 31, 2))
    tall = Conv2D(3, (7, 1), padding="same", name="tall")(a)
    wide = Conv2D(3, (1, 5), padding="same", name="wide")(a)
    joined = Add(name="joined")([tall, wide])
    skip = Concatenate(name="skip")([Conv2D(3, 3, padding="same", name="then")(joined), a])
    model = Model(a, skip, dtype="float64", seed=1)
    fields = {name: f.receptive_field for name, f in of(model).items()}
    assert fields == {
        "tall": (7, 1),
        "wide": (1, 5),
        "joined": (7, 5),
        "then": (9, 7),
        "skip": (9, 7),
    }
    assert influence(model, (15, 15)) == (9, 7)


def test_everything_is_seen_after_pooling_over_all_or_connecting_all():
    model = chain((20, 10, 3), Conv2D(4, 3), GlobalAveragePooling2D(), Dense(2))
    assert [f.receptive_field for f in sizes(model)] == [(1, 1), (3, 3), (20, 10), (20, 10)]
    deep = chain((6, 6, 1), *(Conv2D(1, 3, padding="same") for _ in range(4)))
    assert last(deep).receptive_field == (6, 6), "never more than there is"


# Counts of other layers


def test_depthwise_grouped_and_dilated():
    shape = (10, 10, 6)
    deep = last(chain(shape, DepthwiseConv2D(3, depth_multiplier=2)))
    assert (deep.weights, deep.biases, deep.units) == (3 * 3 * 12, 12, 8 * 8 * 12)
    assert deep.connections == deep.multiply_adds == deep.units * 9
    whole, halves = (last(chain(shape, Conv2D(8, 3, groups=g))) for g in (1, 2))
    assert whole.weights == 9 * 6 * 8 and whole.connections == whole.units * 54
    assert halves.weights == 9 * 3 * 8 and halves.connections == halves.units * 27
    dilated = last(chain(shape, Conv2D(8, 3, dilation_rate=3)))
    assert dilated.output_shape == (4, 4, 8) and dilated.receptive_field == (7, 7)
    assert dilated.weights == whole.weights and dilated.connections == dilated.units * 54


def test_what_acts_value_by_value_takes_memory_but_has_no_units():
    model = chain(
        (8, 8, 3), Conv2D(4, 3), BatchNormalization(), ReLU(), Dropout(0.5), Flatten(), Dense(2)
    )
    figures = {f.kind: f for f in sizes(model)}
    assert {kind for kind, f in figures.items() if f.units} == {"Conv2D", "Dense"}
    assert figures["ReLU"].activation_bytes == figures["Conv2D"].activation_bytes == 144 * 4
    assert figures["Flatten"].activation_bytes == 0
    norm = figures["BatchNormalization"]
    assert (norm.weights, norm.biases, norm.fixed) == (4, 4, 8)
    total = sum(f.weights + f.biases + f.fixed for f in figures.values())
    assert total == model.count_params()
    double = chain((8, 8, 3), Conv2D(4, 3), dtype="float64")
    assert last(double).activation_bytes == 144 * 8


def test_a_layer_used_twice_has_its_weights_once_and_its_connections_twice():
    a = Input((8, 8, 4))
    shared = Conv2D(4, 3, padding="same", name="s")
    first, second = sizes(Model(a, shared(shared(a))))
    assert (first.weights, second.weights) == (144, 0)
    assert first.connections == second.connections > 0
    assert (first.receptive_field, second.receptive_field) == ((3, 3), (5, 5))


def test_pooling_example_of_the_notes():
    """The 4×4 example → 6 8 / 3 4; windows of 2×2 connect 4 values to each unit."""
    x = np.array([[1, 1, 2, 4], [5, 6, 7, 8], [3, 2, 1, 0], [1, 2, 3, 4]], np.float32)
    model = chain((4, 4, 1), MaxPooling2D(pool_size=(2, 2)))
    assert model(x[None, :, :, None])[0, :, :, 0].tolist() == [[6, 8], [3, 4]]
    figures = last(model)
    assert (figures.units, figures.connections, figures.weights) == (4, 16, 0)
    overlapping = last(chain((55, 55, 96), MaxPooling2D(3, 2)))
    assert overlapping.output_shape == (27, 27, 96)
    assert overlapping.connections == 9 * overlapping.units

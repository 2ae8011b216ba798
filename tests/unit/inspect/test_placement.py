"""What crosses between devices and what each holds, counted by hand for AlexNet."""

from __future__ import annotations

import io

import pytest

from gpukit.inspect import summary
from gpukit.inspect.placement import memory, traffic
from gpukit.inspect.sizes import sizes
from gpukit.layers import Concatenate, Dense, Input, ToDevice
from gpukit.models import Model, alexnet, lenet5
from gpukit.networks.alexnet.notes import notes

TWINS = ("cpu:0", "cpu:1")


def net(**settings):
    return alexnet(kernel_initializer="zeros", **settings)


@pytest.fixture(scope="module")
def columns():
    return net(devices=TWINS)


def shown(model, monkeypatch, *arguments):
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    summary.show(model, *arguments)
    return out.getvalue()


def test_counts_of_alexnet(columns):
    figures = sizes(columns)
    filters = [f for f in figures if f.multiply_adds]
    # Seed 003's layers, in two groups where the columns do not see each other.
    convolutions = [(55 * 55, 96, 363), (27 * 27, 256, 1200), (169, 384, 2304), (169, 384, 1728),
                    (169, 256, 1728)]  # fmt: skip
    dense = [(4096, 9216), (4096, 4096), (1000, 4096)]
    connections = sum(n * k * w for n, k, w in convolutions) + sum(n * w for n, w in dense)
    units = sum(n * k for n, k, _ in convolutions) + sum(n for n, _ in dense)
    weights = sum(k * w for _, k, w in convolutions) + sum(n * w for n, w in dense)
    biases = sum(k for _, k, _ in convolutions) + sum(n for n, _ in dense)
    assert sum(f.connections for f in filters) == connections == 724_406_816
    assert sum(f.units for f in filters) == units == 659_272
    assert sum(f.weights + f.biases for f in figures) == weights + biases == 60_965_224
    pooled = 27 * 27 * 96 + 13 * 13 * 256 + 6 * 6 * 256
    assert sum(f.units for f in figures) == units + pooled


def test_every_form_counts_the_same(columns):
    grouped = sizes(net(columns=1, groups=True, device="cpu"))
    for what in ("units", "connections", "weights", "biases", "multiply_adds"):
        ours, theirs = (sum(getattr(f, what) for f in x) for x in (sizes(columns), grouped))
        assert ours == theirs, what
    simple = sizes(net(columns=1, device="cpu"))
    assert sum(f.multiply_adds for f in simple) == 1_135_256_096


def test_31_megabytes_cross_each_way(columns):
    a_to_b, b_to_a = traffic(columns, 128)
    assert (a_to_b.source, a_to_b.target, b_to_a.source, b_to_a.target) == (
        "cpu", "cpu:1", "cpu:1", "cpu",
    )  # fmt: skip
    exchanged = 13 * 13 * 128 + 6 * 6 * 128 + 2048 + 2048
    assert a_to_b.forward == b_to_a.backward == exchanged * 4 * 128
    assert b_to_a.forward == a_to_b.backward == (exchanged + 500) * 4 * 128
    assert a_to_b.total == b_to_a.total
    assert round(a_to_b.total / 1e6) == 31
    assert (a_to_b.images, b_to_a.images) == (227 * 227 * 3 * 4 * 128, 0)


def test_bytes_follow_batch_and_dtype(columns):
    half = traffic(columns, 64)[0].total
    assert half * 2 == traffic(columns, 128)[0].total
    narrow = {"devices": TWINS, "width": 0.05, "input_size": 67, "classes": 4}
    single, double = (traffic(net(dtype=f, **narrow), 8) for f in ("float32", "float64"))
    assert [t.total * 2 for t in single] == [t.total for t in double]


def test_nothing_crosses_on_one_device():
    assert traffic(net(width=0.05, input_size=67, device="cpu")) == []
    assert traffic(lenet5(device="cpu")) == []


def test_memory_of_two_columns_is_that_of_their_parts(columns):
    a, b = memory(columns, 128)
    assert (a.device, b.device) == TWINS or (a.device, b.device) == ("cpu", "cpu:1")
    assert a.parameters + b.parameters == 60_965_224 * 4
    for one in (a, b):
        assert one.gradients == one.slots == one.parameters
        assert one.total == 3 * one.parameters + one.activations
    # b holds a copy of the images, a the images themselves and the scores of all classes.
    assert a.activations - b.activations == (500 + 1000 + 1000) * 4 * 128


def test_what_is_computed_together_is_not_kept(columns, monkeypatch):
    norms = {"norm1a": 55 * 55 * 48, "norm2a": 27 * 27 * 128}
    assert "computed together: conv1a + norm1a + pool1a" in shown(columns, monkeypatch)
    outputs = sum(f.activation_bytes for f in sizes(columns) if f.device == "cpu")
    kept = outputs + 227 * 227 * 3 * 4 - 4 * sum(norms.values())
    assert memory(columns, 16)[0].activations == kept * 16


def test_memory_by_hand():
    x = Input((6,))
    here = Dense(4)(x)
    there = Dense(3)(ToDevice("cpu:1")(x))
    model = Model(x, Concatenate()([here, ToDevice("cpu")(there)]), device="cpu")
    one, other = memory(model, batch=10, slots=2)
    assert (one.parameters, one.gradients, one.slots) == (28 * 4, 28 * 4, 56 * 4)
    assert one.activations == (6 + 4 + 3 + 7) * 4 * 10
    assert (other.parameters, other.activations) == (21 * 4, (6 + 3) * 4 * 10)
    back, forth = traffic(model, 10)[1], traffic(model, 10)[0]
    assert (forth.forward, forth.backward, forth.images) == (0, 120, 240)
    assert (back.forward, back.backward, back.images) == (120, 0, 0)


def test_the_table_of_two_devices(columns, monkeypatch):
    text = shown(columns, monkeypatch)
    assert "60,965,224 parameters" in text
    assert "cpu → cpu:1: 31.3 MB cross in a step on 128 images (15.5 MB forward, 15.8" in text
    assert "cpu:1 → cpu: 31.3 MB" in text
    for line in text.splitlines():
        if line.strip().startswith(("conv4a", "fc6a", "pool2_b_to_a")):
            assert line.split()[2] == "cpu"
        if line.strip().startswith(("conv4b", "fc6b", "image_a_to_b")):
            assert line.split()[2] == "cpu:1"
    assert "630 M connections are not reproducible" in text
    assert "659,272" in text and "650 K" in text


def test_one_device_has_no_column_for_it(monkeypatch):
    model = lenet5(device="cpu")
    assert "cpu" not in shown(model, monkeypatch)
    assert "cpu: " in shown(model, monkeypatch, 32)


def test_notes_are_of_the_whole_network_alone(columns):
    assert len(notes(columns, sizes(columns))) == 2
    for model in (lenet5(device="cpu"), net(width=0.1, device="cpu"), net(classes=10)):
        assert notes(model, sizes(model)) == []

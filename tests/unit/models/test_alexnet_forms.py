"""One checkpoint, every form of AlexNet: the same loss, gradients, steps and files."""

from __future__ import annotations

import pytest
from alexnets import (
    FORMS,
    GROUPED,
    assert_agree,
    columns_joined,
    loss_and_gradients,
    narrow,
    samples,
    write_checkpoint,
)

from gpukit.emulator import compiler_problem
from gpukit.models import load_model
from gpukit.training import checkpoint

# A fraction of the largest gradient of a parameter. Float32 sums of a few thousand products differ
# by the order in which they are added.
BOUNDS = {"float64": 1e-10, "float32": 2e-5}
needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
SPLIT = [pytest.param(f, marks=needs_compiler) if f == "emu" else f for f in [*FORMS][1:]]


@pytest.fixture(params=BOUNDS)
def dtype(request):
    return request.param


@pytest.fixture
def file(tmp_path, dtype):
    write_checkpoint(tmp_path / "grouped.safetensors", dtype)
    return tmp_path / "grouped.safetensors"


@pytest.mark.parametrize("form", SPLIT)
def test_loss_and_gradients_are_those_of_the_grouped_form(file, dtype, form):
    x, y = samples(dtype)
    truth = loss_and_gradients(narrow(dtype, **GROUPED).load(file), x, y)
    split = loss_and_gradients(narrow(dtype, **FORMS[form]).load(file), x, y)
    assert_agree(split, truth, BOUNDS[dtype])
    # Dropout is on: without it the gradients are others.
    plain = narrow(dtype, **GROUPED, dropout=0.0).load(file)
    with pytest.raises(AssertionError):
        assert_agree(loss_and_gradients(plain, x, y), truth, 1e-3)


@pytest.mark.parametrize("form", SPLIT)
def test_training_goes_on_in_any_form(file, dtype, form):
    """Three steps after loading: weights, momentum and masks go on as in the grouped form."""
    x, y = samples(dtype)
    states = []
    for settings in (GROUPED, FORMS[form]):
        model = narrow(dtype, **settings).load(file)
        for _ in range(3):
            model.train_on_batch(x, y)
        state = {p.name: p.numpy() for p in model.parameters}
        for name, array in model.optimizer.state().items():
            if name.endswith("/velocity"):
                _before, layer, short, slot = name.split("/")
                state[f"{layer}/{short}/{slot}"] = array
        states.append(columns_joined(state))
    assert len(states[0]) == 4 * 8, "kernel and bias of eight layers, and a velocity for each"
    assert_agree(states[1], states[0], 10 * BOUNDS[dtype])


def test_files_move_between_the_forms_bit_by_bit(tmp_path):
    """Two columns → grouped → two columns, with the optimiser's velocities."""
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    first = narrow(devices=("cpu", "cpu:1"))
    first.train_on_batch(*samples())
    first.save(paths[0])
    second = narrow(**GROUPED, seed=8).load(paths[0])
    second.save(paths[1])
    third = narrow(devices=("cpu:1", "cpu"), seed=9).load(paths[1])
    third.save(paths[2])
    contents = [checkpoint.read(path)[0] for path in paths]
    assert sorted(contents[0]) == sorted(
        [f"{layer}/{short}{slot}" if not slot else f"optimizer/{layer}/{short}{slot}"
         for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")
         for short in ("kernel", "bias") for slot in ("", "/velocity")]
        + ["optimizer/iterations", "optimizer/learning_rate"]
    )  # fmt: skip
    assert contents[0]["conv2/kernel"].shape == (5, 5, 4, 16)
    assert contents[0]["optimizer/conv2/kernel/velocity"].shape == (5, 5, 4, 16)
    assert contents[0]["optimizer/conv2/kernel/velocity"].any()
    for other in contents[1:]:
        assert other.keys() == contents[0].keys()
        for name, array in contents[0].items():
            assert other[name].tobytes() == array.tobytes(), name
    # Both go on from where the first was: the same masks, the same momentum.
    for a, b in zip(first.parameters, third.parameters, strict=True):
        assert a.name == b.name and (a.numpy() == b.numpy()).all()
    first.train_on_batch(*samples())
    third.train_on_batch(*samples())
    for a, b in zip(first.parameters, third.parameters, strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes(), a.name


def test_a_file_is_spread_over_the_devices_that_are_named(tmp_path):
    path = tmp_path / "m.safetensors"
    narrow(devices=("cpu", "cpu")).save(path)
    for given, names in (
        ({"device": "cpu:1"}, ["cpu:1"]),
        ({"devices": ("cpu:1", "cpu")}, ["cpu:1", "cpu"]),
        ({"devices": ("cpu:2", "cpu:3")}, ["cpu:2", "cpu:3"]),
    ):
        model = load_model(path, **given)
        assert [d.name for d in model.devices] == names
        assert model.get_layer("fc7b").kernel.device.name == names[-1]
        # What was on one device for a while can be spread again.
        model.save(tmp_path / "again.safetensors")
        spread = load_model(tmp_path / "again.safetensors", devices=("cpu:4", "cpu:5"))
        assert [d.name for d in spread.devices] == ["cpu:4", "cpu:5"]


def bits_after_two_steps(form):
    model = narrow("float32", **FORMS[form])
    for _ in range(2):
        model.train_on_batch(*samples("float32"))
    return {p.name: p.numpy().tobytes() for p in model.parameters}


@pytest.mark.parametrize("form", ["grouped", *SPLIT])
def test_training_gives_the_same_bits_twice(form):
    assert bits_after_two_steps(form) == bits_after_two_steps(form)


def test_columns_have_the_same_bits_on_one_device_and_on_two():
    expected = bits_after_two_steps("one device")
    assert bits_after_two_steps("twins") == expected
    assert bits_after_two_steps("b first") == expected


@pytest.mark.parametrize("initializer", ["glorot_uniform", "he_normal", "random_normal"])
def test_one_seed_gives_all_forms_the_same_values_and_masks(initializer):
    forms = [
        narrow(kernel_initializer=initializer, **FORMS[form])
        for form in ("grouped", "one device", "twins")
    ]
    values = [columns_joined({p.name: p.numpy() for p in model.parameters}) for model in forms]
    for other in values[1:]:
        assert other.keys() == values[0].keys()
        for name, array in values[0].items():
            assert other[name].tobytes() == array.tobytes(), name
    streams = [{layer.name: layer.stream for layer in model.layers} for model in forms]
    for name in ("dropout6", "dropout7"):
        assert streams[0][name] == streams[1][name] == streams[2][name]

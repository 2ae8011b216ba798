"""Parameter buffers: every slice begins at 16 bytes, and what lies between belongs to nobody."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gpukit import layers, models, optimizers
from gpukit.autograd import Tensor
from gpukit.autograd.buffer import parameter_buffers
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.training import checkpoint, loop

needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
DEVICES = ["cpu", "cpu:1", pytest.param("emu", marks=needs_compiler)]

# Made by gpukit as it was when slices followed each other without gaps: `network()` after three
# steps on `DATA`, and after three more.
HERE = Path(__file__).parent
PACKED = HERE / "before_alignment.safetensors"
PACKED_THEN = HERE / "before_alignment_3_steps_on.safetensors"

_rng = np.random.default_rng(0)
DATA = _rng.standard_normal((8, 6, 6, 1)).astype(np.float32), _rng.integers(0, 3, 8)


def network(optimizer=None, device="cpu", dtype="float32"):
    """Biases of 3 and 5 values, each before another weight."""
    model = models.Sequential(
        [
            layers.Conv2D(3, 3, activation="relu", input_shape=(6, 6, 1)),
            layers.Flatten(),
            layers.Dense(5, activation="tanh"),
            layers.Dense(3, activation="softmax"),
        ],
        seed=0,
        device=device,
        dtype=dtype,
    )
    optimizer = optimizer or optimizers.Adam(0.01, global_clipnorm=0.5)
    model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
    return model


def steps(model, count=3):
    x, y = DATA
    return [loop.train_step(model, model.to_device(x), y)["loss"][0] for _ in range(count)]


def padding(buffer):
    """Which elements of a buffer are no parameter's."""
    free = np.ones(buffer.weights.size, bool)
    for place in buffer.slices:
        free[place] = False
    return free


def address(array):
    return to_host(array).__array_interface__["data"][0]


@pytest.mark.parametrize("device", ["cpu", "cpu:1", "emu"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_parameter_begins_at_a_multiple_of_16_bytes(device, dtype):
    model = network(device=device, dtype=dtype)
    (buffer,) = model.parameter_buffers()
    assert padding(buffer).any()
    slots = model.optimizer._slots_of(buffer)
    for parameter, place in zip(buffer.parameters, buffer.slices):
        arrays = [
            buffer.weights[place],
            buffer.grads[place],
            *(a[place] for a in slots.arrays.values()),
        ]
        assert [address(a) % 16 for a in arrays] == [0] * 4, parameter.name
        assert address(parameter._array) == address(buffer.weights[place])


@pytest.mark.parametrize(
    "optimizer",
    [
        optimizers.SGD(0.1, momentum=0.9, weight_decay=0.01),
        optimizers.Adam(0.01, global_clipnorm=0.01),
        optimizers.RMSprop(0.01, momentum=0.5, clipnorm=0.01),
        optimizers.Adagrad(0.1, clipvalue=0.001, weight_decay=0.01),
    ],
    ids=lambda optimizer: type(optimizer).__name__,
)
def test_what_lies_between_parameters_reaches_nothing(optimizer, tmp_path):
    spoilt, clean = (network(optimizers.get(optimizer.get_config())) for _ in range(2))
    assert steps(spoilt, 1) == steps(clean, 1)
    (buffer,) = spoilt.parameter_buffers()
    free = padding(buffer)
    for array in (buffer.weights, *spoilt.optimizer._slots_of(buffer).arrays.values()):
        array[free] = np.nan
    assert steps(spoilt) == steps(clean)
    assert not buffer.grads[free].any(), "gradients between parameters would count in norms"
    assert spoilt.count_params() == clean.count_params() == sum(w.size for w in clean.get_weights())
    files = [tmp_path / "spoilt.safetensors", tmp_path / "clean.safetensors"]
    for model, path in zip((spoilt, clean), files):
        model.save(path)
    (ours, _), (theirs, _) = map(checkpoint.read, files)
    assert ours.keys() == theirs.keys()
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)


def test_the_norm_of_all_gradients_is_that_of_the_parameters():
    model = network(optimizers.SGD(1.0, global_clipnorm=0.01))
    x, y = DATA
    before = model.get_weights()
    model.training_loss.per_sample(y, model.for_loss(x)).mean().backward()
    norm = sum(float(np.square(p.grad.numpy(), dtype=np.float64).sum()) for p in model.parameters)
    grads = [p.grad.numpy().copy() for p in model.parameters]
    model.optimizer.step(model)
    for old, new, grad in zip(before, model.get_weights(), grads):
        np.testing.assert_allclose(old - new, grad * (0.01 / norm**0.5), rtol=1e-3, atol=1e-7)


def test_only_gradients_that_no_pass_reached_are_cleared():
    model = network(optimizers.SGD(1.0))
    (buffer,) = model.parameter_buffers()
    first, *others = buffer.parameters
    for parameter in others:
        parameter.accumulate(np.full(parameter.shape, 7, np.float32))
    buffer.grads[buffer.slices[0]] = 5  # of an earlier step
    buffer.gather_grads()
    assert first.grad is None and not buffer.grads[buffer.slices[0]].any()
    assert all((buffer.grads[place] == 7).all() for place in buffer.slices[1:])
    assert not buffer.grads[padding(buffer)].any()


def test_a_checkpoint_of_packed_buffers_loads_and_goes_on():
    model = models.load_model(PACKED, device="cpu")
    tensors, _ = checkpoint.read(PACKED)
    for name, array in model.state_tensors().items():
        np.testing.assert_array_equal(array, tensors[name], name)
    steps(model)
    expected, _ = checkpoint.read(PACKED_THEN)
    reached = {**model.state_tensors(), **model.optimizer.state()}
    assert reached.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_allclose(reached[name], array, rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_checkpoint_of_packed_buffers_is_taken_over_on_twins():
    model = network(device="cpu:1")
    model.load(PACKED)
    there = network()
    there.load(PACKED)
    assert steps(model) == steps(there)


LAYERS = {
    "conv2d": (lambda: layers.Conv2D(8, 3, padding="same"), (2, 9, 9, 5)),
    "depthwise": (lambda: layers.DepthwiseConv2D(3, padding="same"), (2, 9, 9, 8)),
    "dense": (lambda: layers.Dense(8), (4, 64)),
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", LAYERS)
def test_weights_behind_an_odd_bias_give_the_bits_that_they_give_alone(kind, device):
    make, shape = LAYERS[kind]
    place = get_device(device)
    x = place.asarray(np.random.default_rng(1).standard_normal(shape, dtype=np.float32))

    def results(layer):
        inputs = Tensor(x, requires_grad=True)
        y = layer(inputs)
        (y * y).sum().backward()
        return [y.numpy(), inputs.grad.numpy(), *(p.grad.numpy() for p in layer.parameters)]

    layer = make()
    layer.build((None, *shape[1:]), device)
    alone = [np.array(a) for a in results(layer)]
    odd = layers.Dense(5)
    odd.build((None, 4), device)
    for parameter in layer.parameters:
        parameter.zero_grad()
    (buffer,) = parameter_buffers([odd.parameters[1], *layer.parameters])
    assert buffer.slices[0] == slice(0, 5)
    for ours, theirs in zip(results(layer), alone):
        np.testing.assert_array_equal(ours, theirs)

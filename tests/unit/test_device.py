"""Devices: names, twins that never mix, and the way between them."""

import copy
import itertools
import os
from types import MappingProxyType, SimpleNamespace

import numpy as np
import pytest

import gpukit
from gpukit import Tensor, device_of, get_device, ops
from gpukit import primitives as p
from gpukit.errors import DeviceError
from gpukit.primitives import Window

TWIN = get_device("cpu:1")


def on_twin(*shape: int) -> object:
    return TWIN.asarray(np.arange(np.prod(shape), dtype=np.float64).reshape(shape))


@pytest.mark.parametrize("spec", ["gpu", "cpu:", "cpu:-1", "cuda:x", "", "cpu:99", "CPU"])
def test_unknown_devices_are_refused(spec: str) -> None:
    with pytest.raises(DeviceError, match=r"unknown device|twins"):
        get_device(spec)


def test_a_missing_card_says_what_to_install() -> None:
    from gpukit.device import cuda_count

    if cuda_count():
        pytest.skip("this machine has a card")
    with pytest.raises(DeviceError, match=r"pip install 'gpukit\[cuda13\]'"):
        get_device("cuda")


def test_one_device_for_one_name() -> None:
    assert get_device("cpu") is get_device("cpu:0") is device_of(np.ones(2))
    assert get_device("cpu:1") is TWIN
    assert str(TWIN) == "cpu:1"


class OnCard:
    """What `device_of` asks of an array of CuPy's."""

    __cuda_array_interface__ = MappingProxyType({})

    def __init__(self, index: int) -> None:
        self.device = SimpleNamespace(id=index)


def test_each_array_is_where_it_says_whatever_its_class_was_before() -> None:
    first, second = OnCard(0), OnCard(1)
    for _ in range(2):
        assert (device_of(first).name, device_of(second).name) == ("cuda:0", "cuda:1")
        assert device_of(OnCard(1)) is device_of(second)
        with pytest.raises(DeviceError, match="cuda:0 and cuda:1 in one call"):
            device_of(first, second)
        assert device_of(TWIN.zeros((2,))) is TWIN
        assert device_of(np.float32(1)) is device_of(np.ma.zeros(2)) is get_device("cpu")
        for stranger in ([1.0], 2, None, Tensor([1.0])):
            with pytest.raises(DeviceError, match="is not an array of any device"):
                device_of(stranger)


def test_default_device_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUKIT_DEVICE", "cpu:3")
    assert get_device(None).name == "cpu:3"


@pytest.mark.parametrize(("cards", "name"), [(0, "cpu"), (2, "cuda:0")])
def test_default_device_is_the_first_card(monkeypatch, cards: int, name: str) -> None:
    monkeypatch.delenv("GPUKIT_DEVICE")
    monkeypatch.setattr("gpukit.device.cuda_count", lambda: cards)
    assert get_device(None).name == name


def test_tests_compute_on_the_cpu_unless_someone_asks_otherwise() -> None:
    assert os.environ["GPUKIT_DEVICE"] == get_device(None).name.removesuffix(":0")


@pytest.mark.parametrize(
    "function",
    [
        lambda a: a + 1,
        lambda a: 2 * a,
        lambda a: np.concatenate([a, a]),
        lambda a: np.where(a > 1, a, 0.0),
        lambda a: np.pad(a, 1),
        lambda a: np.einsum("ij,kj->ik", a, a),
        lambda a: np.stack([a, a]),
        lambda a: np.zeros_like(a, shape=(2,)),
        lambda a: a.reshape(-1),
        lambda a: a[0],
        lambda a: a.sum(),
        lambda a: np.add.reduce(a),
        lambda a: np.maximum(a, 0, out=np.empty_like(a)),
        lambda a: a.T @ a,
    ],
)
def test_numpy_keeps_the_tag(function) -> None:  # type: ignore[no-untyped-def]
    result = function(on_twin(2, 3))
    assert device_of(result) is TWIN
    expected = function(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(gpukit.to_host(result), expected)


@pytest.mark.parametrize(
    "function",
    [
        lambda a, b: a + b,
        lambda a, b: b + a,
        lambda a, b: np.concatenate([a, b]),
        lambda a, b: np.where(a > 0, a, b),
        lambda a, b: np.stack([b, a]),
        lambda a, b: np.add(a, a, out=b),
        lambda a, b: a.__setitem__(slice(None), b),
        lambda a, b: p.add(a, b),
        lambda a, b: p.concat([a, b], axis=0),
        lambda a, b: ops.multiply(Tensor(a), b),
        lambda a, b: device_of(a, b),
    ],
)
@pytest.mark.parametrize("other", ["cpu", "cpu:2"])
def test_devices_never_mix(function, other: str) -> None:  # type: ignore[no-untyped-def]
    b = get_device(other).asarray(np.ones((2, 3)))
    with pytest.raises(DeviceError, match=r"in one call; move one"):
        function(on_twin(2, 3), b)


def test_no_silent_way_to_the_host() -> None:
    with pytest.raises(DeviceError, match="to_host"):
        np.asarray(on_twin(2))


def test_twins_do_not_share_memory_with_the_host() -> None:
    host = np.ones(3)
    there = TWIN.asarray(host)
    host[:] = 0
    np.testing.assert_array_equal(gpukit.to_host(there), [1, 1, 1])


def test_primitives_run_on_twins() -> None:
    x = on_twin(1, 4, 4, 1)
    y, index = p.max_pool2d(x, window=Window((2, 2), stride=(2, 2)))
    assert device_of(y, index) is TWIN
    np.testing.assert_array_equal(gpukit.to_host(y)[0, :, :, 0], [[5, 7], [13, 15]])


def test_gradients_cross_devices() -> None:
    x = Tensor(np.array([1.0, 2.0]), requires_grad=True)
    y = ops.to_device(x * 3.0, "cpu:1")
    assert y.device is TWIN
    (y * y).sum().backward()
    assert x.grad.device.name == "cpu"
    np.testing.assert_array_equal(x.grad.numpy(), [18, 36])


def test_moving_to_where_it_is_does_nothing() -> None:
    x = Tensor([1.0])
    assert ops.to_device(x, "cpu") is x


def test_labels_of_the_host_go_with_logits_elsewhere() -> None:
    logits = Tensor(on_twin(2, 3), requires_grad=True)
    losses = ops.softmax_cross_entropy(logits, np.array([0, 2]))
    losses.sum().backward()
    assert losses.device is TWIN and logits.grad.device is TWIN


def test_a_copy_of_an_array_is_on_the_same_device() -> None:
    copied = copy.deepcopy({"array": on_twin(2), "device": TWIN})
    assert copied["device"] is TWIN
    assert device_of(copied["array"]) is TWIN


@pytest.mark.parametrize(
    ("source", "target"),
    [*itertools.permutations(["cpu", "cpu:1", "cpu:2", "emu:0", "emu:1"], 2)],
)
def test_what_crosses_owns_its_memory(source: str, target: str) -> None:
    """Nothing written on one side shows on the other, of arrays, of Tensors and of gradients."""
    here, there = get_device(source), get_device(target)
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    original = here.asarray(values.copy())
    for moved in (
        there.asarray(original),
        ops.to_device(original, there),
        ops.to_device(original.T, there).T,
        Tensor.wrap(original).to(there).array,
    ):
        assert device_of(moved) is there
        assert not np.shares_memory(gpukit.to_host(moved), gpukit.to_host(original))
        original[...] = 100
        np.testing.assert_array_equal(gpukit.to_host(moved), values)
        original[...] = here.asarray(values)
    x = Tensor(original, requires_grad=True)
    seed = Tensor(there.asarray(values))
    x.to(there).backward(seed)
    seed.assign(np.zeros((2, 3), np.float32))
    assert x.grad is not None and x.grad.device is here
    np.testing.assert_array_equal(x.grad.numpy(), values)

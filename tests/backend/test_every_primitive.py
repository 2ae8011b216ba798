"""What holds for all primitives: twins, dtypes, empty batches, determinism, errors of dispatch."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
from small_calls import small_call, wide_settings

from gpukit import primitives as p
from gpukit.device import DeviceArray, cuda_count, cuda_problem, get_device, to_host
from gpukit.dispatch.primitive import registry
from gpukit.errors import DeviceError, SettingError
from gpukit.verify.coverage import primitives


def taking(primitive: Any, arrays: Any, settings: dict[str, Any]) -> list[str]:
    """The CPU implementations that take such a call."""
    known = primitive.implementations("cpu")
    return [name for name, impl in known.items() if impl.takes(tuple(arrays), settings)]


NAMES = sorted(primitives())
UPDATES = [name for name in NAMES if name.endswith("_update")]
PURE = [name for name in NAMES if not name.endswith("_update")]
TWIN = get_device("cpu:1")


def copied(value: Any, put: Any = lambda a: a) -> Any:
    """Fresh copies of all arrays, each passed through `put`."""
    if isinstance(value, np.ndarray):
        return put(value.copy())
    if isinstance(value, (tuple, list)):
        return type(value)(copied(v, put) for v in value)
    return value


def parts(result: Any) -> tuple[Any, ...]:
    return result if isinstance(result, tuple) else (result,)


def results(name: str, arrays: Any, settings: dict[str, Any], call: Any) -> tuple[Any, ...]:
    """What the call returns, or for an update in place its arguments afterwards."""
    made = call(*arrays, **settings)
    return tuple(arrays) if name in UPDATES else parts(made)


@pytest.mark.gpu
def test_there_is_a_card():
    if cuda_count() == 0:
        pytest.skip(f"{cuda_problem()}: no test of this folder runs on cuda:0")


def test_every_primitive_has_a_sample_and_is_exported():
    ours = {n for n, made in registry.items() if made.__module__.startswith(p.__name__)}
    assert ours == set(NAMES) == {n for n, made in vars(p).items() if registry.get(n) is made}


@pytest.mark.parametrize("name", NAMES)
def test_definition_says_what_it_takes(name):
    assert inspect.getdoc(registry[name].reference)
    for parameter in registry[name].signature.parameters.values():
        assert parameter.annotation is not parameter.empty


@pytest.mark.parametrize("name", NAMES)
def test_definition_runs_on_another_devices_arrays(name):
    """The very function, given DeviceArrays instead of NumPy's: so it would on CuPy's."""
    sample, definition = small_call(name, np.float32), registry[name].reference
    expected = results(name, copied(sample.arrays), sample.settings, definition)
    on_twin = copied(sample.arrays, TWIN.asarray)
    made = results(name, on_twin, sample.settings, definition)
    assert len(made) == len(expected)
    for ours, theirs in zip(made, expected):
        assert isinstance(ours, DeviceArray)
        assert ours.device is TWIN
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(to_host(ours), theirs)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NAMES)
def test_every_implementation_keeps_the_dtype(name, dtype):
    """Also where settings are NumPy float64 scalars; and agrees with the definition."""
    sample, primitive = small_call(name, dtype), registry[name]
    expected = results(name, copied(sample.arrays), sample.settings, primitive.reference)
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    for algo in taking(primitive, sample.arrays, sample.settings):
        for settings in (sample.settings, wide_settings(sample.settings)):
            made = results(
                name,
                copied(sample.arrays),
                settings,
                lambda *a, _=algo, **k: primitive(*a, algo=_, **k),
            )
            assert len(made) == len(expected)
            for ours, theirs in zip(made, expected):
                assert ours.dtype == theirs.dtype, (algo, settings)
                assert ours.shape == theirs.shape, (algo, settings)
                np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


NOT_EMPTY = ("reduce_max", "philox", "all_finite")  # no result of zeros, or none at all


@pytest.mark.parametrize("name", [n for n in PURE if n not in NOT_EMPTY])
def test_empty_batch(name):
    """No images: results of length 0 along the batch, zeros where the batch was summed over."""
    sample, primitive = small_call(name, np.float32, batch=0), registry[name]
    for algo in taking(primitive, sample.arrays, sample.settings):
        full = parts(
            primitive(*small_call(name, np.float32).arrays, **small_call(name, np.float32).settings)
        )
        made = parts(primitive(*copied(sample.arrays), algo=algo, **sample.settings))
        for ours, usual in zip(made, full, strict=True):
            assert ours.dtype == usual.dtype, algo
            assert ours.ndim == usual.ndim, algo
            np.testing.assert_array_equal(ours, np.zeros(ours.shape))


@pytest.mark.parametrize("name", NAMES)
def test_same_call_same_bits(name):
    sample, primitive = small_call(name, np.float32), registry[name]
    for algo in taking(primitive, sample.arrays, sample.settings):
        first, second = (
            results(
                name,
                copied(sample.arrays),
                sample.settings,
                lambda *a, _=algo, **k: primitive(*a, algo=_, **k),
            )
            for _ in range(2)
        )
        for a, b in zip(first, second):
            assert a.tobytes() == b.tobytes(), algo


@pytest.mark.parametrize("name", [n for n in NAMES if len(small_call(n, np.float32).arrays) > 1])
def test_two_devices_in_one_call_are_refused(name):
    sample = small_call(name, np.float32)
    here, *rest = sample.arrays
    with pytest.raises(DeviceError, match="cpu:1"):
        registry[name](here, *copied(tuple(rest), TWIN.asarray), **sample.settings)


def test_definition_refuses_mixed_devices_too():
    x = np.ones((2, 3), np.float32)
    for mix in (
        lambda: p.add.reference(TWIN.asarray(x), x),
        lambda: p.concat.reference([TWIN.asarray(x), x], axis=0),
        lambda: p.matmul.reference(x.T, TWIN.asarray(x)),
    ):
        with pytest.raises(DeviceError, match="cpu:1"):
            mix()


@pytest.mark.parametrize("name", PURE)
def test_unknown_way_is_refused_with_the_known_ones(name):
    sample = small_call(name, np.float32)
    with pytest.raises(SettingError, match=rf"{name} has no algo 'magic' on cpu; use .*reference"):
        registry[name](*sample.arrays, algo="magic", **sample.settings)

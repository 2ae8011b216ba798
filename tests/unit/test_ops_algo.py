"""`algo` of every operation: the same values, the same gradients, by the implementation named."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pytest

from gpukit import Tensor, ops
from gpukit.dispatch.preference import FallbackWarning, prefer
from gpukit.dispatch.primitive import Primitive, registry
from gpukit.errors import SettingError

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


IMAGES = normal(2, 6, 6, 4)
ROWS = normal(3, 4)
POSITIVE = np.abs(normal(3, 4)) + 0.5
MOVES = np.full(4, 0.3), np.full(4, 1.7)

# An operation: what it is called with, beside `algo`; arrays first.
CASES: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    **{name: ((ROWS, normal(3, 4)), {}) for name in ("add", "subtract", "multiply", "divide")},
    **{name: ((ROWS, normal(3, 4)), {}) for name in ("maximum", "minimum", "squared_error")},
    **{name: ((ROWS,), {}) for name in ("negative", "exp", "square", "absolute", "softmax")},
    **{name: ((ROWS,), {}) for name in ("log_softmax", "flatten", "all_finite", "argmax")},
    **{name: ((ROWS,), {}) for name in ops.activation.__all__},
    **{name: ((ROWS,), {"axis": 1}) for name in ("sum", "mean", "max")},
    **{name: ((POSITIVE,), {}) for name in ("log", "sqrt")},
    "power": ((POSITIVE, normal(3, 4)), {}),
    "reshape": ((ROWS,), {"shape": (2, 6)}),
    "transpose": ((IMAGES,), {"axes": (1, 0, 3, 2)}),
    "concat": (([ROWS, normal(3, 2)],), {}),
    "pad": ((ROWS, ((1, 0), (2, 3))), {}),
    "index": ((ROWS,), {"key": np.array([0, 2, 0])}),
    "broadcast_to": ((normal(3, 1),), {"shape": (2, 3, 5)}),
    "matmul": ((ROWS, normal(4, 5)), {}),
    "dense": ((ROWS, normal(4, 5), normal(5)), {}),
    "conv2d": ((IMAGES, normal(3, 3, 4, 5), normal(5)), {"padding": "same"}),
    "max_pool2d": ((IMAGES,), {"window": 3, "stride": 2, "padding": "same"}),
    "avg_pool2d": ((IMAGES,), {}),
    "global_avg_pool2d": ((IMAGES,), {}),
    "softmax_cross_entropy": ((ROWS, np.array([0, 3, 1])), {}),
    "batch_norm": ((IMAGES, normal(4), normal(4)), {}),
    "batch_norm_inference": ((IMAGES, normal(4), normal(4), *MOVES), {}),
    "lrn": ((IMAGES,), {"alpha": 0.5}),
    "bias_relu_lrn_pool": ((IMAGES, normal(4)), {"alpha": 0.5}),
    "dropout": ((IMAGES,), {"rate": 0.4, "seed": 3}),
}
# A part of split is an index; to_device moves, whatever computes.
WITHOUT = {"split", "to_device"}
PRIMITIVES = {"sum": "reduce_sum", "mean": "reduce_mean", "max": "reduce_max", "flatten": "reshape"}


def primitive_of(name: str) -> Primitive:
    return registry[PRIMITIVES.get(name, name)]


def gradients_of(name: str) -> list[Primitive]:
    names = (f"{name}_{g}" for g in ("grad", "input_grad", "weight_grad"))
    return [registry[n] for n in names if n in registry]


def results(name: str, **settings: Any) -> list[np.ndarray]:
    """What the operation gives, and its gradients, where it has any."""
    inputs, own = CASES[name]
    leaves: list[Tensor] = []

    def lifted(value: Any) -> Any:
        if isinstance(value, list):
            return [lifted(v) for v in value]
        if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
            return value
        leaves.append(Tensor(value, requires_grad=not any(value is m for m in MOVES)))
        return leaves[-1]

    y = getattr(ops, name)(*(lifted(a) for a in inputs), **own, **settings)
    y = y[0] if isinstance(y, tuple) else y
    if not isinstance(y, Tensor):
        return [y]
    (y * np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape)).sum().backward()
    return [y.numpy(), *(leaf.grad.numpy() for leaf in leaves if leaf.requires_grad)]


@contextmanager
def spies(primitives: list[Primitive]):
    """An implementation "spy" of each, that notes its name and calls the definition."""
    called: list[str] = []

    def add(primitive: Primitive) -> Callable[[], None]:
        primitive.implementations("cpu")  # loads those of gpukit, which come first

        @functools.wraps(primitive.reference)
        def spy(*args: Any, **settings: Any) -> Any:
            called.append(primitive.name)
            return primitive.reference(*args, **settings)

        primitive.on("cpu", name="spy")(spy)
        return lambda: primitive.remove(primitive.find("cpu", "spy"))

    with ExitStack() as stack:
        for primitive in primitives:
            stack.callback(add(primitive))
        yield called


def test_every_operation_has_algo_and_a_case() -> None:
    assert set(CASES) == set(ops.__all__) - WITHOUT
    for name in CASES:
        parameter = inspect.signature(getattr(ops, name)).parameters["algo"]
        assert parameter.kind == parameter.KEYWORD_ONLY and parameter.default is None, name


@pytest.mark.parametrize("name", CASES)
def test_the_implementations_of_the_cpu_agree(name: str) -> None:
    expected = results(name)
    for algo in primitive_of(name).implementations("cpu"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FallbackWarning)
            found = results(name, algo=algo)
        assert len(found) == len(expected)
        for a, b in zip(found, expected):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12, err_msg=algo)


@pytest.mark.parametrize("name", CASES)
def test_the_one_named_computes_the_result_and_its_gradients(name: str) -> None:
    expected = results(name)
    primitives = [primitive_of(name), *gradients_of(name)]
    with spies(primitives) as called, warnings.catch_warnings():
        warnings.simplefilter("error", FallbackWarning)
        found = results(name, algo="spy")
        assert set(called) == {primitive.name for primitive in primitives}
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    "name", ["negative", "multiply", "divide", "power", "matmul", "dropout", "reshape", "transpose"]
)
def test_a_gradient_by_the_same_primitive_takes_the_same(name: str) -> None:
    with spies([primitive_of(name)]) as called:
        results(name, algo="spy")
        assert len(called) > 1


@pytest.mark.parametrize("name", [name for name in CASES if gradients_of(name)])
def test_gradients_that_lack_the_name_take_their_default_and_say_so(name: str) -> None:
    expected = results(name)
    with spies([primitive_of(name)]), prefer({}), pytest.warns(FallbackWarning) as said:
        found = results(name, algo="spy")
    for primitive in gradients_of(name):
        line = f"{primitive.name} on cpu: there is no spy; the default computes it"
        assert [str(w.message) for w in said].count(line) == 1
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_a_name_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match=r"has no algo 'mine' on cpu; use .*reference"):
        results(name, algo="mine")


def test_a_name_is_a_word() -> None:
    for algo in (3, {"forward": "reference"}):
        with pytest.raises(SettingError, match=r"relu: algo=.*: use the name of an impl"):
            ops.relu(ROWS, algo=algo)

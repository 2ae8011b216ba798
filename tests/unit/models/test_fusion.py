"""Convolution, LRN and max-pooling computed together: where, and that nothing else changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpukit.core.settings import training_mode
from gpukit.errors import ShapeError
from gpukit.graph.execution import Plan, execute, steps_of
from gpukit.layers import (
    Add,
    Conv2D,
    Dense,
    Flatten,
    Input,
    LocalResponseNormalization,
    MaxPooling2D,
)
from gpukit.models import Model, Sequential, alexnet
from gpukit.optimizers import SGD


def chain(dtype: Any = "float64", norm: Any = None, pool: Any = None, **conv: Any) -> Sequential:
    settings = {"activation": "relu", "bias_initializer": "random_normal", **conv}
    return Sequential(
        [
            Conv2D(6, 3, name="conv", input_shape=(12, 11, 2), **settings),
            norm or LocalResponseNormalization(3, alpha=0.3, groups=2, name="norm"),
            pool or MaxPooling2D(3, 2, name="pool"),
            Flatten(),
            Dense(3, activation="softmax"),
        ],
        dtype=dtype,
        seed=1,
    )


def together(model: Any) -> list[list[str]]:
    return [[layer.name for layer in s.together] for s in model.plan().steps if s.together]


def gradients(model: Any, x: np.ndarray, fused: bool) -> tuple[float, dict[str, np.ndarray]]:
    model.compile(SGD(0.1), "sparse_categorical_crossentropy")
    labels = np.arange(len(x)) % 3
    if not fused:
        model.forward = lambda x, training, logits: execute(  # type: ignore[method-assign]
            Plan(steps_of(model.graph(), model.placement(), model.modes(), logits)), x, training
        )
    with training_mode():
        outputs = model.for_loss(x)
        loss = model.training_loss.per_sample(labels, outputs).mean()
    loss.backward()
    found = {p.name: p.grad.numpy().copy() for p in model.parameters if p.grad is not None}
    return loss.item(), found


def assert_same(make: Any, x: np.ndarray, tolerance: float) -> None:
    loss, found = gradients(make(), x, fused=True)
    expected_loss, expected = gradients(make(), x, fused=False)
    assert loss == pytest.approx(expected_loss, rel=tolerance)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        scale = np.abs(value).max()
        assert scale > 0
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-6), ("float64", 1e-14)])
@pytest.mark.parametrize("activation", ["relu", None, "tanh"])
@pytest.mark.parametrize("bias", [True, False])
def test_loss_and_gradients_are_those_of_the_layers_one_by_one(dtype, tolerance, activation, bias):
    x = np.random.default_rng(0).standard_normal((3, 12, 11, 2)).astype(dtype)

    def make() -> Sequential:
        return chain(dtype, activation=activation, use_bias=bias)

    joined = ["norm", "pool"] if activation == "tanh" else ["conv", "norm", "pool"]
    assert together(make()) == [joined]
    assert_same(make, x, tolerance)


@pytest.mark.parametrize("form", [{"columns": 1, "groups": True}, {"columns": 2}])
def test_alexnet_trains_as_with_its_layers_one_by_one(form):
    x = np.random.default_rng(0).standard_normal((3, 67, 67, 3))

    def make() -> Model:
        return alexnet(
            width=0.05, input_size=67, classes=3, seed=3, dtype="float64", dropout=0.0,
            kernel_initializer="he_normal", **form,
        )  # fmt: skip

    assert len(together(make())) == 2 * form["columns"]
    assert_same(make, x, 1e-13)


def test_inference_gives_the_values_of_the_layers_one_by_one():
    model = chain("float32")
    x = np.random.default_rng(0).standard_normal((2, 12, 11, 2), dtype=np.float32)
    plain = Plan(steps_of(model.graph(), model.placement(), model.modes()))
    np.testing.assert_allclose(model.predict(x), execute(plain, x, False).numpy(), rtol=1e-6)


class MyNorm(LocalResponseNormalization):
    """A subclass, whose call may be anything."""


@pytest.mark.parametrize(
    "model",
    [
        lambda: chain(activity_regularizer="l2"),
        lambda: chain(norm=MyNorm(3, name="norm")),
        lambda: chain(pool=Flatten(name="pool")),
    ],
    ids=["penalty on the activity", "subclass", "no pooling"],
)
def test_what_somebody_else_needs_is_computed_by_itself(model):
    assert together(model()) in ([], [["norm", "pool"]])
    assert not any("conv" in names for names in together(model()))


@pytest.mark.parametrize("read", ["conv", "norm"])
def test_values_that_another_layer_reads_stay(read):
    x = Input((8, 8, 2))
    conv = Conv2D(2, 3, padding="same", activation="relu", name="conv")(x)
    norm = LocalResponseNormalization(name="norm")(conv)
    pool = MaxPooling2D(2, name="pool")(norm)
    other = MaxPooling2D(2, name="other")(conv if read == "conv" else norm)
    model = Model(x, Add()([pool, other]), seed=0)
    assert together(model) == ([["norm", "pool"]] if read == "conv" else [])


def test_normalisation_of_the_input_itself_joins_the_pooling():
    model = Sequential([LocalResponseNormalization(input_shape=(4, 4, 3)), MaxPooling2D(2)])
    assert len(together(model)[0]) == 2
    y = model(np.ones((1, 4, 4, 3), np.float32))
    np.testing.assert_allclose(y[0, 0, 0, 1], (2 + 1e-4 / 5 * 3) ** -0.75, rtol=1e-6)


def test_errors_still_name_the_layer():
    model = chain("float32")
    with pytest.raises(ShapeError, match="Conv2D 'conv'"):
        model(np.zeros((1, 12, 11, 5), np.float32))

"""Random arguments for the primitives that are no convolution, pooling or product; as cases.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.verify.cases import MAKERS, Case, Dice

_SETTINGS: dict[str, Callable[[Dice], dict[str, Any]]] = {
    "leaky_relu": lambda dice: {"slope": dice.one(0.01, 0.3)},
    "elu": lambda dice: {"alpha": dice.one(1.0, 0.5)},
}


def _activation(name: str, exact: bool) -> None:
    settings = _SETTINGS.get(name, lambda _: {})

    def forward(dice: Dice) -> Case:
        x = dice.holes(dice.array(*dice.shape()))
        return Case([x], settings(dice), exact)

    def backward(dice: Dice) -> Case:
        shape = dice.shape()
        return Case([dice.array(*shape), dice.array(*shape)], settings(dice), exact)

    MAKERS[name], MAKERS[f"{name}_grad"] = forward, backward


for _name in ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus"):
    _activation(_name, exact=_name == "relu")


def _rows(dice: Dice) -> tuple[int, ...]:
    """Rows of classes, from one to more than a warp's team takes."""
    classes = dice.one(1, 2, 10, 31, 32, 33, dice.between(1, 300), dice.between(1024, 1500))
    return (*dice.one((1,), (3,), (9,), (2, 5), (0,)), classes)


def _softmax_forward(dice: Dice) -> Case:
    x = dice.array(*_rows(dice)) * dice.dtype(dice.one(1, 10))
    return Case([x], length=x.shape[-1])


def _softmax_backward(dice: Dice) -> Case:
    shape = _rows(dice)
    scale = math.sqrt(shape[-1])  # of a sum of that many numbers of random sign
    return Case([dice.array(*shape), dice.array(*shape)], length=shape[-1], scale=10 * scale)


for _name in ("softmax", "log_softmax"):
    MAKERS[_name], MAKERS[f"{_name}_grad"] = _softmax_forward, _softmax_backward


def _targets(dice: Dice, rows: int, classes: int) -> np.ndarray:
    if dice.chance(0.4):
        made = np.abs(dice.array(rows, classes))
        return made if dice.chance(0.5) else made / np.maximum(made.sum(axis=1, keepdims=True), 1)
    kind = dice.one(np.uint8, np.int32, np.int64, np.int16)
    return dice.integers(0, min(classes, 256), (rows,), kind)


def _cross_entropy(dice: Dice) -> Case:
    shape = _rows(dice)
    rows, classes = math.prod(shape[:-1]), shape[-1]
    return Case(
        [dice.array(rows, classes), _targets(dice, rows, classes)],
        length=classes,
        scale=math.sqrt(classes) * 8,
    )


def _cross_entropy_gradient(dice: Dice) -> Case:
    shape = _rows(dice)
    rows, classes = math.prod(shape[:-1]), shape[-1]
    probabilities = np.abs(dice.array(rows, classes)) / dice.dtype(classes)
    return Case(
        [dice.array(rows), probabilities, _targets(dice, rows, classes)],
        length=classes,
        scale=8.0,
    )


MAKERS["softmax_cross_entropy"] = _cross_entropy
MAKERS["softmax_cross_entropy_grad"] = _cross_entropy_gradient


def _place(dice: Dice) -> dict[str, int]:
    return {
        "seed": dice.one(0, 7, 2**64 - 1, dice.between(0, 2**63)),
        "layer": dice.one(0, 3, 2**32 - 1),
        "step": dice.one(0, 1, 2**32 - 1, dice.between(0, 10**6)),
    }


def _philox(dice: Dice) -> Case:
    return Case([dice.array(1)], {"shape": dice.shape(), **_place(dice)}, exact=True)


def _dropout(dice: Dice) -> Case:
    rate = dice.one(0.0, 0.25, 0.5, 0.9, 1.0)
    settings = {"rate": rate, "scale": dice.one(1.0, 2.0, 1.25), **_place(dice)}
    return Case([dice.holes(dice.array(*dice.shape()))], settings, exact=True)


MAKERS["philox"], MAKERS["dropout"] = _philox, _dropout


def _unary(name: str) -> Callable[[Dice], Case]:
    def make(dice: Dice) -> Case:
        x = dice.array(*dice.shape(), positive=name in ("log", "sqrt"))
        if name in ("negative", "absolute", "sign"):
            return Case([dice.holes(x)], exact=True)
        return Case([x], exact=name == "square" and dice.whole)

    return make


def _binary(name: str) -> Callable[[Dice], Case]:
    exact_on_whole = name in ("add", "subtract", "multiply")

    def make(dice: Dice) -> Case:
        shape = dice.shape()
        other = shape
        if dice.chance(0.5):  # one of them repeats along some axes, and may have fewer
            other = tuple(1 if dice.chance(0.4) else n for n in shape)
            other = other[dice.between(0, len(other)) :] if dice.chance(0.5) else other
        positive = name in ("divide", "power")
        x: Any = dice.array(*shape, positive=positive)
        y: Any = dice.array(*other, positive=positive)
        if dice.chance(0.15):
            y = dice.one(0.5, 2.0, 3, np.float64(1.5))
        if name in ("maximum", "minimum"):
            x = dice.holes(x)
        if dice.chance(0.5):
            x, y = y, x
        exact = name in ("maximum", "minimum") or (dice.whole and exact_on_whole)
        return Case([x, y], exact=exact)

    return make


for _name in ("negative", "exp", "log", "sqrt", "square", "absolute", "sign"):
    MAKERS[_name] = _unary(_name)
for _name in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum"):
    MAKERS[_name] = _binary(_name)


MOST_ROWS = 4000  # of a reduction's results, which a sanitizer runs thread by thread


def _reduction(name: str) -> Callable[[Dice], Case]:
    def make(dice: Dice) -> Case:
        shape = dice.shape() if dice.chance(0.7) else (dice.between(1, 40_000), dice.between(1, 5))
        if name == "reduce_max":
            shape = tuple(max(n, 1) for n in shape)
        axes = tuple(a for a in range(len(shape)) if dice.chance(0.5))
        axis: int | tuple[int, ...] | None = None if dice.chance(0.2) else axes
        if axis == axes and 0 not in axes:  # a long axis is for sums: results are a thread each
            shape = (*(min(n, MOST_ROWS) for n in shape[:1]), *shape[1:])
        if len(axes) == 1 and dice.chance(0.5):
            axis = axes[0]
        x = dice.array(*shape)
        length = math.prod(x.shape[a] for a in (axes if axis is not None else range(x.ndim)))
        if name == "reduce_max":
            x = dice.holes(x)
        return Case(
            [x],
            {"axis": axis, "keepdims": dice.chance(0.5)},
            exact=name == "reduce_max" or (name == "reduce_sum" and dice.whole),
            length=min(length, 200),  # blocked sums: no longer one runs on
            scale=math.sqrt(max(length, 1)) if name == "reduce_sum" else 1.0,
        )

    return make


for _name in ("reduce_sum", "reduce_mean", "reduce_max"):
    MAKERS[_name] = _reduction(_name)


def _sgd(dice: Dice) -> Case:
    size = dice.one(0, 1, 3, dice.between(1, 20), dice.between(1000, 3000))
    momentum = dice.one(0.0, 0.9)
    # In place: contiguous arrays, as views of a flat buffer are.
    w, v, g = (np.ascontiguousarray(dice.array(size)) for _ in range(3))
    return Case(
        [w, v if momentum else None, g],
        {
            "lr": dice.one(0.1, 1e-3),
            "momentum": momentum,
            "weight_decay": dice.one(0.0, 0.01),
            "nesterov": dice.chance(0.5),
        },
        length=4,
    )


MAKERS["sgd_update"] = _sgd

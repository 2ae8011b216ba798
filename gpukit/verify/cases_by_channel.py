"""Random arguments for normalisation over channels, alone and between ReLU and pooling."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit.primitives.normalisation import Response, lrn
from gpukit.primitives.pool import index_dtype, max_pool2d
from gpukit.primitives.windows import Window
from gpukit.verify.cases import MAKERS, Case, Dice, pooling


def _response(dice: Dice) -> tuple[int, Response]:
    """Channels and settings of lrn: half of them such as AlexNet has."""
    groups = dice.one(1, 1, 2, 3)
    alexnet = dice.chance(0.5)
    size = 5 if alexnet else dice.one(1, 2, 3, 4, 5, 6, 9, 20)
    length = dice.one(4, 8, 12, 48, 128) if alexnet else dice.one(1, 2, 3, 5, 7, 8, 20)
    return groups * length, Response(
        size=size,
        alpha=dice.one(5e-4, 1.0, 0.5),
        beta=0.75 if alexnet or dice.chance(0.5) else dice.one(0.5, 1.0, 1.3),
        k=dice.one(1.0, 2.0),
        groups=groups,
    )


def _shape(dice: Dice, channels: int) -> tuple[int, ...]:
    before = dice.one((), (dice.between(1, 9),), (2, dice.between(1, 5), 3), (0, 2, 2))
    return (*before, channels)


def _lrn(dice: Dice) -> Case:
    channels, response = _response(dice)
    arrays = [dice.array(*_shape(dice, channels))]
    return Case(arrays, {"response": response}, length=response.size)


def _lrn_grad(dice: Dice) -> Case:
    channels, response = _response(dice)
    shape = _shape(dice, channels)
    arrays = [dice.array(*shape), dice.array(*shape)]
    return Case(arrays, {"response": response}, length=2 * response.size, scale=8.0)


MAKERS["lrn"], MAKERS["lrn_grad"] = _lrn, _lrn_grad


def _fused(dice: Dice) -> tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]:
    """Shapes of x and y, and settings: windows of 3, stride 2, as often as others."""
    channels, response = _response(dice)
    x, y, window = pooling(dice)
    if dice.chance(0.5):
        padding = tuple((dice.between(0, 2), dice.between(0, 2)) for _ in range(2))
        image = (dice.between(3, 12), dice.between(3, 16))
        window = Window((3, 3), (2, 2), padding)  # type: ignore[arg-type]
        x = (dice.one(0, 1, 2, 3), *image, channels)
        y = (x[0], *window.output_shape(image), channels)
    elif window.cells > 256:
        channels = response.groups
    settings = {"relu": dice.chance(0.8), "response": response, "window": window}
    return (*x[:3], channels), (*y[:3], channels), settings


def _bias(dice: Dice, channels: int) -> np.ndarray | None:
    return dice.array(channels) if dice.chance(0.7) else None


def _bias_relu_lrn_pool(dice: Dice) -> Case:
    x_shape, _, settings = _fused(dice)
    exact = dice.whole and dice.chance(0.5)
    if exact:
        settings["response"] = settings["response"]._replace(alpha=0.0, k=1.0)
    bias = _bias(dice, x_shape[3])
    x = dice.array(*x_shape)
    while not exact and _is_close_call(x, bias, settings):
        dice.whole = False  # whole numbers may be as close in every draw
        x = dice.array(*x_shape)
    return Case([x, bias], settings, exact, length=settings["response"].size)


def _is_close_call(x: np.ndarray, bias: np.ndarray | None, settings: dict[str, Any]) -> bool:
    """Whether roundings could choose a window's winner: another cell is different, but as large.

    Cells are alike if they are under another power, too: then every implementation ties them.
    """
    response, window = settings["response"], settings["window"]
    values = x.astype(np.float64) + (0 if bias is None else bias)
    values = np.maximum(values, 0) if settings["relu"] else values
    normal, other = (
        lrn.reference(values, response=response._replace(beta=response.beta + more))
        for more in (0, 0.37)
    )
    y, index = max_pool2d.reference(normal, window=window)
    widths = ((0, 0), *window.padding, (0, 0))
    normal, other = (np.pad(a, widths, constant_values=-np.inf) for a in (normal, other))
    cells = [tap for _, _, tap in window.taps(y.shape[1:3])]
    winner = sum(np.where(index == i, other[tap], 0.0) for i, tap in enumerate(cells))
    return any(
        bool(((y - normal[tap] < 4e-6 * (1 + np.abs(y))) & (other[tap] != winner)).any())
        for tap in cells
    )


def _bias_relu_lrn_pool_grad(dice: Dice) -> Case:
    x, y, settings = _fused(dice)
    window = settings["window"]
    index = dice.integers(0, window.cells, y, index_dtype(window))
    return Case(
        [dice.array(*y), dice.array(*x), _bias(dice, x[3]), dice.spread(index)],
        settings,
        length=2 * settings["response"].size + 16,
        scale=8.0,
    )


MAKERS["bias_relu_lrn_pool"] = _bias_relu_lrn_pool
MAKERS["bias_relu_lrn_pool_grad"] = _bias_relu_lrn_pool_grad


def _normalise_images(dice: Dice) -> Case:
    n, h, w, c = (
        dice.one(0, 1, 2, 5),
        dice.between(1, 9),
        dice.between(1, 9),
        dice.one(1, 3, 3, 3, 4, 7),
    )
    images = dice.spread(dice.integers(0, 256, (n, h, w, c), np.uint8))
    shift = dice.array(n, c) if dice.chance(0.5) else None
    mean, scale = dice.array(c), dice.array(c)
    return Case([images, mean, scale, shift], {"dtype": dice.dtype}, exact=True)


MAKERS["normalise_images"] = _normalise_images

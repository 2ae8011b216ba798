"""What follows a convolution in AlexNet, as one pass: bias, ReLU, response normalisation, max-pool.

Fusing keeps the values between from ever reaching memory; the gradient works them out again from
the convolution's bare output.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Argument, Declaration, Problem, Sizes
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.primitives.accumulate import Array, long_sum
from gpukit.primitives.calls import call, normal
from gpukit.primitives.normalisation import (
    COLUMNS,
    RESPONSE,
    USUAL_RESPONSE,
    Response,
    lrn,
    lrn_grad,
    random_response,
)
from gpukit.primitives.pool import (
    POOL,
    index_bytes,
    index_dtype,
    max_pool2d,
    max_pool2d_grad,
    pooled,
    pooling,
)
from gpukit.primitives.windows import Window

_USUAL = (*USUAL_RESPONSE, 3, 3, 2, 0)


def _settings(dice: Dice) -> tuple[Sizes, Sizes, dict[str, Any]]:
    """Shapes of x and y, and settings: windows of 3, stride 2, as often as others."""
    channels, response = random_response(dice)
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


def _bias(dice: Dice, channels: int) -> Array | None:
    return dice.array(channels) if dice.chance(0.7) else None


def _is_close_call(x: Array, bias: Array | None, settings: dict[str, Any]) -> bool:
    """Whether roundings could choose a window's winner: another cell is different, but as large.

    Cells are alike if they are under another power, too: then every implementation ties them.
    """
    response, window = settings["response"], settings["window"]
    values = x.astype(np.float64) + (0 if bias is None else bias)
    values = np.maximum(values, 0) if settings["relu"] else values
    normalised, other = (
        lrn.reference(values, response=response._replace(beta=response.beta + more))
        for more in (0, 0.37)
    )
    y, index = max_pool2d.reference(normalised, window=window)
    widths = ((0, 0), *window.padding, (0, 0))
    normalised, other = (np.pad(a, widths, constant_values=-np.inf) for a in (normalised, other))
    cells = [tap for _, _, tap in window.taps(y.shape[1:3])]
    winner = sum(np.where(index == i, other[tap], 0.0) for i, tap in enumerate(cells))
    return any(
        bool(((y - normalised[tap] < 4e-6 * (1 + np.abs(y))) & (other[tap] != winner)).any())
        for tap in cells
    )


def _activated(x: Array, bias: Array | None, relu: bool) -> Array:
    """x + bias, and of that the positive part where `relu`."""
    a = x if bias is None else x + bias
    return np.maximum(a, 0) if relu else a


def _forward(dice: Dice) -> Case:
    x_shape, _, settings = _settings(dice)
    exact = dice.whole and dice.chance(0.5)
    if exact:
        settings["response"] = settings["response"]._replace(alpha=0.0, k=1.0)
    bias = _bias(dice, x_shape[3])
    x = dice.array(*x_shape)
    while not exact and _is_close_call(x, bias, settings):
        dice.whole = False  # whole numbers may be as close in every draw
        x = dice.array(*x_shape)
    return Case([x, bias], settings, exact, length=settings["response"].size)


def _forward_call(*sizes: int) -> Problem:
    """Every pixel counts, also one that no window holds: it is the neighbour of one that counts."""
    x, y, window = pooled(*sizes)
    return call(
        [normal(*x), normal(x[3])],
        y,
        settings={"window": window, "relu": True, "response": RESPONSE},
        written=4 * math.prod(y) + index_bytes(y, window),
        length=16,
    )


@primitive(
    Declaration(
        _forward,
        POOL,
        _forward_call,
        _USUAL,
        usual_settings=COLUMNS,
        layers="response_pools",
    )
)
def bias_relu_lrn_pool(
    x: Array, bias: Array | None, *, relu: bool, response: Response, window: Window
) -> tuple[Array, Array]:
    """max_pool2d(lrn(relu(x + bias))): y, and which cell of its window won.

    x (N,H,W,C), bias (C,) or None -> y (N,P,Q,C) of x's dtype, index (N,P,Q,C) as max_pool2d's:
    uint8 up to 256 cells a window. Settings as of lrn and max_pool2d; relu=False leaves ReLU out.
    Krizhevsky et al., 2012, 3.3 and 3.4.
    """
    a = _activated(x, bias, relu)
    y, index = max_pool2d.reference(lrn.reference(a, response=response), window=window)
    return y, index


def _backward(dice: Dice) -> Case:
    x, y, settings = _settings(dice)
    index = dice.integers(0, settings["window"].cells, y, index_dtype(settings["window"]))
    return Case(
        [dice.array(*y), dice.array(*x), _bias(dice, x[3]), dice.spread(index)],
        settings,
        length=2 * settings["response"].size + 16,
        scale=8.0,
    )


def _backward_call(*sizes: int) -> Problem:
    x, y, window = pooled(*sizes)
    count = math.prod(x[:3])

    def index(_: np.random.Generator, before: list[Array]) -> Array:
        return max_pool2d.reference(before[1], window=window)[1]

    return call(
        [normal(*y), normal(*x), normal(x[3]), Argument(y, index_dtype(window), index)],
        x,
        x[3:],
        settings={"window": window, "relu": True, "response": RESPONSE},
        length=max(26, min(count, 200)),
        scales=(8.0, 8 * math.sqrt(count)),
    )


@primitive(
    Declaration(
        _backward,
        POOL,
        _backward_call,
        _USUAL,
        usual_settings=COLUMNS,
        layers="response_pools",
    )
)
def bias_relu_lrn_pool_grad(
    gy: Array,
    x: Array,
    bias: Array | None,
    index: Array,
    *,
    relu: bool,
    response: Response,
    window: Window,
) -> tuple[Array, Array | None]:
    """Gradients of bias_relu_lrn_pool by x and by bias -> gx (N,H,W,C), gbias (C,) or None.

    gy, index (N,P,Q,C), x (N,H,W,C), bias (C,) or None, all as in the forward pass, and the same
    settings. gx is 0 where ReLU gave 0; gbias is the sum of gx over all pixels.
    """
    a = _activated(x, bias, relu)
    g = max_pool2d_grad.reference(gy, index, input_shape=x.shape, window=window)
    gx = lrn_grad.reference(g, a, response=response)
    if relu:
        gx = np.where(a > 0, gx, np.zeros_like(gx))
    return gx, None if bias is None else long_sum(gx, (0, 1, 2))

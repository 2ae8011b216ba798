"""Convolution (cross-correlation, as the field uses the word) with its three gradients.

Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016); Goodfellow et
al., "Deep Learning", chapter 9. Letters: N batch, H W image, C input channels, K output channels,
R S kernel, P Q output, G groups. All three passes walk the R·S cells of the kernel, one GEMM a cell
and group:

    forward           y      +=  x[cell] @ w[r, s]
    input gradient    gx[cell] += gy @ w[r, s]ᵀ
    weight gradient   gw[r, s] = x[cell]ᵀ @ gy
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Declaration, Form, Problem, Sizes
from gpukit.dispatch.dice import Case, Dice
from gpukit.dispatch.primitive import primitive
from gpukit.errors import SettingError
from gpukit.primitives.accumulate import Array, long_sum, wide
from gpukit.primitives.activation import activate
from gpukit.primitives.calls import MAP, USUAL_MAP, call, normal, pixels
from gpukit.primitives.windows import Conv, Pair, crop_image, pad_image, zeros_padded

CONV = Form(
    "conv",
    ("N", "H", "W", "C", "K", "R", "S", "stride", "pad", "groups"),
    (1, 0, 1),
    layers="convs",
)
_Layer = tuple[Sizes, Sizes, Sizes, Conv]  # shapes of x, w and y, and how the kernel slides


def _layer(n: int, image: Pair, c: int, k: int, kernel: Pair, conv: Conv) -> _Layer:
    y = (n, *conv.output_shape(image, kernel), k)
    return (n, *image, c), (*kernel, c // conv.groups, k), y, conv


def _of_sizes(
    n: int, h: int, w: int, c: int, k: int, r: int, s: int, stride: int, pad: int, groups: int
) -> _Layer:
    if c % groups or k % groups:
        raise SettingError(f"C = {c} and K = {k} do not divide into groups = {groups}")
    if h + 2 * pad < r or w + 2 * pad < s:
        raise SettingError(f"a {r}×{s} kernel is larger than {h}×{w} with padding {pad}")
    conv = Conv((stride, stride), ((pad, pad), (pad, pad)), groups=groups)
    return _layer(n, (h, w), c, k, (r, s), conv)


def _awkward(dice: Dice) -> _Layer:
    """Odd sizes, strides beyond the kernel, images of one pixel, groups of one channel."""
    if dice.chance(0.1):
        return _of_images(dice)
    while True:
        groups = dice.one(1, 1, 1, 2, 3, 4)
        c_group, k_group = dice.one(1, 1, 2, 3, 5), dice.one(1, 1, 2, 3, 4)
        if dice.chance(0.15):  # groups = channels
            groups, c_group = dice.between(2, 9), 1
        if dice.chance(0.1):  # across the edges of tiles
            groups, c_group, k_group = 1, dice.between(15, 40), dice.between(15, 140)
        kernel = (dice.one(1, 1, 2, 3, 3, 4, 5), dice.one(1, 2, 3, 3, 5, 7))
        stride = (dice.one(1, 1, 2, 3, 5), dice.one(1, 1, 2, 3, 4))
        dilation = (dice.one(1, 1, 1, 2, 3), dice.one(1, 1, 1, 2, 3))
        padding = tuple((dice.one(0, 0, 1, 2), dice.one(0, 0, 1, 3)) for _ in range(2))
        n, h, w = dice.one(0, 1, 1, 2, 3), dice.between(1, 13), dice.between(1, 13)
        if dice.chance(0.1):
            h = w = 1
        conv = Conv(stride, padding, dilation, groups)  # type: ignore[arg-type]
        if min(conv.output_shape((h, w), kernel)) > 0:
            return _layer(n, (h, w), groups * c_group, groups * k_group, kernel, conv)


def _of_images(dice: Dice) -> _Layer:
    """A layer that sees images: few channels, many filters, large windows."""
    kernel = (dice.one(1, 3, 5, 7, 11), dice.one(1, 2, 3, 5, 11))
    stride = (dice.one(1, 2, 4, 13), dice.one(1, 2, 3, 4))
    padding = tuple((dice.one(0, 0, 2), dice.one(0, 0, 1, 5)) for _ in range(2))
    image = (kernel[0] + dice.between(0, 30), kernel[1] + dice.between(0, 30))
    n, c, k = dice.one(0, 1, 1, 2), dice.between(1, 4), dice.one(24, 33, 48, 64, 97)
    return _layer(n, image, c, k, kernel, Conv(stride, padding))  # type: ignore[arg-type]


def _depthwise(dice: Dice) -> _Layer:
    """One channel a group: in packs and not, one filter each or several."""
    channels = dice.one(1, 2, 3, 4, 4, 8, 8, 12, 20, dice.between(1, 150))
    each = dice.one(1, 1, 1, 2, 3, 4, 7)
    kernel = dice.one((3, 3), (3, 3), (5, 5), (1, 1), (2, 3), (4, 5), (3, 7))
    return _fitted(dice, channels, channels * each, channels, kernel)


def _deep(dice: Dice) -> _Layer:
    """Whole packs, more than a tile, sums cut into ranges."""
    groups = dice.one(1, 1, 2)
    depth, filters = dice.one(4, 8, 16, 64), dice.one(4, 8, 20, 36, 72)
    kernel = dice.one((1, 1), (3, 3), (3, 3), (5, 5))
    if dice.chance(0.3):  # hundreds of products a sum, few sums
        groups, depth, filters = 1, dice.one(60, 64, 71), dice.one(5, 8, 16)
        kernel = (3, 3)
    return _fitted(dice, groups * depth, groups * filters, groups, kernel)


def _fitted(dice: Dice, channels: int, filters: int, groups: int, kernel: Pair) -> _Layer:
    """An image into which the window goes; now and then of hundreds of pixels, or none."""
    while True:
        stride = (dice.one(1, 1, 1, 2, 3), dice.one(1, 1, 1, 2, 3))
        dilation = (dice.one(1, 1, 1, 2), dice.one(1, 1, 1, 2, 3))
        padding = tuple((dice.one(0, 1, 2), dice.one(0, 1, 3)) for _ in range(2))
        n, h, w = dice.one(0, 1, 1, 2), dice.between(1, 9), dice.between(1, 9)
        if dice.chance(0.1):
            n, h, w = 2, 18, 17
        conv = Conv(stride, padding, dilation, groups)  # type: ignore[arg-type]
        if min(conv.output_shape((h, w), kernel)) > 0:
            return _layer(n, (h, w), channels, filters, kernel, conv)


def _plain(dice: Dice) -> _Layer:
    """Square windows and no groups."""
    size, stride = dice.one(1, 3, 3, 5), dice.one(1, 1, 2)
    pad = dice.one(0, size // 2)  # none, or what keeps the size at stride 1
    n, h, w = dice.one(1, 2), dice.between(size, 11), dice.between(size, 11)
    c, k = dice.one(1, 2, 3, 4, 8, 16, 32), dice.one(1, 2, 3, 4, 6, 8, 16, 32)
    conv = Conv((stride, stride), ((pad, pad), (pad, pad)))
    return _layer(n, (h, w), c, k, (size, size), conv)


def _declared(
    case: Callable[[_Layer, Dice], Case], call_of: Callable[[_Layer], Problem], **more: Any
) -> Declaration:
    def implicit(dice: Dice) -> Case:
        return case((_awkward if dice.chance(0.5) else _deep)(dice), dice)

    return Declaration(
        lambda dice: case(_awkward(dice), dice),
        CONV,
        lambda *sizes: call_of(_of_sizes(*sizes)),
        usual=(*USUAL_MAP, 128, 3, 3, 1, 1, 1),
        draw_of={"implicit": implicit, "depthwise": lambda dice: case(_depthwise(dice), dice)},
        # AlexNet's conv1 on a smaller image; MobileNet's layers, a filter a channel.
        usual_of={
            "first": (4, 99, 99, 3, 96, 11, 11, 4, 0, 1),
            "depthwise": (*USUAL_MAP, 64, 3, 3, 1, 1, 64),
        },
        plain=lambda dice: case(_plain(dice), dice),
        **more,
    )


def _products(layer: _Layer) -> dict[str, int]:
    """Operations of one pass, and bytes of the pixels of x that a window holds."""
    x, w, y, conv = layer
    seen, together = pixels(conv.window(w), x[1:3])
    each = 2 * x[0] * w[2] * w[3]  # for each pixel of a window
    return {
        "flop": each * y[1] * y[2] * w[0] * w[1],
        "least_flop": each * together,
        "seen": 4 * x[0] * seen * x[3],
    }


def _by_group(x: Array, groups: int) -> Array:
    """(N,P,Q,C) -> (G, N·P·Q, C/G)."""
    n, p, q, c = x.shape
    return np.transpose(np.reshape(x, (n * p * q, groups, c // groups)), (1, 0, 2))


def _from_groups(x: Array, image: tuple[int, int, int]) -> Array:
    """(G, N·P·Q, C/G) -> (N,P,Q,C)."""
    groups, _, c = x.shape
    return np.reshape(np.transpose(x, (1, 0, 2)), (*image, groups * c))


def _weights_by_group(w: Array, groups: int) -> Array:
    """(R,S,C/G,K) -> (R,S, G, C/G, K/G)."""
    r, s, c, k = w.shape
    return np.transpose(np.reshape(w, (r, s, c, groups, k // groups)), (0, 1, 3, 2, 4))


def _forward_case(layer: _Layer, dice: Dice) -> Case:
    x, w, _, conv = layer
    bias = dice.array(w[3]) if dice.chance(0.5) else None
    activation = dice.one(None, None, "relu", "sigmoid", "tanh")
    return Case(
        [dice.array(*x), dice.array(*w), bias],
        {"conv": conv, "activation": activation},
        exact=dice.whole and activation in (None, "relu"),
        length=math.prod(w[:3]),
    )


def _forward_call(layer: _Layer) -> Problem:
    x, w, y, conv = layer
    counts = _products(layer)
    return call(
        [normal(*x), normal(*w), normal(w[3])],
        y,
        settings={"conv": conv},
        read=counts.pop("seen") + 4 * (math.prod(w) + w[3]),
        length=math.prod(w[:3]),
        by_image=(0,),
        **counts,
    )


@primitive(_declared(_forward_case, _forward_call, usual_settings={"activation": "relu"}))
def conv2d(
    x: Array, w: Array, b: Array | None = None, *, conv: Conv, activation: str | None = None
) -> Array:
    """y[n,p,q,k] = φ(b[k] + Σ_{r,s,c} x[n, p·stride + r·dilation - pad, …, c] · w[r,s,c,k]).

    x (N,H,W,C), w (R,S,C/groups,K), b (K,) or None -> y (N,P,Q,K), all of one float dtype.
    Output channels k of group g see input channels of group g only. Padding is zeros.
    `activation` φ: None, "relu", "sigmoid" or "tanh".
    Half types accumulate in float32.
    """
    groups, window = conv.groups, conv.window(w.shape)
    padded, kernel = pad_image(wide(x), conv.padding), _weights_by_group(wide(w), groups)
    n, p, q = image = (x.shape[0], *window.output_shape(x.shape[1:3]))
    y = np.zeros_like(padded, shape=(groups, n * p * q, w.shape[3] // groups))
    for r, s, tap in window.taps((p, q)):
        # (G, N·P·Q, K/G) += (G, N·P·Q, C/G) @ (G, C/G, K/G)
        y += np.matmul(_by_group(padded[tap], groups), kernel[r, s])
    y = _from_groups(y, image)
    if b is not None:
        y = y + b
    return activate(y, activation).astype(x.dtype, copy=False)


def _input_grad_case(layer: _Layer, dice: Dice) -> Case:
    x, w, y, conv = layer
    settings = {"conv": conv, "input_shape": x}
    length = w[0] * w[1] * w[3] // conv.groups
    return Case([dice.array(*y), dice.array(*w)], settings, dice.whole, length)


def _input_grad_call(layer: _Layer) -> Problem:
    x, w, y, conv = layer
    counts = _products(layer)
    del counts["seen"]
    return call(
        [normal(*y), normal(*w)],
        x,
        settings={"conv": conv, "input_shape": x},
        length=w[0] * w[1] * w[3] // conv.groups,
        by_image=(0,),
        **counts,
    )


@primitive(_declared(_input_grad_case, _input_grad_call))
def conv2d_input_grad(gy: Array, w: Array, *, input_shape: tuple[int, ...], conv: Conv) -> Array:
    """Gradient of a loss by conv2d's input: gy (N,P,Q,K), w (R,S,C/groups,K) -> gx `input_shape`.

    Pixels that no window reads get 0.
    """
    n, p, q, _ = gy.shape
    kernel, gradient = _weights_by_group(wide(w), conv.groups), _by_group(wide(gy), conv.groups)
    padded = zeros_padded(gradient, input_shape, conv.padding)
    for r, s, tap in conv.window(w.shape).taps((p, q)):
        # (G, N·P·Q, C/G) = (G, N·P·Q, K/G) @ (G, K/G, C/G)
        cell = np.matmul(gradient, np.transpose(kernel[r, s], (0, 2, 1)))
        padded[tap] += _from_groups(cell, (n, p, q))
    return crop_image(padded, input_shape, conv.padding).astype(gy.dtype, copy=False)


def _weight_grad_case(layer: _Layer, dice: Dice) -> Case:
    x, w, y, conv = layer
    settings = {"conv": conv, "kernel_shape": w}
    return Case([dice.array(*x), dice.array(*y)], settings, dice.whole, math.prod(y[:3]))


def _weight_grad_call(layer: _Layer) -> Problem:
    x, w, y, conv = layer
    counts = _products(layer)
    return call(
        [normal(*x), normal(*y)],
        w,
        settings={"conv": conv, "kernel_shape": w},
        read=counts.pop("seen") + 4 * math.prod(y),
        length=math.prod(y[:3]),
        summed=(0, 1),
        **counts,
    )


@primitive(_declared(_weight_grad_case, _weight_grad_call))
def conv2d_weight_grad(x: Array, gy: Array, *, kernel_shape: tuple[int, ...], conv: Conv) -> Array:
    """Gradient of a loss by conv2d's weights: x (N,H,W,C), gy (N,P,Q,K) -> gw `kernel_shape`.

    `kernel_shape` is (R,S,C/groups,K). An empty batch gives zeros.
    """
    rows, columns, c, k = kernel_shape
    groups = conv.groups
    padded, gradient = pad_image(wide(x), conv.padding), _by_group(wide(gy), groups)
    gw = np.zeros_like(gradient, shape=(rows, columns, c, groups, k // groups))
    for r, s, tap in conv.window(kernel_shape).taps(gy.shape[1:3]):
        # (G, C/G, K/G) = (G, C/G, N·P·Q) @ (G, N·P·Q, K/G)
        cell = np.matmul(np.transpose(_by_group(padded[tap], groups), (0, 2, 1)), gradient)
        gw[r, s] = np.transpose(cell, (1, 0, 2))
    return np.reshape(gw, kernel_shape).astype(x.dtype, copy=False)


def _bias_grad(dice: Dice) -> Case:
    shape = (dice.one(0, 1, 3, 70), *dice.one((), (3, 5), (7,)), dice.between(1, 70))
    return Case([dice.array(*shape)], exact=dice.whole, length=math.prod(shape[:-1]))


@primitive(
    Declaration(
        _bias_grad,
        MAP,
        lambda n, h, w, c: call(
            [normal(n, h, w, c)],
            (c,),
            length=min(n * h * w, 200),
            scale=math.sqrt(n * h * w),
        ),
        usual=(8, 28, 28, 128),
    )
)
def bias_grad(gy: Array) -> Array:
    """Gradient of a loss by the bias of conv2d or dense: gy (…,K) summed over all but K -> (K,)."""
    return long_sum(gy, tuple(range(gy.ndim - 1)))

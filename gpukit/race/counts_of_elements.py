"""A call's operations and bytes, as counts.py: what is done element by element, row by row."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from gpukit.race.counts import RESPONSE, Problem
from gpukit.race.families import BINARY, MOVES
from gpukit.race.tables import Sizes

_RANDOM = {"seed": 1, "layer": 0, "step": 0}


def of_map(primitive: str, sizes: Sizes) -> Problem:
    """What is done to feature maps: normalised, activated, moved, each element or each channel."""
    n, h, w, c = sizes
    elements, vectors = math.prod(sizes), 4 * c
    x = 4 * elements
    made = Problem(primitive, "", sizes, _settings_of_map(primitive, sizes), elements, elements)
    match primitive:
        case "global_avg_pool2d":
            return replace(made, read=x, written=4 * n * c, length=min(h * w, 200))
        case "global_avg_pool2d_grad":
            return replace(made, read=4 * n * c, written=x)
        case "batch_norm":
            moved = x + 2 * vectors
            return replace(made, read=moved, written=moved, length=16, scale=4.0)
        case "batch_norm_inference":
            return replace(made, read=x + 4 * vectors, written=x, length=16, scale=4.0)
        case "batch_norm_grad":
            count = n * h * w  # sums of so many numbers of random sign
            sums = 4 * math.sqrt(count)
            made = replace(made, length=min(count, 100), scales=(4.0, sums, sums))
            return replace(made, read=2 * x + 3 * vectors, written=x + 2 * vectors)
        case "bias_grad":
            length, scale = min(n * h * w, 200), math.sqrt(n * h * w)
            return replace(made, read=x, written=vectors, length=length, scale=scale)
        case "normalise_images":  # bytes in, floats out, three floats a channel, one of each image
            return replace(made, read=elements + 2 * vectors + n * vectors, written=x)
        case "dropout":
            return replace(made, read=x, written=x, exact=True)
        case "philox":
            return replace(made, read=4, written=x, exact=True)
        case "all_finite":
            return replace(made, read=x, written=1, exact=True)
        case "lrn" | "lrn_grad":
            reads = 2 if primitive.endswith("_grad") else 1
            return replace(made, read=reads * x, written=x, length=16)
    if primitive in MOVES:
        return _moved(made, 4 * n * c)
    reads = 2 if primitive.endswith("_grad") or primitive in BINARY else 1
    return replace(made, read=reads * x, written=x)


def _moved(made: Problem, line: int) -> Problem:
    """The bytes of maps that are moved, `line` for each pixel of a map of N·C."""
    _, h, w, c = made.sizes
    x = line * h * w
    read, written = {
        "transpose": (x, x),
        "concat": (2 * x, 2 * x),
        "split": (x, x),
        "pad": (x, line * (h + 2) * (w + 2)),
        "broadcast_to": (4 * c, x),
    }[made.primitive]
    elements = max(read, written) // 4
    return replace(made, read=read, written=written, flop=elements, least_flop=elements, exact=True)


def _settings_of_map(primitive: str, sizes: Sizes) -> dict[str, Any]:
    if primitive.startswith("lrn"):
        return {"response": RESPONSE}
    if primitive.startswith("batch_norm"):
        return {"epsilon": 1e-3}
    if primitive == "global_avg_pool2d_grad":
        return {"input_shape": sizes}
    if primitive.startswith("elu"):
        return {"alpha": 1.0}
    if primitive.startswith("leaky_relu"):
        return {"slope": 0.01}
    channels = sizes[3]
    given: dict[str, dict[str, Any]] = {
        "normalise_images": {"dtype": "float32"},
        "dropout": {"rate": 0.5, "scale": 2.0, **_RANDOM},
        "philox": {"shape": sizes, **_RANDOM},
        "transpose": {"axes": (0, 3, 1, 2)},  # channels first
        "concat": {"axis": 3},
        "split": {"sections": (channels // 2, channels - channels // 2), "axis": 3},
        "pad": {"widths": ((0, 0), (1, 1), (1, 1), (0, 0)), "value": 0.0},
        "broadcast_to": {"shape": sizes},
    }
    return given.get(primitive, {})


def rows(primitive: str, sizes: Sizes) -> Problem:
    """Softmax and losses of examples with C values each; picking rows of a matrix."""
    n, c = sizes
    x = 4 * n * c
    made = Problem(primitive, "", sizes, flop=n * c, least_flop=n * c)
    match primitive:
        case "softmax_cross_entropy":  # labels are int64
            made = replace(made, length=min(c, 200), scales=(1.0, 4 / c))
            return replace(made, read=x + 8 * n, written=x + 4 * n)
        case "softmax_cross_entropy_grad":
            return replace(made, read=x + 12 * n, written=x, length=16, scale=4 / c)
        case "squared_error":
            return replace(made, read=2 * x, written=4 * n, length=min(c, 200))
        case "squared_error_grad":
            return replace(made, read=2 * x + 4 * n, written=x, length=8, scale=4 / c)
        case "index":
            key = np.random.default_rng(0).permutation(n)
            return replace(made, settings={"key": key}, read=x, written=x, exact=True)
        case "index_grad":
            key = np.random.default_rng(0).integers(0, n, n)
            settings = {"key": key, "input_shape": sizes}
            return replace(made, settings=settings, read=x, written=x, length=16, scale=4.0)
    logarithm = primitive.startswith("log_softmax")
    backward = primitive.endswith("_grad")
    return replace(
        made,
        read=(2 if backward else 1) * x,
        written=x,
        length=min(c, 200),
        # Probabilities are about 1/C, and so is what they weigh.
        scale=math.sqrt(c) if logarithm and backward else 1.0 if logarithm else 4 / c,
    )


def reduction(primitive: str, sizes: Sizes) -> Problem:
    """Rows (axis 1) or columns (axis 0) of a matrix (N,C) to one number each."""
    n, c, axis = sizes
    count, results = (n, c) if axis == 0 else (c, n)
    settings: dict[str, Any] = {"axis": axis}
    if primitive != "argmax":
        settings["keepdims"] = False
    return Problem(
        primitive,
        "",
        sizes,
        settings,
        flop=n * c,
        least_flop=n * c,
        read=4 * n * c,
        written=(8 if primitive == "argmax" else 4) * results,
        length=min(count, 200),
        scale=math.sqrt(count) if primitive == "reduce_sum" else 1.0,
        exact=primitive in ("argmax", "reduce_max"),
    )


# Settings of each optimiser, and which of its arguments it changes; the last one is the gradient.
_UPDATES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "sgd_update": ({"momentum": 0.9, "weight_decay": 5e-4, "nesterov": False}, (0, 1)),
    "adam_update": (
        {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7, "step": 10, "weight_decay": 0.0},
        (0, 1, 2),
    ),
    "rmsprop_update": (
        {"rho": 0.9, "epsilon": 1e-7, "momentum": 0.9, "weight_decay": 0.0},
        (0, 1, 2),
    ),
    "adagrad_update": ({"epsilon": 1e-7, "weight_decay": 0.0}, (0, 1)),
}


def update(primitive: str, sizes: Sizes) -> Problem:
    """An optimiser's step over all parameters in one buffer."""
    (count,) = sizes
    settings, changed = _UPDATES[primitive]
    return Problem(
        primitive,
        "",
        sizes,
        {"lr": 0.01, **settings},
        flop=count,
        least_flop=count,
        read=4 * count * (len(changed) + 1),
        written=4 * count * len(changed),
        length=8,
        scale=2.0,
        in_place=changed,
    )

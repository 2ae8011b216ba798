"""What is raced: one call of a primitive, with its operations, bytes and the bounds of its result.

A problem is known by its primitive and its sizes, whose order is the form of the primitive's
family; whoever has both makes the same arguments (arguments.py), in any process.

Counting. A multiply-add is two operations; a convolution's padding counts, as it does in all
published figures, and everything that is no matrix product counts one operation an element of its
largest array. Bytes are the least that must move: each argument read once, each result written
once; of a convolution's input, the pixels that a window sees.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field, replace
from typing import Any

from gpukit.backends.geometry import conv_output_size
from gpukit.backends.reference.pool import index_dtype
from gpukit.errors import SettingError
from gpukit.race.tables import NETWORKS, Layer, Network, Sizes

# Family: the letters of its sizes and what those left out are.
FORMS: dict[str, tuple[tuple[str, ...], Sizes]] = {
    "conv": (("N", "H", "W", "C", "K", "R", "S", "stride", "pad", "groups"), (1, 0, 1)),
    "pool": (("N", "H", "W", "C", "R", "S", "stride", "pad"), (0,)),
    "map": (("N", "H", "W", "C"), ()),
    "rows": (("N", "C"), ()),
    "dense": (("N", "inputs", "outputs"), ()),
}

_ACTIVATIONS = ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus")
UNARY = ("absolute", "exp", "log", "negative", "sign", "sqrt", "square")
BINARY = ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power")

FAMILIES = {
    "conv2d": "conv",
    "conv2d_input_grad": "conv",
    "conv2d_weight_grad": "conv",
    "max_pool2d": "pool",
    "max_pool2d_grad": "pool",
    "avg_pool2d": "pool",
    "avg_pool2d_grad": "pool",
    "global_avg_pool2d": "map",
    "global_avg_pool2d_grad": "map",
    "lrn": "map",
    "lrn_grad": "map",
    "batch_norm": "map",
    "batch_norm_inference": "map",
    "batch_norm_grad": "map",
    "softmax": "rows",
    "softmax_grad": "rows",
    "log_softmax": "rows",
    "log_softmax_grad": "rows",
    "dense": "dense",
    "dense_input_grad": "dense",
    "dense_weight_grad": "dense",
    **{name: "map" for a in _ACTIVATIONS for name in (a, f"{a}_grad")},
    **dict.fromkeys((*UNARY, *BINARY), "map"),
}

PASSES = ("forward", "input", "weight", "all")
MOST_SIZE = 1 << 20  # of one letter


@dataclass(frozen=True)
class Problem:
    """One call: `flop` and `least_flop` operations, by convention and without padding; bytes read
    and written at least; its result a sum of `length` terms of about `scale`, or `exact`."""

    primitive: str
    layer: str
    sizes: Sizes
    settings: dict[str, Any] = field(default_factory=dict)
    flop: int = 0
    least_flop: int = 0
    read: int = 0
    written: int = 0
    length: int = 1
    scale: float = 1.0
    exact: bool = False
    count: int = 1
    network: str = ""

    @property
    def form(self) -> str:
        """The sizes as `--layers` takes them."""
        return ",".join(map(str, self.sizes))

    @property
    def bytes(self) -> int:
        """Read and written together, at least."""
        return self.read + self.written


def problem(primitive: str, sizes: Sizes, layer: str = "", count: int = 1) -> Problem:
    """The problem of these sizes, N first; SettingError or ShapeError where they do not fit."""
    family = FAMILIES[primitive]
    sizes = _complete(family, sizes)
    made = {"conv": _conv, "pool": _pool, "map": _map, "rows": _rows, "dense": _dense}[family](
        primitive, sizes
    )
    return replace(made, layer=layer or made.form, count=count)


def passes(primitive: str, chosen: str | None) -> list[str]:
    """The primitives that `--pass` means: of conv2d and dense three, else forward and gradient."""
    known = [name for name in FAMILIES if not name.endswith("_grad")]
    if primitive not in FAMILIES:
        close = difflib.get_close_matches(primitive, FAMILIES, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"use {', '.join(known)}"
        raise SettingError(f"{primitive!r} cannot be raced: {hint}")
    if primitive.endswith("_grad") and chosen is not None:
        raise SettingError(f"{primitive} is one pass by itself; leave --pass out")
    by_pass = {
        "forward": primitive,
        "input": f"{primitive}_input_grad",
        "weight": f"{primitive}_weight_grad",
    }
    if by_pass["input"] not in FAMILIES:
        by_pass["input"] = f"{primitive}_grad"
    there = {name: p for name, p in by_pass.items() if p in FAMILIES}
    if chosen == "all":
        return list(there.values())
    if (chosen or "forward") not in there:
        raise SettingError(f"{primitive} has no pass {chosen}; use {', '.join(there)} or all")
    return [there[chosen or "forward"]]


def problems(primitive: str, layers: str | None, batch: int | None) -> list[Problem]:
    """The problems that `--layers` means; `batch` is that of a network's layers.

    A network's name, or sizes; None: the first network that has such layers.
    """
    if layers is not None and layers not in NETWORKS:
        sizes = _parsed(primitive, layers)
        if batch is not None:
            raise SettingError("sizes begin with N; --batch is for the layers of a network")
        return [problem(primitive, sizes)]
    names = [layers] if layers else list(NETWORKS)
    for name in names:
        found = _layers(primitive, NETWORKS[name])
        if found:
            made = [
                problem(primitive, (batch or 1, *layer.sizes), layer.name, layer.count)
                for layer in found
            ]
            return [replace(one, network=name) for one in made]
    others = [name for name, network in NETWORKS.items() if _layers(primitive, network)]
    form = ",".join(FORMS[FAMILIES[primitive]][0])
    raise SettingError(f"{layers} has no layer for {primitive}; use {', '.join([*others, form])}")


def _layers(primitive: str, network: Network) -> tuple[Layer, ...]:
    match FAMILIES[primitive]:
        case "conv":
            return network.convs
        case "pool":
            return network.max_pools
        case "dense":
            return network.denses
        case "rows":
            return network.softmaxes
    if primitive.startswith("lrn"):
        return network.responses
    if primitive.startswith("global"):
        return network.global_pools
    if primitive.startswith("batch_norm") and not network.normalised:
        return ()
    return network.maps


def _parsed(primitive: str, text: str) -> Sizes:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        form = ",".join(FORMS[FAMILIES[primitive]][0])
        names = ", ".join(NETWORKS)
        raise SettingError(
            f"--layers {text}: use {names}, or sizes as whole numbers {form}"
        ) from None


def _complete(family: str, sizes: Sizes) -> Sizes:
    letters, optional = FORMS[family]
    missing = len(letters) - len(sizes)
    form = ",".join(letters)
    if not 0 <= missing <= len(optional):
        raise SettingError(f"{len(sizes)} sizes, where {form} are {len(letters)}")
    whole = (*sizes, *optional[len(optional) - missing :])
    for letter, size in zip(letters, whole):
        if not (0 if letter == "pad" else 1) <= size <= MOST_SIZE:
            raise SettingError(f"{letter} = {size}: use sizes from 1 to {MOST_SIZE} for {form}")
    return whole


def _conv(primitive: str, sizes: Sizes) -> Problem:
    n, h, w, c, k, r, s, stride, pad, groups = sizes
    pads = (pad, pad)
    if c % groups or k % groups:
        raise SettingError(f"C = {c} and K = {k} do not divide into groups = {groups}")
    p, q = conv_output_size(h, r, stride, pads), conv_output_size(w, s, stride, pads)
    if not p or not q:
        raise SettingError(f"a {r}×{s} kernel is larger than {h}×{w} with padding {pad}")
    depth, taps = c // groups, _taps(h, p, r, stride, pad) * _taps(w, q, s, stride, pad)
    flop = 2 * n * p * q * k * depth * r * s
    x, seen = 4 * n * h * w * c, _seen(h, p, r, stride, pad) * _seen(w, q, s, stride, pad)
    weights, y = 4 * r * s * depth * k, 4 * n * p * q * k
    common: dict[str, Any] = {
        "stride": (stride, stride),
        "padding": (pads, pads),
        "dilation": (1, 1),
        "groups": groups,
    }
    moved: tuple[int, int]
    if primitive == "conv2d":
        moved, length = (4 * n * seen * c + weights + 4 * k, y), r * s * depth
    elif primitive == "conv2d_input_grad":
        common["input_shape"] = (n, h, w, c)
        moved, length = (y + weights, x), r * s * k // groups
    else:
        common["kernel_shape"] = (r, s, depth, k)
        moved, length = (4 * n * seen * c + y, weights), n * p * q
    return Problem(
        primitive,
        "",
        sizes,
        common,
        flop=flop,
        least_flop=2 * n * k * depth * taps,
        read=moved[0],
        written=moved[1],
        length=length,
    )


def _taps(size: int, outputs: int, cells: int, stride: int, pad: int) -> int:
    """Along one axis, pairs of an output and a cell of its window that is a pixel."""
    return sum(
        max(min(i * stride - pad + cells, size) - max(i * stride - pad, 0), 0)
        for i in range(outputs)
    )


def _seen(size: int, outputs: int, cells: int, stride: int, pad: int) -> int:
    """Along one axis, pixels that some window holds."""
    first, count = 0, 0
    for i in range(outputs):
        begin, end = max(i * stride - pad, first), min(i * stride - pad + cells, size)
        count += max(end - begin, 0)
        first = max(first, end)
    return count


def _pool(primitive: str, sizes: Sizes) -> Problem:
    n, h, w, c, r, s, stride, pad = sizes
    if pad >= min(r, s):
        raise SettingError(f"padding {pad} is not smaller than the window of {r}×{s}")
    p, q = (conv_output_size(size, cells, stride, (pad, pad)) for size, cells in ((h, r), (w, s)))
    if not p or not q:
        raise SettingError(f"a window of {r}×{s} is larger than {h}×{w} with padding {pad}")
    shape, cells = (n, h, w, c), math.prod((n, p, q, c))
    seen = 4 * n * c * _seen(h, p, r, stride, pad) * _seen(w, q, s, stride, pad)
    index = cells * _index_bytes(r, s) if primitive.startswith("max") else 0
    settings: dict[str, Any] = {
        "window": (r, s),
        "stride": (stride, stride),
        "padding": ((pad, pad), (pad, pad)),
    }
    backward = primitive.endswith("_grad")
    if backward:
        settings["input_shape"] = shape
    elements = max(math.prod(shape) if backward else seen // 4, cells)
    return Problem(
        primitive,
        "",
        sizes,
        settings,
        flop=elements,
        least_flop=elements,
        read=4 * cells + index if backward else seen,
        written=4 * math.prod(shape) if backward else 4 * cells + index,
        length=r * s,
        exact=primitive == "max_pool2d",
    )


def _index_bytes(r: int, s: int) -> int:
    return {"uint8": 1, "uint16": 2, "uint32": 4}[index_dtype((r, s)).__name__]


def _map(primitive: str, sizes: Sizes) -> Problem:
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
            made = replace(made, length=min(count, 100), scale=4 * math.sqrt(count))
            return replace(made, read=2 * x + 3 * vectors, written=x + 2 * vectors)
        case "lrn" | "lrn_grad":
            reads = 2 if primitive.endswith("_grad") else 1
            return replace(made, read=reads * x, written=x, length=16)
    reads = 2 if primitive.endswith("_grad") or primitive in BINARY else 1
    return replace(made, read=reads * x, written=x)


def _settings_of_map(primitive: str, sizes: Sizes) -> dict[str, Any]:
    if primitive.startswith("lrn"):  # Krizhevsky et al., 2012, section 3.3
        return {"size": 5, "alpha": 5e-4, "beta": 0.75, "k": 2.0, "groups": 1}
    if primitive.startswith("batch_norm"):
        return {"epsilon": 1e-3}
    if primitive == "global_avg_pool2d_grad":
        return {"input_shape": sizes}
    if primitive.startswith("elu"):
        return {"alpha": 1.0}
    if primitive.startswith("leaky_relu"):
        return {"slope": 0.01}
    return {}


def _rows(primitive: str, sizes: Sizes) -> Problem:
    n, c = sizes
    x = 4 * n * c
    logarithm = primitive.startswith("log_softmax")
    backward = primitive.endswith("_grad")
    return Problem(
        primitive,
        "",
        sizes,
        flop=n * c,
        least_flop=n * c,
        read=(2 if backward else 1) * x,
        written=x,
        length=min(c, 200),
        # Probabilities are about 1/C, and so is what they weigh.
        scale=math.sqrt(c) if logarithm and backward else 1.0 if logarithm else 4 / c,
    )


def _dense(primitive: str, sizes: Sizes) -> Problem:
    n, inputs, outputs = sizes
    x, w, y = 4 * n * inputs, 4 * inputs * outputs, 4 * n * outputs
    read, written, length = {
        "dense": (x + w + 4 * outputs, y, inputs),
        "dense_input_grad": (y + w, x, outputs),
        "dense_weight_grad": (x + y, w, n),
    }[primitive]
    flop = 2 * n * inputs * outputs
    return Problem(
        primitive,
        "",
        sizes,
        flop=flop,
        least_flop=flop,
        read=read,
        written=written,
        length=length,
    )

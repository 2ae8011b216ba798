"""What is raced: one call of a primitive, with its operations, bytes and the bounds of its result.

A problem is known by its primitive and its sizes, whose order is the form of the primitive's
family; whoever has both makes the same arguments (arguments.py), in any process.
"""

from __future__ import annotations

import difflib
from dataclasses import replace

from gpukit.errors import SettingError
from gpukit.race import counts, counts_of_elements
from gpukit.race.counts import Problem
from gpukit.race.families import FAMILIES, FORMS, LIMITS, MOST_SIZE, UNRACED
from gpukit.race.tables import NETWORKS, Layer, Network, Sizes

PASSES = ("forward", "input", "weight", "all")

_COUNTS = {
    "conv": counts.conv,
    "pool": counts.pool,
    "map": counts_of_elements.of_map,
    "rows": counts_of_elements.rows,
    "reduction": counts_of_elements.reduction,
    "dense": counts.product,
    "matmul": counts.product,
    "update": counts_of_elements.update,
}


def problem(primitive: str, sizes: Sizes, layer: str = "", count: int = 1) -> Problem:
    """The problem of these sizes, N first; SettingError or ShapeError where they do not fit."""
    family = FAMILIES[primitive]
    sizes = _complete(family, sizes)
    made = _COUNTS[family](primitive, sizes)
    return replace(made, layer=layer or made.form, count=count)


def passes(primitive: str, chosen: str | None) -> list[str]:
    """The primitives that `--pass` means: of conv2d and dense three, else forward and gradient."""
    if primitive in UNRACED:
        raise SettingError(f"{primitive} cannot be raced: {UNRACED[primitive]}")
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
            whose = () if FAMILIES[primitive] == "update" else (batch or 1,)
            made = [
                problem(primitive, (*whose, *layer.sizes), layer.name, layer.count)
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
            return network.response_pools if "lrn" in primitive else network.max_pools
        case "dense" | "matmul":
            return network.denses
        case "rows" | "reduction":
            return network.softmaxes
        case "update":
            return (network.parameters,)
    if primitive == "normalise_images":
        return (network.images,)
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
        low, high = LIMITS.get(letter, (1, MOST_SIZE))
        if not low <= size <= high:
            raise SettingError(f"{letter} = {size}: use sizes from {low} to {high} for {form}")
    return whole

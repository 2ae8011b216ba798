"""What is raced: one call of a primitive, with its operations, bytes and the bounds of its result.

A problem is known by its primitive and its sizes, whose order is the form that the primitive
declares; whoever has both makes the same arguments, in any process.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace

import gpukit.primitives  # noqa: F401  (fills the registry)
from gpukit.dispatch.declaration import Declaration, Form, Problem, Sizes
from gpukit.dispatch.primitive import registry
from gpukit.errors import SettingError
from gpukit.race.tables import NETWORKS, Layer, Network

ALL = "all"
SUITES = (*NETWORKS, ALL)


def declarations() -> dict[str, Declaration]:
    """By name, of every primitive that can be raced."""
    found = {name: made.declaration for name, made in registry.items()}
    return {name: known for name, known in found.items() if known and not known.unraced}


def form_of(primitive: str) -> Form:
    """The form of a primitive's sizes."""
    return declarations()[primitive].form


def problem(primitive: str, sizes: Sizes, layer: str = "", count: int = 1) -> Problem:
    """The problem of these sizes, N first; SettingError or ShapeError where they do not fit."""
    made = replace(declarations()[primitive].problem(sizes), primitive=primitive, count=count)
    return replace(made, layer=layer or made.form)


def passes(primitive: str, chosen: str | None) -> list[str]:
    """The primitives that `--pass` means: of conv2d and dense three, else forward and gradient."""
    raced = declarations()
    declared = registry[primitive].declaration if primitive in registry else None
    if declared and declared.unraced:
        raise SettingError(f"{primitive} cannot be raced: {declared.unraced}")
    if primitive not in raced:
        known = [name for name in raced if not name.endswith("_grad")]
        close = difflib.get_close_matches(primitive, raced, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"use {', '.join(known)}"
        raise SettingError(f"{primitive!r} cannot be raced: {hint}")
    if primitive.endswith("_grad") and chosen is not None:
        raise SettingError(f"{primitive} is one pass by itself; leave --pass out")
    by_pass = {
        "forward": primitive,
        "input": f"{primitive}_input_grad",
        "weight": f"{primitive}_weight_grad",
    }
    if by_pass["input"] not in raced:
        by_pass["input"] = f"{primitive}_grad"
    there = {name: p for name, p in by_pass.items() if p in raced}
    if chosen == "all":
        return list(there.values())
    if (chosen or "forward") not in there:
        raise SettingError(f"{primitive} has no pass {chosen}; use {', '.join(there)} or all")
    return [there[chosen or "forward"]]


def problems(primitive: str, layers: str | None, batch: int | None) -> list[Problem]:
    """The problems that `--layers` means; `batch` is that of a network's layers.

    A network's name, or sizes; None: the first network that has such layers.
    """
    form = form_of(primitive)
    if layers is not None and layers not in NETWORKS:
        sizes = _parsed(form, layers)
        if batch is not None:
            raise SettingError("sizes begin with N; --batch is for the layers of a network")
        return [problem(primitive, sizes)]
    names = [layers] if layers else list(NETWORKS)
    for name in names:
        found = _layers(primitive, NETWORKS[name])
        if found:
            first = (batch or 1,) if form.batched else ()
            made = [
                problem(primitive, (*first, *layer.sizes), layer.name, layer.count)
                for layer in found
            ]
            return [replace(one, network=name) for one in made]
    others = [name for name, network in NETWORKS.items() if _layers(primitive, network)]
    raise SettingError(
        f"{layers} has no layer for {primitive}; use {', '.join([*others, str(form)])}"
    )


def suite(
    name: str, batch: int, primitives: Sequence[str] = (), chosen: str | None = None
) -> list[Problem]:
    """The problems of one of SUITES; only those of `primitives`, where any are named.

    Of these the passes `chosen` as `--pass` has it, or all. Raises SettingError where nothing is
    left.
    """
    named: set[str] = set()
    for primitive in primitives:
        default = None if primitive.endswith("_grad") else "all"
        named.update(passes(primitive, chosen or default))
    networks = list(NETWORKS) if name == ALL else [name]
    found: list[Problem] = []
    for network in networks:
        of_network = NETWORKS[network].primitives
        for primitive in (p for p in of_network if not primitives or p in named):
            found += problems(primitive, network, batch)
    if not found:
        raise SettingError(f"no layer of {' '.join(networks)} calls {', '.join(primitives)}")
    # A layer's name says whose it is, where several networks take part.
    return found if name != ALL else [replace(p, layer=f"{p.network}-{p.layer}") for p in found]


def _layers(primitive: str, network: Network) -> tuple[Layer, ...]:
    declared = declarations()[primitive]
    found: tuple[Layer, ...] = getattr(network, declared.layers or declared.form.layers)
    return found


def _parsed(form: Form, text: str) -> Sizes:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        names = ", ".join(NETWORKS)
        raise SettingError(
            f"--layers {text}: use {names}, or sizes as whole numbers {form}"
        ) from None

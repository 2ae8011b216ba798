"""Suites: the passes that a training step of a network takes, over all of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from gpukit.dispatch.declaration import Problem
from gpukit.errors import SettingError
from gpukit.race.problems import passes, problems
from gpukit.race.tables import NETWORKS

ALL = "all"
SUITES = (*NETWORKS, ALL)


def suite(
    name: str, batch: int, primitives: Sequence[str] = (), chosen: str | None = None
) -> list[Problem]:
    """The problems of one of SUITES; only those of `primitives`, where any are named.

    Of these the passes `chosen` as `--pass` has it, or all. Raises SettingError where nothing is
    left.
    """
    named = {p for primitive in primitives for p in _passes(primitive, chosen)}
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


def _passes(primitive: str, chosen: str | None) -> list[str]:
    return passes(primitive, chosen or (None if primitive.endswith("_grad") else "all"))

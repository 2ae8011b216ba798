"""Computes a step of training twice from one state, and compares every layer's bits.

A machine that computes something else the second time is broken, or runs something that is not
deterministic: what follows from such a step cannot be trusted.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit import metrics as metric_family
from gpukit.autograd import Tensor
from gpukit.autograd.tape import watched_by
from gpukit.device import to_host
from gpukit.errors import ReplayError
from gpukit.training.compiled import Compiled
from gpukit.training.step import Figures, Order, Work, in_words, take_step

Key = tuple[tuple[int, int, int], int]


class Bits(Order):
    """A checksum of everything that a step computes; no single flipped bit leaves one as it was."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[Key, tuple[str, int]] = {}
        self._copies: dict[tuple[int, int, int], int] = {}

    def see(self, stage: str, place: int, what: str, array: Any) -> None:
        order = self.order(stage, place)
        number = self._copies[order] = self._copies.get(order, -1) + 1
        self.found[order, number] = in_words(stage, what), checksum(array)


def checksum(array: Any) -> int:
    """A CRC-32 of the bytes of an array of any device, and of its shape and dtype."""
    host = np.ascontiguousarray(to_host(array.array if isinstance(array, Tensor) else array))
    head = zlib.crc32(f"{host.dtype} {host.shape}".encode())
    return zlib.crc32(host.reshape(-1).view(np.uint8).data, head) if host.size else head


def take_step_twice(model: Compiled, work: Work, bits: Callable[[], Bits] = Bits) -> Figures:
    """`take_step`, computed twice. Raises ReplayError where anything differs.

    Nothing else changes: parameters, optimiser and figures are those of one step. What a layer
    keeps outside of its parameters, or draws at random by itself, is not brought back.
    """
    step = model.context.step
    bring_back = _keep(model)
    first, second = bits(), bits()
    with watched_by(first):
        figures = take_step(model, work)
    bring_back()
    with watched_by(second):
        again = take_step(model, work)
    what = _first_difference(first, second)
    if what is None and repr(again) != repr(figures):
        what = "the figures"
    if what is not None:
        raise ReplayError(
            f"{model.name}: step {step + 1}, computed twice, gave other bits the second time, "
            f"first in {what}: this machine does not compute reliably, or that layer is not "
            "deterministic; go on from the last checkpoint, on another machine"
        )
    return figures


def _first_difference(first: Bits, second: Bits) -> str | None:
    for key in sorted(first.found.keys() | second.found.keys()):
        before, after = first.found.get(key), second.found.get(key)
        if before != after:
            return (before or after or ("", 0))[0]
    return None


def _keep(model: Compiled) -> Callable[[], None]:
    """A function that brings the model, its optimiser and its count of steps back to now."""
    values = [(parameter, parameter.array.copy()) for parameter in model.parameters]
    optimizer = model.optimizer.keep()
    metrics = metric_family.keep(model.metrics)
    step = model.context.step

    def bring_back() -> None:
        for parameter, array in values:
            parameter.assign(array)
        optimizer()
        metrics()
        model.context.step = step

    return bring_back

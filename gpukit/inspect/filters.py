"""Filters of the first convolutions: where they are, and how much they respond to colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpukit import layers
from gpukit.autograd import Parameter
from gpukit.graph.network import Network

RANDOM = 2 / 3  # the colour share that is to be expected of filters of independent random values


@dataclass(frozen=True)
class Filters:
    """The filters (R, S, C, K) of one convolution, as float64, with its name and device."""

    name: str
    device: str
    weights: NDArray[np.float64]

    @property
    def colour(self) -> float | None:
        """Mean of `colour_shares`; None where the filters do not see three channels."""
        if self.weights.shape[2] != 3:
            return None
        return float(colour_shares(self.weights).mean())


def first_filters(model: Network) -> list[Filters]:
    """The convolutions that see the images themselves: one, or one for each column.

    Where there are none, the first kernel with rows and columns; an empty list without any.
    """
    images = {-1}
    found = []
    for i, (layer, parents) in enumerate(model.graph()):
        if not images.issuperset(parents):
            continue
        kernel = _kernel(layer)
        if kernel is not None:
            found.append(_filters(layer, kernel))
        elif isinstance(layer, layers.ToDevice):
            images.add(i)
    if found:
        return found
    for layer in model.layers:
        kernel = _kernel(layer)
        if kernel is not None:
            return [_filters(layer, kernel)]
    return []


def colour_shares(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """How colour-specific each of the filters (R, S, 3, K) is: (K,), from 0 to 1.

    It is the share of a filter's energy, the sum of its squared weights, that lies outside the
    axis of grey, (1, 1, 1)/√3 at each of its pixels. A filter with equal channels has 0, one whose
    channels sum to zero everywhere has 1. Of independent random values with mean 0 it is 2/3 to be
    expected: two of three axes. A filter without energy counts as grey.
    """
    energy = (weights**2).sum((0, 1, 2))
    grey = (weights.sum(2) ** 2).sum((0, 1)) / 3
    return np.clip(1 - grey / np.maximum(energy, 1e-300), 0, 1) * (energy > 0)


def colour_report(model: Network) -> list[str]:
    """A line for each convolution that sees colour images; empty where there is none."""
    return [
        f"{f.name} on {f.device}: colour share {f.colour:.2f} (random filters: {RANDOM:.2f})"
        for f in first_filters(model)
        if f.colour is not None
    ]


def _kernel(layer: layers.Layer) -> Parameter | None:
    named = (p for p in layer.parameters if p.name.endswith("/kernel") and p.ndim == 4)
    return next(named, None)


def _filters(layer: layers.Layer, kernel: Parameter) -> Filters:
    return Filters(layer.name, str(layer.device), kernel.numpy().astype(np.float64))

"""Counts that the lecture notes give otherwise, said under the table of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gpukit.inspect.sizes import LayerSizes

if TYPE_CHECKING:
    from gpukit.models.base import Base

_ALEXNET = (227, 227, 3)


def notes(model: Base, figures: Sequence[LayerSizes]) -> list[str]:
    """Lines about the counts of `model`, whose sizes are `figures`; none for most models."""
    shape = tuple(model.input_shape or ())[1:]
    first = [f for f in figures if f.name.startswith("conv1")]
    whole = sum(f.output_shape[-1] for f in first) == 96 and figures[-1].output_shape == (1000,)
    if model.name != "alexnet" or shape != _ALEXNET or not whole:
        return []
    filters = [f for f in figures if f.multiply_adds]
    parameters = sum(f.weights + f.biases for f in figures)
    units = sum(f.units for f in filters)
    connections = sum(f.connections for f in filters)
    return [
        f"the lecture notes count 60 M parameters (here {parameters:,}) and 650 K units: those of "
        f"convolutions and dense layers, {units:,}, without poolings",
        "the lecture notes' 630 M connections are not reproducible: convolutions and dense layers "
        f"have {connections:,} here; it is 724 M with two groups, 1,135 M where every filter sees "
        "all maps",
    ]

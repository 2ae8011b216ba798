"""Notes under AlexNet's summary: counts that differ from those of the lecture notes."""

from __future__ import annotations

from collections.abc import Sequence

from gpukit.graph.network import Network
from gpukit.inspect.sizes import LayerSizes
from gpukit.networks.alexnet.sizes import INPUT_SIZE


def notes(model: Network, figures: Sequence[LayerSizes]) -> list[str]:
    """Lines about the counts of an AlexNet of the paper's size; none for other sizes."""
    shape = tuple(model.input_shape or ())[1:]
    first = [f for f in figures if f.name.startswith("conv1")]
    whole = sum(f.output_shape[-1] for f in first) == 96 and figures[-1].output_shape == (1000,)
    if shape != (INPUT_SIZE, INPUT_SIZE, 3) or not whole:
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

"""The forward pass of a model: a plan of steps, and carrying it out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gpukit.device import Device
from gpukit.layers.base import Layer

INPUT = -1  # the number of the model's input among the values of a plan


@dataclass(frozen=True)
class Step:
    """One use of a layer: value `node` is `call(inputs, training)`, computed on `device`.

    Values are numbered as in `Model.graph()`: by the use that makes them; `INPUT` is the model's
    input. `call` gets the one input, or a list of several.
    """

    node: int
    inputs: tuple[int, ...]
    layer: Layer
    call: Callable[[Any, bool | None], Any]
    device: Device


def plan(
    graph: Sequence[tuple[Layer, Sequence[int]]], devices: Sequence[Device], logits: bool = False
) -> list[Step]:
    """The steps of `graph`, each use of a layer on its device; the last one makes the output.

    With `logits` the last layer leaves out its final activation.
    """
    last = len(graph) - 1
    return [
        Step(i, tuple(inputs), layer, layer.logits if logits and i == last else layer, devices[i])
        for i, (layer, inputs) in enumerate(graph)
    ]


def execute(steps: Sequence[Step], x: Any, training: bool | None) -> Any:
    """What the last of `steps` makes of the model's input `x`.

    A value that no later step reads is let go at once.
    """
    values = {INPUT: x}
    del x
    readers: dict[int, int] = {steps[-1].node: 1}
    for step in steps:
        for value in step.inputs:
            readers[value] = readers.get(value, 0) + 1
    for step in steps:
        given = [values[i] for i in step.inputs]
        for i in step.inputs:
            readers[i] -= 1
            if readers[i] == 0:
                del values[i]
        values[step.node] = step.call(given if len(given) > 1 else given[0], training)
        del given
    return values[steps[-1].node]

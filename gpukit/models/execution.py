"""The forward pass of a model: a plan of steps, and carrying it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from gpukit.columns import interleaved, run
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


def by_turns(steps: Sequence[Step]) -> list[Step]:
    """`steps` in an order in which devices take turns, so that all have work early."""
    return [steps[i] for i in interleaved([step.device for step in steps], _needs(steps))]


def execute(steps: Sequence[Step], x: Any, training: bool | None) -> Any:
    """What the steps make of the model's input `x`: the value with the highest number.

    Steps on several CPU twins run at one time. A value that no later step reads is let go at once.
    """
    values = {INPUT: x}
    del x
    output = max(step.node for step in steps)
    readers = Counter([output, *(i for step in steps for i in step.inputs)])
    counting = Lock()

    def work(number: int) -> None:
        step = steps[number]
        with counting:
            given = [values[i] for i in step.inputs]
            for i in step.inputs:
                readers[i] -= 1
                if readers[i] == 0:
                    del values[i]
        values[step.node] = step.call(given if len(given) > 1 else given[0], training)

    needs, devices = _needs(steps), [step.device for step in steps]
    crossings = {
        i for i, made in enumerate(needs) if any(devices[j] is not devices[i] for j in made)
    }
    run(devices, needs, work, crossings)
    return values[output]


def _needs(steps: Sequence[Step]) -> list[list[int]]:
    """For each step the places of those that make its inputs."""
    maker = {step.node: number for number, step in enumerate(steps)}
    return [[maker[i] for i in step.inputs if i != INPUT] for step in steps]

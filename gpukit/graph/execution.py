"""Plans the forward pass of a model as steps on devices, and executes the plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Lock
from typing import Any

from gpukit.autograd.schedule import interleaved, run
from gpukit.autograd.tape import watcher
from gpukit.device import Device
from gpukit.layers.base import Layer
from gpukit.layers.device import ToDevice

INPUT = -1  # the number of the model's input among the values of a plan


@dataclass(frozen=True)
class Step:
    """One use of a layer: value `node` is `call(inputs, training)`, computed on `device`.

    Values are numbered as in `Model.graph()`: by the use that makes them; `INPUT` is the model's
    input. `call` gets the one input, or a list of several. `together` are the layers, in their
    order, where the step computes several.
    """

    node: int
    inputs: tuple[int, ...]
    layer: Layer
    call: Callable[[Any, bool | None], Any]
    device: Device
    together: tuple[Layer, ...] = ()

    @property
    def label(self) -> str:
        """What messages call it: the layer, or all that it computes as one."""
        return " and ".join(layer.label for layer in self.together or (self.layer,))


def steps_of(
    graph: Sequence[tuple[Layer, Sequence[int]]],
    devices: Sequence[Device],
    modes: Sequence[bool | None],
    logits: bool = False,
) -> list[Step]:
    """The steps of `graph`: each use of a layer, on its device; the last one makes the output.

    `modes` are the `training` that uses keep whatever the model's is, where not None. With `logits`
    the last layer leaves out its final activation.
    """
    last = len(graph) - 1
    steps = []
    for i, (layer, inputs) in enumerate(graph):
        call: Callable[[Any, bool | None], Any] = layer.logits if logits and i == last else layer
        if (kept := modes[i]) is not None:
            call = partial(_in_mode, call, kept)
        steps.append(Step(i, tuple(inputs), layer, call, devices[i]))
    return steps


def _in_mode(call: Any, kept: bool, inputs: Any, training: bool | None) -> Any:
    """`call` with the `training` that a use keeps, for that of the model."""
    return call(inputs, kept)


class Plan:
    """`steps` in an order in which devices alternate, so that all have work early.

    The value with the highest number is the output.
    """

    def __init__(self, steps: Sequence[Step]) -> None:
        order = interleaved([step.device for step in steps], _needs(steps))
        self.steps = [steps[i] for i in order]
        self.devices = [step.device for step in self.steps]
        self.needs = _needs(self.steps)
        self.crossings = [i for i, s in enumerate(self.steps) if type(s.layer) is ToDevice]
        self.output = max(step.node for step in steps)
        self.readers = dict(Counter([self.output, *(i for step in steps for i in step.inputs)]))


def execute(plan: Plan, x: Any, training: bool | None) -> Any:
    """The output of `plan` for the model's input `x`.

    Steps on several CPU twins run concurrently. A value is freed after its last reader.
    """
    values = {INPUT: x}
    del x
    readers = plan.readers.copy()
    counting = Lock()
    watch = watcher.get()

    def work(number: int) -> None:
        step = plan.steps[number]
        with counting:
            given = [values[i] for i in step.inputs]
            for i in step.inputs:
                readers[i] -= 1
                if readers[i] == 0:
                    del values[i]
        value = step.call(given if len(given) > 1 else given[0], training)
        if watch is not None:
            watch.see("forward", number, step.label, value)
        values[step.node] = value

    run(plan.devices, plan.needs, work, plan.crossings)
    return values[plan.output]


def _needs(steps: Sequence[Step]) -> list[list[int]]:
    """For each step the places of those that make its inputs."""
    maker = {step.node: number for number, step in enumerate(steps)}
    return [[maker[i] for i in step.inputs if i != INPUT] for step in steps]

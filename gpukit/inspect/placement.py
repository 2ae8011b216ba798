"""Bytes that cross between devices in a training step, and bytes that each device holds."""

from __future__ import annotations

from dataclasses import dataclass

from gpukit import layers
from gpukit.graph.network import Network
from gpukit.inspect.sizes import sizes

BATCH = 128


@dataclass(frozen=True)
class Traffic:
    """Bytes that cross from one device to another in a training step, batch and dtype given.

    `forward` are outputs of layers and `backward` gradients of what crossed the other way;
    `images` is the batch itself, which no gradient follows.
    """

    source: str
    target: str
    forward: int
    backward: int
    images: int

    @property
    def total(self) -> int:
        """Forward and backward, without the images."""
        return self.forward + self.backward


@dataclass(frozen=True)
class Memory:
    """Bytes that a device holds in a training step: everything but workspaces of kernels.

    `slots` is what the optimiser remembers, one value a parameter; `activations` are the outputs
    of all layers, kept for the pass back, and the images where they come in, but for values that
    layers computed together never write down.
    """

    device: str
    parameters: int
    gradients: int
    slots: int
    activations: int

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.slots + self.activations


def traffic(model: Network, batch: int = BATCH) -> list[Traffic]:
    """What crosses in a training step on `batch` images, by source and target."""
    where, figures = model.placement(), sizes(model)
    sums: dict[tuple[str, str], list[int]] = {}
    for i, (layer, parents) in enumerate(model.graph()):
        if not isinstance(layer, layers.ToDevice):
            continue
        source = where[parents[0]] if parents[0] >= 0 else model.device
        if source is where[i]:
            continue
        there = sums.setdefault((source.name, where[i].name), [0, 0, 0])
        back = sums.setdefault((where[i].name, source.name), [0, 0, 0])
        count = figures[i].activation_bytes * batch
        if parents[0] < 0:
            there[2] += count
        else:
            there[0] += count
            back[1] += count
    return [Traffic(*pair, *counts) for pair, counts in sorted(sums.items())]


def memory(model: Network, batch: int = BATCH, slots: int = 1) -> list[Memory]:
    """What each device holds in a training step on `batch` images.

    `slots` is the number of values that the optimiser remembers of each parameter: 1 for momentum.
    """
    figures, unwritten = sizes(model), _unwritten(model)
    size = model.dtype.itemsize
    image = size
    for length in (model.input_shape or ())[1:]:
        image *= length or 0
    found = []
    for device in model.devices:
        here = [f for f in figures if f.device == device.name]
        trained = sum(f.trainable for f in here) * size
        images = image if device is model.device else 0
        found.append(
            Memory(
                device=device.name,
                parameters=trained + sum(f.frozen for f in here) * size,
                gradients=trained,
                slots=trained * slots,
                activations=(
                    sum(f.activation_bytes for f in here if f.name not in unwritten) + images
                )
                * batch,
            )
        )
    return found


def _unwritten(model: Network) -> set[str]:
    """Names of layers whose outputs are not kept: the next layer is computed together with them.

    A convolution's output is kept, before its bias.
    """
    between = [layer for step in model.plan().steps for layer in step.together[:-1]]
    return {layer.name for layer in between if not isinstance(layer, layers.Conv2D)}

"""Shards in checkpoints: files hold the parameters of whole layers, whatever a model splits.

A shard's parameter is a slice of the whole one along the last axis (`layers.Shard`). A model in two
columns has `conv1a/kernel` (11, 11, 3, 48) and `conv1b/kernel` for what a file calls `conv1/kernel`
(11, 11, 3, 96), and an optimiser's `optimizer/conv1/kernel/velocity` goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpukit.errors import CheckpointError
from gpukit.layers.base import Layer
from gpukit.layers.shard import Shard
from gpukit.optimizers import PREFIX

# What the names of other tensors in a checkpoint begin with.
RESERVED = (PREFIX, "callbacks")


@dataclass(frozen=True)
class _Piece:
    """The parameter `name`, which is [..., first:end] of a whole one."""

    name: str
    first: int
    end: int


class Wholes:
    """The whole parameters of a model, by the names and in the shapes that files have.

    What shards do not make up completely, as in a model of one column alone, keeps its own name.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._pieces: dict[str, list[_Piece]] = {}
        self._whole_of: dict[str, str] = {}
        complete = _complete(layers)
        for layer in layers:
            for parameter in layer.parameters:
                if parameter.name in self._whole_of:  # of an inner layer that two layers share
                    continue
                shard, name, shape = layer.shard, parameter.name, parameter.shape
                first, end = 0, shape[-1] if shape else 0
                if shard is not None and shard.whole in complete:
                    name = shard.whole + name.removeprefix(layer.name)
                    first, end = shard.first, shard.first + end
                    shape = (*shape[:-1], shard.of)
                self.shapes[name] = shape
                self._pieces.setdefault(name, []).append(_Piece(parameter.name, first, end))
                self._whole_of[parameter.name] = name
        for pieces in self._pieces.values():
            pieces.sort(key=lambda piece: piece.first)

    def take(
        self, tensors: Mapping[str, np.ndarray], source: str, model: str
    ) -> dict[str, np.ndarray]:
        """The model's own parameters out of a file's; CheckpointError where one does not fit."""
        for name, shape in self.shapes.items():
            array = tensors.get(name)
            if array is None:
                raise CheckpointError(
                    f"{source} is of another model: it has no {name!r} of {model}"
                )
            if array.shape != shape:
                raise CheckpointError(
                    f"{source} is of another model: {name!r} is {array.shape} there and {shape} "
                    f"in {model}"
                )
        for name in tensors:
            if name not in self.shapes and name.partition("/")[0] not in RESERVED:
                raise CheckpointError(
                    f"{source} is of another model: {model} has no {name!r}, which is in it"
                )
        return self.cut({name: tensors[name] for name in self.shapes})

    def join(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """`tensors` of the model's parameters and of its optimiser, as a file has them."""
        joined: dict[str, np.ndarray] = {}
        for key, array in tensors.items():
            before, name, after = _split(key)
            whole = self._whole_of.get(name, name)
            keys = [before + piece.name + after for piece in self._pieces.get(whole, ())]
            if not keys or not all(k in tensors for k in keys):
                joined[key] = array
            elif key == keys[0]:
                arrays = [tensors[k] for k in keys]
                joined[before + whole + after] = np.concatenate(arrays, -1) if arrays[1:] else array
        return joined

    def cut(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inverse of `join`. Raises CheckpointError for a shape that is not the whole's."""
        cut: dict[str, np.ndarray] = {}
        for key, array in tensors.items():
            before, name, after = _split(key)
            pieces = self._pieces.get(name)
            if pieces is None:
                cut[key] = array
                continue
            if len(pieces) > 1 and array.shape != self.shapes[name]:
                raise CheckpointError(
                    f"{key!r} is {array.shape} in it, {self.shapes[name]} in the model"
                )
            for piece in pieces:
                own = array[..., piece.first : piece.end] if len(pieces) > 1 else array
                cut[before + piece.name + after] = own
        return cut


def _split(key: str) -> tuple[str, str, str]:
    """ "optimizer/conv1/kernel/velocity" as ("optimizer/", "conv1/kernel", "/velocity")."""
    start = f"{PREFIX}/"
    if not key.startswith(start):
        return "", key, ""
    name, slash, slot = key.removeprefix(start).rpartition("/")
    return start, name, slash + slot


def _complete(layers: Iterable[Layer]) -> set[str]:
    """Names of the wholes of which every output is computed by exactly one shard."""
    shards: dict[str, list[tuple[Shard, Layer]]] = {}
    for layer in layers:
        if layer.shard is not None and layer.parameters:
            shards.setdefault(layer.shard.whole, []).append((layer.shard, layer))
    return {whole for whole, found in shards.items() if _make_up(found)}


def _make_up(shards: list[tuple[Shard, Layer]]) -> bool:
    """Whether these shards make up their whole without gap, overlap or disagreement."""
    shards.sort(key=lambda found: found[0].first)
    reached, seen = 0, set()
    for shard, layer in shards:
        lengths = {parameter.shape[-1] for parameter in layer.parameters}
        if shard.first != reached or len(lengths) > 1:
            return False
        reached += lengths.pop()
        others = [(p.name.removeprefix(layer.name), p.shape[:-1]) for p in layer.parameters]
        seen.add((shard.of, *others))
    return len(seen) == 1 and reached == shards[0][0].of

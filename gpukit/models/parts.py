"""Parts of layers in checkpoints: files hold whole parameters, whatever a model splits.

A part's parameter is a slice of the whole's along the last axis (`layers.Part`). A two-column model
has `conv1a/kernel` (11, 11, 3, 48) and `conv1b/kernel` for what a file calls `conv1/kernel`
(11, 11, 3, 96), and an optimiser's `optimizer/conv1/kernel/velocity` goes with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gpukit.errors import CheckpointError
from gpukit.layers.base import Layer
from gpukit.layers.part import Part
from gpukit.optimizers import PREFIX

# First parts of the names of other tensors in a checkpoint.
RESERVED = (PREFIX, "callbacks")


@dataclass(frozen=True)
class _Piece:
    """The parameter `name`, which is [..., first:end] of a whole one."""

    name: str
    first: int
    end: int


class Wholes:
    """The whole parameters of a model, by the names and in the shapes that files have.

    What parts do not make up completely, as in a model of one column alone, keeps its own name.
    """

    def __init__(self, layers: Sequence[Layer]) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._pieces: dict[str, list[_Piece]] = {}
        self._whole_of: dict[str, str] = {}
        complete = _complete(layers)
        for layer in layers:
            for parameter in layer.parameters:
                part, name, shape = layer.part, parameter.name, parameter.shape
                first, end = 0, shape[-1] if shape else 0
                if part is not None and part.whole in complete:
                    name = part.whole + name.removeprefix(layer.name)
                    first, end = part.first, part.first + end
                    shape = (*shape[:-1], part.of)
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
    """Names of the wholes of which every output is computed by exactly one part."""
    parts: dict[str, list[tuple[Part, Layer]]] = {}
    for layer in layers:
        if layer.part is not None and layer.parameters:
            parts.setdefault(layer.part.whole, []).append((layer.part, layer))
    return {whole for whole, found in parts.items() if _make_up(found)}


def _make_up(parts: list[tuple[Part, Layer]]) -> bool:
    """Whether these parts make up their whole without gap, overlap or disagreement."""
    parts.sort(key=lambda found: found[0].first)
    reached, seen = 0, set()
    for part, layer in parts:
        lengths = {parameter.shape[-1] for parameter in layer.parameters}
        if part.first != reached or len(lengths) > 1:
            return False
        reached += lengths.pop()
        others = [(p.name.removeprefix(layer.name), p.shape[:-1]) for p in layer.parameters]
        seen.add((part.of, *others))
    return len(seen) == 1 and reached == parts[0][0].of

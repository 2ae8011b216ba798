"""What a primitive declares beside its definition: random cases, and calls by their sizes.

`gpukit kernels check`, `gpukit race` and the tests of every implementation read declarations and
keep no tables of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gpukit.dispatch.dice import Case, Dice
from gpukit.errors import SettingError

Sizes = tuple[int, ...]
Arrays = list[np.ndarray]

MOST_SIZE = 1 << 20
# Smallest and largest size of a letter, where they are not 1 and MOST_SIZE.
LIMITS = {"pad": (0, MOST_SIZE), "axis": (0, 1), "parameters": (1, 1 << 30)}


@dataclass(frozen=True)
class Form:
    """The sizes by which a call is known: their `letters`, and values of the last if left out.

    `layers`: which layers of a network have such sizes (an attribute of race.tables.Network), after
    N if `batched`.
    """

    name: str
    letters: tuple[str, ...]
    left_out: Sizes = ()
    layers: str = ""
    batched: bool = True

    def __str__(self) -> str:
        return ",".join(self.letters)

    def complete(self, sizes: Sizes) -> Sizes:
        """`sizes` with those left out; SettingError where they are too few or out of range."""
        missing = len(self.letters) - len(sizes)
        if not 0 <= missing <= len(self.left_out):
            raise SettingError(f"{len(sizes)} sizes, where {self} are {len(self.letters)}")
        whole = (*sizes, *self.left_out[len(self.left_out) - missing :])
        for letter, size in zip(self.letters, whole):
            low, high = LIMITS.get(letter, (1, MOST_SIZE))
            if not low <= size <= high:
                raise SettingError(f"{letter} = {size}: use sizes from {low} to {high} for {self}")
        return whole


@dataclass(frozen=True)
class Argument:
    """An array of a call: its shape and dtype, and how it is drawn, given those before it."""

    shape: Sizes
    dtype: Any
    draw: Callable[[np.random.Generator, Arrays], np.ndarray]

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Problem:
    """One call of a primitive, by its sizes: `flop` and `least_flop` operations, by convention and
    without padding; bytes read and written at least; its result a sum of `length` terms of about
    `scale`, or `exact`.

    `scales`: of each result, where they are not alike. `in_place`: the positions of the arguments
    that the call changes, which are then its results. `by_image`: those that hold a batch whose
    images do not meet; `summed`: those over whose images the result is a sum. `moves`: nothing is
    computed, so a result may be a view. `listed`: the primitive takes its arrays in one list.
    """

    arguments: tuple[Argument, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    flop: int = 0
    least_flop: int = 0
    read: int = 0
    written: int = 0
    length: int = 1
    scale: float = 1.0
    scales: tuple[float, ...] = ()
    exact: bool = False
    in_place: tuple[int, ...] = ()
    by_image: tuple[int, ...] = ()
    summed: tuple[int, ...] = ()
    moves: bool = False
    listed: bool = False
    primitive: str = ""
    sizes: Sizes = ()
    layer: str = ""
    count: int = 1
    network: str = ""

    @property
    def form(self) -> str:
        """The sizes as `--layers` takes them."""
        return ",".join(map(str, self.sizes))

    @property
    def bytes(self) -> int:
        """Read and written together, at least."""
        return self.read + self.written

    def arrays(self, seed: int) -> Arrays:
        """The arrays of the call, most of them float32: the same for a seed everywhere."""
        random = np.random.default_rng(seed)
        made: Arrays = []
        for argument in self.arguments:
            made.append(argument.draw(random, made))
        return made

    def passed(self, arrays: Sequence[Any]) -> tuple[Any, ...]:
        """The arrays as the primitive takes them."""
        return (list(arrays),) if self.listed else tuple(arrays)


@dataclass(frozen=True)
class Declaration:
    """What is known of a primitive.

    draw       a random case; `draw_of` an implementation whose limits `draw` hardly reaches,
               `plain` for plug-ins in turn with it: cases like the layers of networks
    form       the sizes by which its calls are known, and the `layers` of a network that have them
    call       the call of such sizes
    usual      sizes of one call as in the middle of a network (of functions of each element any
               shape), and its `usual_settings`; `usual_of` an implementation that does not take it
    unraced    why it is not raced
    torch      PyTorch's function, made from the module and the settings; None: by its name
    skeleton   the files of `gpukit kernels new`, and its C++ `expression`
    """

    draw: Callable[[Dice], Case]
    form: Form
    call: Callable[..., Problem]
    usual: Sizes
    usual_settings: Mapping[str, Any] = field(default_factory=dict)
    layers: str = ""
    draw_of: Mapping[str, Callable[[Dice], Case]] = field(default_factory=dict)
    usual_of: Mapping[str, Sizes] = field(default_factory=dict)
    plain: Callable[[Dice], Case] | None = None
    unraced: str = ""
    torch: Callable[..., Callable[..., Any]] | None = None
    skeleton: str = ""
    expression: str = ""

    def problem(self, sizes: Sizes) -> Problem:
        """The call of these sizes; SettingError or ShapeError where they do not fit."""
        whole = self.form.complete(sizes)
        return replace(self.call(*whole), sizes=whole)

    def usual_call(self, algo: str = "") -> Case:
        """The usual call, of the implementation `algo` if it has its own."""
        made = self.call(*self.usual_of.get(algo, self.usual))
        arrays = list(made.passed(made.arrays(0)))
        return Case(arrays, {**made.settings, **self.usual_settings})

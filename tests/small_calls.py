"""A small call of every primitive, as it is declared: for tests that hold for all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from gpukit.dispatch.primitive import registry
from gpukit.race.problems import declarations

# By form.
SIZES = {
    "conv": (2, 5, 6, 4, 6, 3, 2, 2, 1, 2),
    "pool": (2, 6, 7, 3, 3, 2, 2, 1),
    "map": (3, 4, 5, 6),
    "rows": (5, 11),
    "reduction": (5, 11, 0),
    "dense": (4, 7, 9),
    "matmul": (4, 7, 9),
    "update": (37,),
}
RACED = sorted(declarations())


class Sample(NamedTuple):
    """Arguments of one call: arrays, and settings by name."""

    arrays: tuple[Any, ...]
    settings: dict[str, Any]


def small(primitive: str) -> tuple[int, ...]:
    """Sizes of its small call."""
    return SIZES[registry[primitive].declaration.form.name]


def small_call(primitive: str, dtype: Any, batch: int | None = None) -> Sample:
    """The small call of a primitive; with `batch`, of so many images or rows."""
    sizes = small(primitive)
    declared = registry[primitive].declaration
    if batch is not None:
        sizes = (batch, *sizes[1:])
        if "axis" in declared.form.letters:  # rows: of no rows there is no maximum
            sizes = (*sizes[:-1], 1)
    made = declared.call(*sizes)
    arrays = [a.astype(dtype) if a.dtype.kind == "f" else a for a in made.arrays(1)]
    settings = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in made.settings.items()}
    if "dtype" in settings:
        settings["dtype"] = dtype
    return Sample(made.passed(arrays), settings)


def wide_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings with NumPy float64 scalars, which must not promote float32 arrays."""
    return {k: _wide(v) for k, v in settings.items()}


def _wide(value: Any) -> Any:
    if isinstance(value, tuple) and hasattr(value, "_make"):
        return value._make(map(_wide, value))
    return np.float64(value) if isinstance(value, float) else value

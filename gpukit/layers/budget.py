"""Bounds the values of parameters that are made, where a file says how many there are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from contextvars import ContextVar

from gpukit.core.blocks import within
from gpukit.errors import ShapeError

# Values that parameters may still have, as the one element of a list; None is no limit.
_budget: ContextVar[list[int] | None] = ContextVar("gpukit_parameter_budget", default=None)


def parameter_budget(values: int) -> AbstractContextManager[None]:
    """Within the block, ShapeError before parameters take memory for more than `values` values.

    First values are zeros there: a file is about to overwrite them.
    """
    return within(_budget, [values])


def budget_kept() -> AbstractContextManager[None]:
    """Within the block parameters are made and thrown away: what is left is as before."""
    left = _budget.get()
    return within(_budget, None if left is None else [*left])


def is_bounded() -> bool:
    """Whether a budget holds here."""
    return _budget.get() is not None


def spend(values: int) -> None:
    """Take `values` from the budget, if there is one. Raises ShapeError where it is used up."""
    left = _budget.get()
    if left is not None:
        left[0] -= values
        if left[0] < 0:
            raise ShapeError("needs more values than there are")

"""`with` blocks: objects that are closed at their end, and context variables set within them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self


class Closing:
    """Base of what `with` closes at the end of its block, whatever ends it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Free what it holds."""


@contextmanager
def within(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    """Within the block, `variable` is `value` in this context."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)

"""What a check of a kernel found wrong."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """A problem: in which check, of which target and case, what, and how to see it again."""

    check: str
    target: str
    text: str
    again: str

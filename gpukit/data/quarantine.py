"""The pictures of a run that could not be read, which it does not try again.

The list has a JSON object a line: {"picture": its path, "reason": why}. The pictures stay where
they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from gpukit.core.files import read_at_most, reading

_LONGEST = 64 << 20  # bytes of a list


class Quarantine:
    """Reasons by path. Several feeds may share one."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}
        self.place: Path | None = None
        self._write: Callable[[bytes], None] | None = None

    def keep(self, place: Path, write: Callable[[bytes], None]) -> None:
        """Go on with the list at `place`, if there is one, and `write` it whenever it grows.

        Raises DataError where it is not readable.
        """
        if place.exists():
            with reading(place, way_out="remove it, and bad pictures are tried again"):
                self.reasons = {**self.reasons, **_read(place)}
        self.place, self._write = place, write
        if self.reasons:
            self._save()

    def add(self, path: Path, reason: str) -> None:
        """Enter a picture."""
        if str(path) not in self.reasons:
            self.reasons[str(path)] = reason
            self._save()

    def _save(self) -> None:
        if self._write is not None:
            lines = (json.dumps({"picture": p, "reason": r}) for p, r in self.reasons.items())
            self._write("".join(f"{line}\n" for line in lines).encode())


def _read(place: Path) -> dict[str, str]:
    entries = [json.loads(line) for line in read_at_most(_LONGEST, place).splitlines()]
    return {str(entry["picture"]): str(entry["reason"]) for entry in entries}

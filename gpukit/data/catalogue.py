"""Named data sets, and which of them are on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gpukit.core import settings
from gpukit.data.load import EMBEDDED, missing_files
from gpukit.data.sources import EMBEDDED_NAME, SOURCES


@dataclass(frozen=True)
class Entry:
    """A named set. `missing` are the files that `folder` lacks; empty where the set is there."""

    name: str
    description: str
    folder: Path
    missing: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether `load(name)` has its files."""
        return not self.missing


def catalogue() -> list[Entry]:
    """All named sets, the embedded one first."""
    embedded = Entry(
        EMBEDDED_NAME,
        "18,000 + 10,000 of Fashion-MNIST, 28×28 grey; ships with gpukit",
        EMBEDDED,
        (),
    )
    folder = settings.data_dir()
    return [embedded] + [
        Entry(name, source.description, folder / name, tuple(missing_files(name)))
        for name, source in SOURCES.items()
    ]

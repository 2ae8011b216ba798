"""Primitives by name, and what brings implementations and engines for a kind of device.

The registry of the process has those of `gpukit/__init__.py`, which alone names the rooms above.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from gpukit import _LOADERS, _SEARCHES
from gpukit.errors import DeviceError

P = TypeVar("P")


class Registry(dict[str, P], Generic[P]):
    """Primitives by name; by kind of device, what loads their implementations and runs kernels.

    `loaders` import the implementations of a kind, at its first call. `makers` make the engine of a
    kind, at its first launch; `engines` are those made. `searches` are called with the name of an
    implementation that is not there and may register it. `origin` is the plug-in being loaded,
    `recorded` what it registers: (primitive, implementation).
    """

    def __init__(
        self,
        loaders: Mapping[str, Callable[[], object]] = MappingProxyType({}),
        searches: Sequence[Callable[[str], object]] = (),
    ) -> None:
        super().__init__()
        self.loaders = loaders
        self.searches = searches
        self.loaded: set[str] = set()
        self.makers: dict[str, Callable[[], Any]] = {}
        self.engines: dict[str, Any] = {}
        self.origin = ""
        self.recorded: list[tuple[P, Any]] = []

    def load(self, kind: str) -> None:
        """Have the implementations for devices of `kind` registered, once."""
        if kind not in self.loaded:
            if kind in self.loaders:
                self.loaders[kind]()
            self.loaded.add(kind)

    def engine(self, kind: str) -> Any:
        """The engine that runs kernels on devices of `kind`; DeviceError if there is none."""
        found = self.engines.get(kind)
        if found is None:
            self.load(kind)
            if kind not in self.makers:
                raise DeviceError(f"{kind} runs no CUDA kernels; use cuda or emu")
            found = self.engines[kind] = self.makers[kind]()
        return found

    @contextmanager
    def instead(self, kind: str, engine: Any) -> Iterator[None]:
        """Within the block, launches on devices of `kind` go to `engine`."""
        before = self.engines.get(kind)
        self.engines[kind] = engine
        try:
            yield
        finally:
            del self.engines[kind]
            if before is not None:
                self.engines[kind] = before

    @contextmanager
    def recording(self, origin: str) -> Iterator[list[tuple[P, Any]]]:
        """Within the block, what is registered comes from the plug-in `origin`; the list gets it.

        Functions of gpukit's own modules count as gpukit's.
        """
        before = self.origin, self.recorded
        self.origin, self.recorded = origin, []
        try:
            yield self.recorded
        finally:
            self.origin, self.recorded = before


# That of this process; primitive.py gives it its type.
default: Registry[Any] = Registry(_LOADERS, _SEARCHES)

"""Marks a layer as a shard of a split layer."""

from __future__ import annotations

from dataclasses import dataclass

from gpukit.core.config import show, whole
from gpukit.errors import SettingError


@dataclass(frozen=True)
class Shard:
    """The outputs of a split layer that one shard computes: `first`, `first` + 1 … of `of`.

    `whole` is the name of the layer where it is not split. A shard's parameter is a slice of the
    whole one along the last axis; `groups` are those of the whole kernel.
    """

    whole: str
    first: int
    of: int
    groups: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.whole, str) or not self.whole:
            raise SettingError(f"a shard of {show(self.whole)}: use a layer's name")
        for name, low in (("first", 0), ("of", 1), ("groups", 1)):
            whole(f"{name} of a shard of {show(self.whole)}", getattr(self, name), low=low)

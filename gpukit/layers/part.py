"""What says that a layer is a part of another one that was split."""

from __future__ import annotations

from dataclasses import dataclass

from gpukit.core.config import show, whole
from gpukit.errors import SettingError


@dataclass(frozen=True)
class Part:
    """Which outputs of a whole layer a part of it computes: `first`, `first` + 1 … of `of`.

    `whole` is the name that the layer has where it is not split. A part's parameter is the slice
    of the whole's along the last axis; `groups` are those of the whole's kernel.
    """

    whole: str
    first: int
    of: int
    groups: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.whole, str) or not self.whole:
            raise SettingError(f"a part of {show(self.whole)}: use a layer's name")
        for name, low in (("first", 0), ("of", 1), ("groups", 1)):
            whole(f"{name} of a part of {show(self.whole)}", getattr(self, name), low=low)

"""How exact an implementation is: to how many bits it rounds the factors of its products.

An implementation that rounds says so where it is registered (`on("cuda", precision="tf32", …)`),
and is held to the bounds of that by `gpukit kernels check`, the race and the tests: to float32's
bounds it would fail, and those of TF32 would let a float32 kernel lose products.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpukit.errors import SettingError


@dataclass(frozen=True)
class Precision:
    """`bits` of significand, the leading one counted, that a factor keeps; 0 for all it has.

    Products are summed in float32 whatever they are made of.
    """

    name: str
    bits: int = 0

    @property
    def roundoff(self) -> float:
        """The most by which rounding changes a factor, as a share of it."""
        return 2.0**-self.bits if self.bits else 0.0


FULL = Precision("full")
PRECISIONS = {p.name: p for p in (FULL, Precision("tf32", 11), Precision("fp16", 11),
                                  Precision("bf16", 8))}  # fmt: skip


def precision(name: str) -> Precision:
    """By its name; SettingError for another."""
    if name not in PRECISIONS:
        raise SettingError(f"precision={name!r}: use {', '.join(PRECISIONS)}")
    return PRECISIONS[name]

"""Random augmentation of a picture in each epoch: crop, mirroring, colour.

It is a function of (seed, epoch, index of the picture), independent of the order of pictures and of
the worker that reads them. Source: Krizhevsky, Sutskever, Hinton (2012), section 4.1.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from gpukit.errors import CheckpointError, SettingError

CROPS = ("random", "centre", "ten")

_STREAM = 2


class Crop(NamedTuple):
    """The corner of a crop in the resized square, and whether it is mirrored."""

    top: int
    left: int
    flip: bool


@dataclass(frozen=True)
class ColourNoise:
    """Adds one colour to all pixels of a picture, along the principal components of colours.

    The shift is Σ aᵢ·σᵢ·pᵢ, aᵢ normal with mean 0 and deviation `strength`, pᵢ (rows of `axes`,
    3×3) the unit eigenvectors of the covariance of the training pixels, σᵢ (`deviations`, in grey
    levels of 255) the square roots of its eigenvalues. The paper prints eigenvalues, whose size
    depends on the unit of pixels; its program used the deviations, which do not.
    """

    deviations: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    strength: float = 0.1

    @classmethod
    def from_covariance(cls, covariance: NDArray[np.float64], strength: float = 0.1) -> Self:
        """Of the covariance (3, 3) of pixels, strongest component first."""
        values, vectors = np.linalg.eigh(covariance)
        axes = vectors.T[::-1].copy()
        # An eigenvector's sign is arbitrary: the largest component is made positive.
        largest = axes[np.arange(len(axes)), np.abs(axes).argmax(axis=1)]
        axes *= np.sign(largest)[:, np.newaxis]
        deviations = np.sqrt(np.maximum(values[::-1], 0))
        return cls(tuple(deviations.tolist()), tuple(map(tuple, axes.tolist())), strength)

    def shift(self, normals: tuple[float, ...]) -> tuple[float, ...]:
        """What is added to each channel, for three draws of mean 0 and deviation 1."""
        amounts = [self.strength * n * d for n, d in zip(normals, self.deviations, strict=True)]
        return tuple(
            sum(amount * axis[channel] for amount, axis in zip(amounts, self.axes, strict=True))
            for channel in range(len(self.axes))
        )


@dataclass(frozen=True)
class Augment:
    """How a network's input is cut from squares of pictures.

    `crop` is "random", "centre", or "ten" (corners and centre, and the same mirrored); `flip`
    mirrors every other picture by chance; `colour` adds noise along the colours' axes.
    """

    crop: str = "random"
    flip: bool = True
    colour: ColourNoise | None = None

    def __post_init__(self) -> None:
        if self.crop not in CROPS:
            raise SettingError(f"crop {self.crop!r}: use {', '.join(CROPS)}")
        if self.crop == "ten" and self.flip:
            raise SettingError("crop 'ten' has each crop mirrored too; use flip=False with it")

    @property
    def views(self) -> int:
        """Crops of each picture."""
        return 10 if self.crop == "ten" else 1

    @property
    def random(self) -> bool:
        """Whether epochs differ."""
        return self.crop == "random" or self.flip or self.colour is not None

    def draw(
        self, seed: int, epoch: int, index: int, square: int, size: int
    ) -> tuple[list[Crop], tuple[float, ...]]:
        """The crops, size×size, of a square×square picture, and the shift of its colours."""
        room = square - size
        if not self.random:
            return self._fixed(room), (0.0, 0.0, 0.0)
        sequence = np.random.SeedSequence(seed, spawn_key=(_STREAM, epoch, index))
        words = np.random.PCG64(sequence).random_raw(7).tolist()
        if self.crop == "random":
            top, left = ((word * (room + 1)) >> 64 for word in words[:2])
            crops = [Crop(top, left, False)]
        else:
            crops = self._fixed(room)
        if self.flip and words[2] >> 63:
            crops = [crop._replace(flip=True) for crop in crops]
        if self.colour is None:
            return crops, (0.0, 0.0, 0.0)
        return crops, self.colour.shift(_normals(words[3:]))

    def _fixed(self, room: int) -> list[Crop]:
        middle = Crop(room // 2, room // 2, False)
        if self.crop != "ten":
            return [middle]
        corners = [Crop(top, left, False) for top in (0, room) for left in (0, room)]
        return [crop._replace(flip=flip) for flip in (False, True) for crop in (*corners, middle)]

    def config(self) -> dict[str, Any]:
        """The settings in types that JSON has; `from_config` takes them back exactly."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The inverse of `config`; raises `CheckpointError` for anything else."""
        try:
            colour = config["colour"]
            if colour is not None:
                axes = tuple(tuple(float(v) for v in axis) for axis in colour["axes"])
                deviations = tuple(float(v) for v in colour["deviations"])
                if [len(axis) for axis in axes] != [3] * 3 or len(deviations) != 3:
                    raise ValueError("three axes of three channels are needed")
                colour = ColourNoise(deviations, axes, float(colour["strength"]))
            return cls(config["crop"], bool(config["flip"]), colour)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"the augmentation is not readable ({error!r})") from None


def _normals(words: list[int]) -> tuple[float, float, float]:
    """Three normal numbers of four 64-bit words, by Box and Muller's transform."""
    units = [(word >> 11) * 2.0**-53 for word in words]
    radius = [math.sqrt(-2 * math.log(1 - u)) for u in units[:2]]
    angle = [2 * math.pi * u for u in units[2:4]]
    return (
        radius[0] * math.cos(angle[0]),
        radius[0] * math.sin(angle[0]),
        radius[1] * math.cos(angle[1]),
    )

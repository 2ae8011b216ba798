"""Turns uint8 images into the numbers that a network is fed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.errors import DTypeError, SettingError, ShapeError


@dataclass(frozen=True)
class Normalise:
    """float32 y = (x·scale - mean) / std of uint8 images x; mean and std are one a channel.

    The default maps 0 … 255 to 0 … 1. It is worked out as one subtraction and one multiplication
    (see `affine`) in float32, as on any device, so the last bit can differ from the formula's.
    """

    scale: float = 1 / 255
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is not None:
                values = tuple(float(value) for value in values)
                object.__setattr__(self, name, values)
                if not np.isfinite(values).all() or (name == "std" and min(values) <= 0):
                    raise SettingError(f"Normalise: {name}={values}: finite, std above 0")
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise SettingError(f"Normalise: scale={self.scale}: a finite number above 0")
        if (self.mean is None) != (self.std is None) or len(self.mean or ()) != len(self.std or ()):
            raise SettingError("Normalise: give mean and std together, one of each a channel")

    @classmethod
    def from_images(cls, images: NDArray[np.uint8]) -> Normalise:
        """Mean 0 and standard deviation 1 of each channel over `images`, uint8 (N, H, W, C).

        Exact sums, by counting the 256 values. A channel that never varies is only shifted.
        """
        _check(images)
        if images.size == 0:
            raise ShapeError(f"Normalise: images {images.shape}: at least one is needed")
        scale = cls.scale
        values = np.arange(256) * scale
        means, deviations = [], []
        for channel in range(images.shape[-1]):
            counts = np.zeros(256, np.int64)
            # In blocks, since counting widens each pixel to 8 bytes.
            for start in range(0, len(images), 4096):
                block = images[start : start + 4096, ..., channel]
                counts += np.bincount(block.reshape(-1), minlength=256)
            mean = float(counts @ values / counts.sum())
            variance = float(counts @ (values - mean) ** 2 / counts.sum())
            means.append(mean)
            deviations.append(variance**0.5 or 1.0)
        return cls(scale, tuple(means), tuple(deviations))

    @classmethod
    def centred(cls, mean: Sequence[float]) -> Normalise:
        """x - mean, with `mean` in grey levels: pixels as they are, around 0."""
        return cls(1.0, tuple(mean), (1.0,) * len(mean))

    def __call__(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 of the shape of `images`, uint8 (..., C); `DTypeError` for other elements."""
        _check(images)
        if self.mean is None or self.std is None:
            return np.multiply(images, np.float32(self.scale), dtype=np.float32)
        mean, scale = (a.astype(np.float32) for a in self.affine(images.shape[-1]))
        if mean.size > 1 and images.ndim > 1:
            # (..., W, C) · (W, C): rows of W·C are long inner loops, where C alone is 3.
            mean, scale = (np.tile(a, images.shape[-2]) for a in (mean, scale))
            rows = images.reshape(*images.shape[:-2], mean.size)
        else:
            rows = images
        y = np.subtract(rows, mean, dtype=np.float32)
        y *= scale
        return y.reshape(images.shape)

    def affine(self, channels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(mean, scale), both (C,), of the same map written as y = (x - mean)·scale.

        What the primitive `normalise_images` takes; `ShapeError` for another number of channels.
        """
        if self.mean is None or self.std is None:
            return np.zeros(channels), np.full(channels, self.scale)
        if len(self.mean) not in (1, channels):
            raise ShapeError(
                f"Normalise: mean of {len(self.mean)} channels, images of {channels} channels"
            )
        scale = np.broadcast_to(self.scale / np.array(self.std), channels)
        return np.broadcast_to(np.array(self.mean) / self.scale, channels).copy(), scale.copy()

    def config(self) -> dict[str, Any]:
        """The settings, in types that JSON has; `from_config` takes them back exactly."""
        return asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Normalise:
        """The inverse of `config`."""
        return cls(config.get("scale", cls.scale), config.get("mean"), config.get("std"))


def _check(images: NDArray[Any]) -> None:
    if images.dtype != np.uint8:
        raise DTypeError(f"Normalise: images are {images.dtype}; uint8 from 0 to 255 is needed")

"""Functions for `Feed.map` that mix each sample of a batch with another one, and their targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpukit.core.config import number
from gpukit.errors import DataError

Mixed = tuple[NDArray[Any], NDArray[Any]]
Function = Callable[[NDArray[Any], NDArray[Any], np.random.Generator], Mixed]


def mixup(alpha: float = 0.2) -> Function:
    """Samples and targets λ·a + (1 − λ)·b, b another sample of the batch, λ from Beta(α, α).

    Targets are one-hot vectors (N, classes) or other floats. Zhang et al., 2018.
    """
    number("alpha", alpha, above=0)

    def mix(x: NDArray[Any], y: NDArray[Any], rng: np.random.Generator) -> Mixed:
        _check("mixup", y)
        share = rng.beta(alpha, alpha, len(x))
        other = rng.permutation(len(x))
        return _blend(x, other, share), _blend(y, other, share)

    return mix


def cutmix(alpha: float = 1.0) -> Function:
    """Images with a rectangle of another one of the batch in them, targets in proportion of areas.

    The rectangle has the share 1 − λ of an image's area before it is cut at the borders, λ from
    Beta(α, α); its centre is drawn evenly. Targets as for `mixup`. Yun et al., 2019.
    """
    number("alpha", alpha, above=0)

    def mix(x: NDArray[Any], y: NDArray[Any], rng: np.random.Generator) -> Mixed:
        _check("cutmix", y)
        if x.ndim != 4:
            raise DataError(f"cutmix: x has shape {x.shape}; it takes images (N, H, W, C)")
        side = np.sqrt(1 - rng.beta(alpha, alpha, len(x)))
        centre = rng.random((len(x), 2))
        other = rng.permutation(len(x))
        size = np.array(x.shape[1:3])
        first, last = (
            np.rint(np.clip(centre + sign * side[:, np.newaxis] / 2, 0, 1) * size).astype(int)
            for sign in (-1, 1)
        )
        mixed = x.copy()
        for n, ((top, left), (bottom, right)) in enumerate(zip(first, last, strict=True)):
            mixed[n, top:bottom, left:right] = x[other[n], top:bottom, left:right]
        share = 1 - np.prod(last - first, axis=1) / size.prod()
        return mixed, _blend(y, other, share)

    return mix


def _blend(values: NDArray[Any], other: NDArray[np.intp], share: NDArray[np.float64]) -> Any:
    dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float32)
    shares = share.reshape(-1, *(1,) * (values.ndim - 1)).astype(dtype)
    return (values * shares + values[other] * (1 - shares)).astype(dtype)


def _check(name: str, y: NDArray[Any]) -> None:
    if y.dtype.kind != "f":
        raise DataError(
            f"{name}: targets are {y.dtype} of shape {y.shape}, which cannot be mixed; use one-hot "
            "vectors, as utils.to_categorical or label_mode='categorical' make them"
        )

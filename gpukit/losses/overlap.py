"""Losses of the overlap of regions, for segmentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gpukit import ops
from gpukit.core.config import axes, number
from gpukit.losses.base import EPSILON, Loss, beside, mean_of_sample, raw, same_shape

_MEAN = "sum_over_batch_size"
Axis = int | Sequence[int] | None


class _Overlap(Loss):
    """Base of losses of sums over `axis`, by default all: then they are of the whole batch."""

    axis: Any

    def per_sample(self, y_true: Any, y_pred: Any) -> Any:
        t = beside(same_shape(self.name, raw(y_true), y_pred), y_pred)
        losses = ops.subtract(1.0, self.overlap(t, y_pred))
        count = y_pred.shape[0]
        summed = _summed_axes(self.axis, len(y_pred.shape))
        if 0 not in summed and losses.shape:
            return mean_of_sample(losses)
        return ops.broadcast_to(ops.mean(losses), shape=(count,))  # each sample has its share

    def overlap(self, t: Any, y: Any) -> Any:
        """1 for equal regions, 0 for disjoint ones."""
        raise NotImplementedError


def _summed_axes(axis: Any, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    return tuple(a % ndim for a in ((axis,) if isinstance(axis, int) else axis))


class Dice(_Overlap):
    """1 - 2·Σty / (Σt + Σy), over `axis`: (1, 2, 3) is one for each picture. Dice, 1945."""

    def __init__(
        self,
        reduction: str | None = _MEAN,
        name: str = "dice",
        axis: Axis = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.axis = axes("Dice's axis", axis)

    def overlap(self, t: Any, y: Any) -> Any:
        both = ops.sum(ops.multiply(y, t), axis=self.axis)
        sizes = ops.sum(ops.add(y, t), axis=self.axis)
        return ops.divide(ops.multiply(both, 2.0), ops.add(sizes, EPSILON))


class Tversky(_Overlap):
    """1 - Σty / (Σty + alpha·Σt(1 - y) + beta·Σ(1 - t)y), over `axis` as in Dice.

    As Keras computes it: `alpha` weights what is missed, `beta` what is found in excess. Tversky,
    1977; Salehi et al., 2017.
    """

    def __init__(
        self,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str | None = _MEAN,
        name: str = "tversky",
        axis: Axis = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(reduction, name, dtype)
        self.alpha = number("Tversky's alpha", alpha, low=0)
        self.beta = number("Tversky's beta", beta, low=0)
        self.axis = axes("Tversky's axis", axis)

    def overlap(self, t: Any, y: Any) -> Any:
        both = ops.sum(ops.multiply(y, t), axis=self.axis)
        missed = ops.sum(ops.multiply(ops.subtract(1.0, y), t), axis=self.axis)
        excess = ops.sum(ops.multiply(y, 1 - t), axis=self.axis)
        wrong = ops.add(ops.multiply(missed, self.alpha), ops.multiply(excess, self.beta))
        return ops.divide(both, ops.add(ops.add(both, wrong), EPSILON))

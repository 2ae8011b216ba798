"""Losses: one number a sample, and their mean over the batch, which training minimises.

Labels may be arrays of the host; they are brought to where the predictions are. Predictions are
arrays or Tensors (N, …), results likewise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpukit.core.config import Family
from gpukit.losses.base import Function, Loss, losses_of, mismatch, place, reduced, weighted
from gpukit.losses.entropy import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    KLDivergence,
    Poisson,
    SparseCategoricalCrossentropy,
)
from gpukit.losses.functions import (
    FUNCTIONS,
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    cosine_similarity,
    dice,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
    tversky,
)
from gpukit.losses.margin import (
    CategoricalHinge,
    Hinge,
    SquaredHinge,
)
from gpukit.losses.overlap import (
    Dice,
    Tversky,
)
from gpukit.losses.regression import (
    CosineSimilarity,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
)


def _wrap(function: Callable[[Any, Any], Any]) -> Loss:
    made = FUNCTIONS.get(function)
    return Function(function) if made is None else made()


_family = Family[Loss]("loss", Loss, wrap=_wrap)
_family.add(
    *FUNCTIONS.values(),
    mse=MeanSquaredError,
    mae=MeanAbsoluteError,
    mape=MeanAbsolutePercentageError,
    msle=MeanSquaredLogarithmicError,
    kld=KLDivergence,
    kl_divergence=KLDivergence,
    huber_loss=Huber,
    logcosh=LogCosh,
    bce=BinaryCrossentropy,
)


def is_name(name: str) -> bool:
    """Whether `get` knows this name."""
    known = name in _family.classes or name.lower() in _family.aliases
    return known or _family.has_own(name)


get = _family.get
from_config = _family.from_config
register = _family.register

__all__ = [
    "FUNCTIONS",
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
    "Function",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Poisson",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "dice",
    "from_config",
    "get",
    "hinge",
    "huber",
    "is_name",
    "kl_divergence",
    "log_cosh",
    "losses_of",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "mismatch",
    "place",
    "poisson",
    "reduced",
    "register",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
    "weighted",
]

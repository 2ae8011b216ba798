"""Metrics: figures that training reports beside the loss, as sums over batches.

Nothing is recorded on the tape. Sums are kept on the host in float64, so that figures of an epoch
are exact over batches of unequal size. A function of (y_true, y_pred) is a metric, its mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from gpukit import losses
from gpukit.core.config import Family, show, snake_case
from gpukit.errors import SettingError
from gpukit.metrics.accuracy import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKAccuracy,
    TopKCategoricalAccuracy,
)
from gpukit.metrics.base import (
    Metric,
    Sums,
    add_sums,
    figure_of,
    fresh,
    keep,
    load_state,
    reset,
    state_of,
    update_of,
)
from gpukit.metrics.confusion import (
    AUC,
    F1Score,
    FalseNegatives,
    FalsePositives,
    FBetaScore,
    Precision,
    Recall,
    TrueNegatives,
    TruePositives,
)
from gpukit.metrics.means import (
    LossMetric,
    Mean,
    MeanMetricWrapper,
    RootMeanSquaredError,
    Sum,
)
from gpukit.metrics.of_losses import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    CosineSimilarity,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from gpukit.metrics.regions import (
    BinaryIoU,
    ConfusionMatrix,
    IoU,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
)

_COMMON = ("accuracy", "precision", "recall", "auc", "f1_score", "mse")
RESERVED = ("epoch", "loss", "lr", "seconds")  # keys of logs that are no metric's

_family = Family[Metric]("metric", Metric, wrap=MeanMetricWrapper)
_family.add(
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    SparseCategoricalAccuracy,
    TopKAccuracy,
    TopKCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    LossMetric,
    MeanMetricWrapper,
    Mean,
    Sum,
    RootMeanSquaredError,
    Precision,
    Recall,
    TruePositives,
    FalsePositives,
    FalseNegatives,
    TrueNegatives,
    FBetaScore,
    F1Score,
    AUC,
    ConfusionMatrix,
    IoU,
    MeanIoU,
    OneHotIoU,
    OneHotMeanIoU,
    BinaryIoU,
    MeanSquaredError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredLogarithmicError,
    Poisson,
    KLDivergence,
    Hinge,
    SquaredHinge,
    CategoricalHinge,
    LogCoshError,
    CosineSimilarity,
    BinaryCrossentropy,
    CategoricalCrossentropy,
    SparseCategoricalCrossentropy,
    kl_divergence=KLDivergence,
    acc=Accuracy,
    top_k_categorical_accuracy=TopKCategoricalAccuracy,
    sparse_top_k_categorical_accuracy=SparseTopKCategoricalAccuracy,
    binary_iou=BinaryIoU,
    f1_score=F1Score,
    fbeta_score=FBetaScore,
    rmse=RootMeanSquaredError,
)


def get(spec: Any) -> Metric:
    """The metric meant by an object, a name ("accuracy", "top_5_accuracy", "mse"), a loss or a
    function.

    One that is given by a name has that name: "acc" is `acc` in the logs.
    """
    if isinstance(spec, str):
        metric = _by_name(spec)
        metric.name = spec
        return metric
    if isinstance(spec, losses.Loss) or (callable(spec) and spec in losses.FUNCTIONS):
        return LossMetric(spec)
    return _family.get(spec)


def _by_name(spec: str) -> Metric:
    if top := re.fullmatch(r"top_(\d+)(_accuracy)?", spec.lower()):
        return TopKAccuracy(int(top[1]))
    known = spec in _family.classes or spec.lower() in _family.aliases or _family.has_own(spec)
    if not known and losses.is_name(spec):
        return LossMetric(spec)
    if not known:
        near = get_close_matches(spec.lower(), _family.aliases, 3) or _COMMON
        raise SettingError(
            f"unknown metric {show(spec)}; use one of {', '.join(near)}, top_5_accuracy (any "
            "number), or the name of a loss; gpukit.metrics has them all"
        )
    try:
        return _family.get(spec)
    except TypeError as error:
        raise SettingError(
            f"the metric {show(spec)} needs arguments ({error}); pass an object of gpukit.metrics"
        ) from None


def keyed(metrics: Sequence[Metric]) -> dict[str, Metric]:
    """`metrics` by their keys in logs: their names, of equal ones `name`, `name_1`, `name_2` …

    Raises SettingError for a name that logs have for something else.
    """
    found: dict[str, Metric] = {}
    for metric in metrics:
        name = key = metric.name or snake_case(type(metric).__name__)
        if name in RESERVED or name.startswith("val_"):
            raise SettingError(
                f"a metric is named {name!r}, which logs have for another figure; give it another "
                "name="
            )
        number = 0
        while key in found:
            number += 1
            key = f"{name}_{number}"
        found[key] = metric
    return found


from_config = _family.from_config
register = _family.register

__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "ConfusionMatrix",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "Hinge",
    "IoU",
    "KLDivergence",
    "LogCoshError",
    "LossMetric",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanIoU",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "OneHotIoU",
    "OneHotMeanIoU",
    "Poisson",
    "Precision",
    "Recall",
    "RootMeanSquaredError",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SquaredHinge",
    "Sum",
    "Sums",
    "TopKAccuracy",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "add_sums",
    "figure_of",
    "fresh",
    "from_config",
    "get",
    "keep",
    "keyed",
    "load_state",
    "register",
    "reset",
    "state_of",
    "update_of",
]

"""Metrics with state over an epoch: exact for any cut into batches, against naive float64 loops
and PyTorch, in `fit` and `evaluate`, and as users write their own."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from gpukit import callbacks, get_device, losses, metrics, ops
from gpukit.errors import DataError, SettingError, ShapeError
from gpukit.layers import Dense
from gpukit.models import Sequential

N, K = 60, 4
RNG = np.random.default_rng(5)
SCORES = RNG.random((N, K)).astype(np.float32).round(2)
HOT = (RNG.random((N, K)) < 0.4).astype(np.float32)
NUMBERS = RNG.integers(0, K, N)
WEIGHTS = RNG.random(N) * 2


def divide(a, b):
    return a / b if b else 0.0


def counts(t, hot=HOT, scores=SCORES, weights=None, column=None):
    """tp, fp, fn, tn by a plain loop."""
    found = dict.fromkeys(("tp", "fp", "fn", "tn"), 0.0)
    for n in range(len(scores)):
        for k in range(scores.shape[1]):
            if column in (None, k):
                chosen, true = scores[n, k] > np.float32(t), hot[n, k] > 0
                key = ("t" if chosen == true else "f") + ("p" if chosen else "n")
                found[key] += 1 if weights is None else weights[n]
    return found


def over_batches(metric, y, p, cuts, weights=None):
    """The figure of sums over batches, and of the object's own state: they must agree."""
    sums = None
    metric.reset_state()
    for first, end in zip([0, *cuts], [*cuts, len(p)]):
        w = () if weights is None else (weights[first:end],)
        sums = metrics.add_sums(sums, metric.update(y[first:end], p[first:end], *w))
        metric.update_state(y[first:end], p[first:end], *w)
    figure = metric.figure(sums)
    np.testing.assert_array_equal(figure, metric.result())
    again = metrics.get(json.loads(json.dumps(metric.get_config())))
    w = () if weights is None else (weights,)
    np.testing.assert_allclose(again.figure(again.update(y, p, *w)), figure, rtol=1e-12)
    return figure


def roc(ts, c, method="interpolation"):
    area = 0.0
    for a, b in pairwise(ts):
        left, right = c(a), c(b)
        y = [divide(q["tp"], q["tp"] + q["fn"]) for q in (left, right)]
        x = [divide(q["fp"], q["fp"] + q["tn"]) for q in (left, right)]
        height = {"interpolation": sum(y) / 2, "minoring": min(y), "majoring": max(y)}[method]
        area += (x[0] - x[1]) * height
    return area


def precision_recall(ts, c):
    """Keras's interpolate_pr_auc."""
    area = 0.0
    for a, b in pairwise(ts):
        left, right = c(a), c(b)
        p0, p1 = left["tp"] + left["fp"], right["tp"] + right["fp"]
        gained = left["tp"] - right["tp"]
        slope = divide(gained, p0 - p1)
        intercept = right["tp"] - slope * p1
        log = np.log(p0 / p1) if p0 > 0 and p1 > 0 else 0.0
        area += divide(slope * (gained + intercept * log), right["tp"] + right["fn"])
    return area


def thresholds(n):
    return [-1e-7, *((i + 1) / (n - 1) for i in range(n - 2)), 1 + 1e-7]


def f_scores(beta, weights=None, threshold=0.5):
    scores = []
    for k in range(K):
        c = counts(threshold, weights=weights, column=k)
        p, r = divide(c["tp"], c["tp"] + c["fp"]), divide(c["tp"], c["tp"] + c["fn"])
        scores.append((1 + beta**2) * divide(p * r, beta**2 * p + r))
    return np.array(scores)


def precision(t, weights):
    c = counts(t, weights=weights)
    return divide(c["tp"], c["tp"] + c["fp"])


def micro(weights):
    c = counts(0.5, weights=weights)
    return divide(2 * c["tp"], 2 * c["tp"] + c["fp"] + c["fn"])


def among_two():
    return [np.sum(s > s[h.argmax()]) < 2 for s, h in zip(SCORES, HOT)]


def support(weights):
    return (np.ones(N) if weights is None else weights) @ HOT


CASES = [
    (metrics.Precision(), lambda w: precision(0.5, w)),
    (metrics.Recall(), lambda w: divide((c := counts(0.5, weights=w))["tp"], c["tp"] + c["fn"])),
    (
        metrics.Precision([0.8, 0.2, 1.0]),
        lambda w: [precision(t, w) for t in (0.8, 0.2, 1.0)],
    ),
    (
        metrics.Recall(0.3, class_id=2),
        lambda w: divide((c := counts(0.3, weights=w, column=2))["tp"], c["tp"] + c["fn"]),
    ),
    (metrics.TruePositives(), lambda w: counts(0.5, weights=w)["tp"]),
    (metrics.FalsePositives(0.1), lambda w: counts(0.1, weights=w)["fp"]),
    (metrics.FalseNegatives(), lambda w: counts(0.5, weights=w)["fn"]),
    (metrics.TrueNegatives(), lambda w: counts(0.5, weights=w)["tn"]),
    (metrics.F1Score(threshold=0.5), lambda w: f_scores(1, w)),
    (metrics.F1Score("macro", 0.5), lambda w: f_scores(1, w).mean()),
    (metrics.F1Score("micro", 0.5), micro),
    (
        metrics.F1Score("weighted", 0.5),
        lambda w: (f_scores(1, w) * support(w)).sum() / support(w).sum(),
    ),
    (metrics.FBetaScore(beta=2.0, threshold=0.5), lambda w: f_scores(2, w)),
    (metrics.AUC(20), lambda w: roc(thresholds(20), lambda t: counts(t, weights=w))),
    (
        metrics.AUC(20, summation_method="majoring"),
        lambda w: roc(thresholds(20), lambda t: counts(t, weights=w), "majoring"),
    ),
    (
        metrics.AUC(20, "PR"),
        lambda w: precision_recall(thresholds(20), lambda t: counts(t, weights=w)),
    ),
    (
        metrics.AUC(thresholds=[0.7, 0.1]),
        lambda w: roc([-1e-7, 0.1, 0.7, 1 + 1e-7], lambda t: counts(t, weights=w)),
    ),
    (
        metrics.AUC(10, multi_label=True, label_weights=[1, 2, 0, 1]),
        lambda w: np.average(
            [roc(thresholds(10), lambda t, k=k: counts(t, weights=w, column=k)) for k in range(K)],
            weights=[1, 2, 0, 1],
        ),
    ),
    (
        metrics.BinaryAccuracy(threshold=0.3),
        lambda w: np.average(((np.float32(0.3) < SCORES) == HOT).mean(1), weights=w),
    ),
    (
        metrics.RootMeanSquaredError(),
        lambda w: np.sqrt(np.average(((SCORES - HOT).astype(float) ** 2).mean(1), weights=w)),
    ),
    (
        metrics.CategoricalAccuracy(),
        lambda w: np.average(SCORES.argmax(1) == HOT.argmax(1), weights=w),
    ),
    (metrics.TopKCategoricalAccuracy(2), lambda w: np.average(among_two(), weights=w)),
]


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize(("metric", "expected"), CASES, ids=lambda c: getattr(c, "name", ""))
def test_exact_for_any_cut(metric, expected, weights):
    for cuts in ([], [1, 2, 40], [30]):
        found = over_batches(metric, HOT, SCORES, cuts, weights)
        np.testing.assert_allclose(found, expected(weights), rtol=1e-6)


def test_precision_of_the_k_largest():
    hot = np.eye(K)[NUMBERS]
    top = np.argsort(-SCORES, axis=1, kind="stable")[:, :2]
    hits = (top == NUMBERS[:, None]).sum()
    assert metrics.Precision(top_k=2)(hot, SCORES) == hits / (2 * N)
    assert metrics.Recall(top_k=2)(NUMBERS, SCORES) == hits / N, "class numbers are one-hot labels"


def test_f1_without_threshold_takes_the_largest():
    scores = RNG.random((N, K))
    best = np.eye(K)[scores.argmax(1)]
    expected = 2 * (best * HOT).sum(0) / (best.sum(0) + HOT.sum(0))
    np.testing.assert_allclose(metrics.F1Score()(HOT, scores), expected)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_confusion_matrix_and_intersection_over_union(weights):
    w = np.ones(N) if weights is None else weights
    predicted = SCORES.argmax(1)
    matrix = np.zeros((K, K))
    for n in range(N):
        matrix[NUMBERS[n], predicted[n]] += w[n]
    for y in (NUMBERS, NUMBERS[:, None], np.eye(K)[NUMBERS]):
        found = over_batches(metrics.ConfusionMatrix(K), y, SCORES, [7, 50], weights)
        np.testing.assert_allclose(found, matrix)
    iou = [matrix[k, k] / (matrix[k].sum() + matrix[:, k].sum() - matrix[k, k]) for k in range(K)]
    one_hot = np.eye(K)[NUMBERS]
    for metric, y, p, expected in (
        (metrics.MeanIoU(K, sparse_y_pred=False), NUMBERS, SCORES, np.mean(iou)),
        (metrics.MeanIoU(K), NUMBERS, predicted, np.mean(iou)),
        (metrics.MeanIoU(K + 3), NUMBERS, predicted, np.mean(iou)),  # classes that never occur
        (metrics.OneHotMeanIoU(K), one_hot, SCORES, np.mean(iou)),
        (metrics.IoU(K, [0, 2]), NUMBERS, predicted, (iou[0] + iou[2]) / 2),
        (metrics.OneHotIoU(K, [1]), one_hot, SCORES, iou[1]),
    ):
        found = over_batches(metric, y, p, [11], weights)
        assert found == pytest.approx(expected)


def test_ignored_pixels_and_binary_iou():
    y = np.array([[[0, 255], [1, 1]]])
    p = np.array([[[0, 1], [0, 1]]])
    assert metrics.MeanIoU(2, ignore_class=255)(y, p) == pytest.approx((1 / 2 + 1 / 2) / 2)
    with pytest.raises(DataError, match="label 255 is out of range"):
        metrics.MeanIoU(2)(y, p)
    found = metrics.BinaryIoU([1], threshold=0.5)([0, 1, 1], [0.5, 0.6, 0.1])
    assert found == pytest.approx(1 / 3), "0.5 is class 1, as in Keras"


def test_accuracy_of_pixels():
    scores = RNG.random((3, 5, 4, K))
    labels = RNG.integers(0, K, (3, 5, 4))
    expected = (scores.argmax(-1) == labels).mean()
    for y in (labels, labels[..., None], np.eye(K)[labels]):
        for metric in (metrics.Accuracy(), metrics.SparseCategoricalAccuracy()):
            assert metric(y, scores) == pytest.approx(expected)
    mask = RNG.integers(0, 2, (3, 5, 4, 1))
    assert metrics.Accuracy()(mask, scores[..., :1]) == np.mean((scores[..., :1] > 0.5) == mask)


def test_areas_agree_with_ranks():
    """With a threshold between all scores the ROC area is the share of pairs in order."""
    y, p = HOT[:, 0], np.linspace(0.001, 0.999, N)[RNG.permutation(N)]
    between = sorted(((a + b) / 2) for a, b in pairwise(sorted(p)))
    pairs = [(a > b) for a in p[y == 1] for b in p[y == 0]]
    assert metrics.AUC(thresholds=between)(y, p) == pytest.approx(np.mean(pairs))
    logits = np.log(p / (1 - p))
    found = metrics.AUC(thresholds=between, from_logits=True)(y, logits)
    assert found == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda: metrics.Precision(1.5), SettingError, "thresholds=1.5"),
        (lambda: metrics.Precision(class_id=4)(HOT, SCORES), ShapeError, "use 0 to 3"),
        (lambda: metrics.Precision()(HOT[:3], SCORES), ShapeError, "do not fit"),
        (lambda: metrics.F1Score("mean"), SettingError, "use micro or macro or weighted"),
        (lambda: metrics.F1Score()(HOT[:, :1], SCORES[:, :1]), SettingError, "threshold=0.5"),
        (lambda: metrics.AUC(curve="PRGAIN"), SettingError, "curve='PRGAIN': use ROC or PR"),
        (lambda: metrics.AUC()(HOT, SCORES * 3), DataError, "from_logits=True"),
        (lambda: metrics.AUC(num_labels=3), SettingError, "multi_label"),
        (lambda: metrics.MeanIoU(K)(NUMBERS, SCORES), ShapeError, "sparse_y_pred=False"),
        (lambda: metrics.IoU(2, [2]), SettingError, "use 0 to 1"),
        (lambda: metrics.MeanIoU(2, axis=1), SettingError, "axis=1"),
        (lambda: metrics.get("mean_iou_"), SettingError, "unknown metric"),
        (lambda: metrics.get("MeanIoU"), SettingError, "needs arguments"),
        (lambda: metrics.Precision(dtype="float32"), SettingError, "leave dtype out"),
        (lambda: metrics.ConfusionMatrix(3)(NUMBERS, SCORES), ShapeError, "3 outputs"),
        (lambda: metrics.Recall()(HOT, SCORES, [1.0]), ShapeError, "one weight a sample"),
    ],
)
def test_what_is_refused(call, error, part):
    with pytest.raises(error) as caught:
        call()
    assert part in str(caught.value) and "\n" not in str(caught.value)


X = RNG.normal(size=(N, 3)).astype(np.float32)


def compiled(chosen, **settings):
    made = Sequential([Dense(K, activation="sigmoid", input_shape=(3,))], seed=3, **settings)
    made.compile("sgd", "mse", chosen)
    return made


def test_fit_and_evaluate_give_the_figures_of_whole_epochs():
    chosen = [metrics.Precision(), metrics.AUC(name="area"), metrics.F1Score("macro", 0.5),
              metrics.F1Score(threshold=0.5, name="each"), metrics.ConfusionMatrix(K)]  # fmt: skip
    made = compiled(chosen)
    history = made.fit(X, HOT, epochs=2, batch_size=7, validation_data=(X, HOT), verbose=0).history
    p = made.predict(X)
    for key, metric in made._metrics.items():
        expected = np.asarray(metric(HOT, p)).tolist()
        for size in (N, 8, 1):
            figures = made.evaluate(X, HOT, batch_size=size, return_dict=True)
            np.testing.assert_allclose(figures[key], expected, rtol=1e-6)
        np.testing.assert_allclose(history[f"val_{key}"][1], expected, rtol=1e-6)
        assert np.shape(history[key][0]) == np.shape(expected)


def test_micro_batches_and_computing_twice_count_once():
    for given in ({"accumulate": 3}, {"replay": 1}):
        for metric in (metrics.Precision(), Hits()):
            plain, other = compiled([metric]), compiled([metric])
            expected = plain.fit(X, HOT, batch_size=10, verbose=0).history
            found = other.fit(X, HOT, batch_size=10, verbose=0, **given).history
            assert found[metric.name] == pytest.approx(expected[metric.name])


class Hits(metrics.Metric):
    """As Keras's documentation has it."""

    def __init__(self, name="hits", **kwargs):
        super().__init__(name=name, **kwargs)
        self.true_positives = self.add_weight(name="tp", initializer="zeros")
        self.seen = self.add_weight(shape=(), name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        chosen = np.logical_and(y_true > 0.5, y_pred > 0.5)
        self.true_positives.assign_add(np.sum(chosen))
        self.seen.assign_add(len(y_pred))

    def result(self):
        return self.true_positives / np.maximum(self.seen, 1)


class InAttributes(metrics.Metric):
    """State in plain attributes, without the base's constructor."""

    name = "largest"

    def __init__(self):
        self.largest = -np.inf

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.largest = max(self.largest, float(np.max(y_pred)))

    def result(self):
        return self.largest

    def reset_state(self):
        self.largest = -np.inf


class MyRecall(metrics.Recall):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(y_true > 0, y_pred, sample_weight)


def test_metrics_of_users():
    made = compiled([Hits(), InAttributes(), MyRecall(name="mine"), metrics.Recall()])
    seen = []

    class InTheMiddle(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            made.evaluate(X[:5], HOT[:5])  # must not disturb the epoch's figures
            made.train_on_batch(X[:1] * 0, HOT[:1]) if batch == 99 else None
            seen.append(dict(logs))

    history = made.fit(
        X, HOT, epochs=2, batch_size=16, validation_data=(X, HOT), verbose=0,
        callbacks=[InTheMiddle()],
    ).history  # fmt: skip
    p = made.predict(X)
    assert history["val_hits"][1] == pytest.approx(np.sum((HOT > 0) & (p > 0.5)) / N)
    assert history["val_largest"][1] == pytest.approx(p.max())
    assert history["val_mine"] == history["val_recall"] and history["mine"] == history["recall"]
    for epoch in range(2):
        assert history["hits"][epoch] == seen[4 * epoch + 3]["hits"]
    assert made.evaluate(X, HOT, return_dict=True)["hits"] == history["val_hits"][1]
    assert float(made.metrics[0].seen) == N, "the object holds the last pass"


def test_functions_are_metrics():
    def mean_gap(y_true, y_pred):
        return ops.absolute(y_true - y_pred)

    def whole(y_true, y_pred):
        return np.mean(y_pred)

    made = compiled([mean_gap, whole])
    figures = made.evaluate(X, HOT, batch_size=9, return_dict=True)
    p = made.predict(X)
    assert figures["mean_gap"] == pytest.approx(np.abs(HOT - p).mean(), rel=1e-6)
    assert figures["whole"] == pytest.approx(p.mean(), rel=1e-6)
    with pytest.raises(ShapeError, match="one value for each sample"):
        metrics.get(lambda y, p: np.zeros(3))(HOT, SCORES)


def test_mean_and_sum_for_loops_of_ones_own():
    mean, total = metrics.Mean(name="loss"), metrics.Sum()
    for values in ([1.0, 2.0], 6.0, np.float32(1)):
        mean.update_state(values)
        total.update_state(values)
    assert mean.result() == 2.5 and total.result() == 10
    mean.reset_state()
    assert mean.result() == 0
    mean.update_state([1.0, 5.0], sample_weight=[3.0, 1.0])
    assert mean.result() == 2


def test_on_other_devices():
    there = get_device("cpu:1")
    for metric in (metrics.Precision(), metrics.AUC(), metrics.F1Score("macro", 0.5)):
        here = metric(HOT, SCORES)
        metric.reset_state()
        assert metric(HOT, there.asarray(SCORES)) == here
        metric.reset_state()
        assert metric(there.asarray(HOT), there.asarray(SCORES)) == here


@pytest.mark.parametrize(
    ("metric", "loss"),
    [
        (getattr(metrics, name), getattr(losses, name))
        for name in (
            "MeanSquaredError", "MeanAbsoluteError", "MeanAbsolutePercentageError",
            "MeanSquaredLogarithmicError", "Poisson", "KLDivergence", "Hinge", "SquaredHinge",
            "CategoricalHinge", "BinaryCrossentropy", "CategoricalCrossentropy",
        )
    ]
    + [(metrics.LogCoshError, losses.LogCosh)],
    ids=lambda c: c.__module__ + c.__name__,
)  # fmt: skip
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_means_of_losses(metric, loss, weights):
    values = np.asarray(loss().per_sample(HOT, SCORES.astype(float) + 0.001))
    found = over_batches(metric(), HOT, SCORES.astype(float) + 0.001, [9, 33], weights)
    assert found == pytest.approx(np.average(values, weights=weights))
    assert isinstance(metrics.get(metric.__name__), metric)


def test_similarity_is_higher_for_alike_vectors():
    lengths = np.linalg.norm(SCORES, axis=1) * np.maximum(np.linalg.norm(HOT, axis=1), 1e-12)
    expected = ((SCORES * HOT).sum(1) / lengths).mean()
    assert metrics.get("cosine_similarity")(HOT, SCORES) == pytest.approx(expected, rel=1e-5)
    assert metrics.CosineSimilarity().higher_is_better
    assert metrics.SparseCategoricalCrossentropy()(NUMBERS, SCORES) == pytest.approx(
        losses.SparseCategoricalCrossentropy()(NUMBERS, SCORES)
    )

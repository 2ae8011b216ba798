"""Losses under Keras's names: values against PyTorch in float64 or naive loops of Keras's formulas,
gradients against finite differences, reductions, and training on pictures of labels."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from gpukit import Tensor, get_device, losses, metrics, ops, to_host
from gpukit.errors import DataError, SettingError, ShapeError
from gpukit.layers import Conv2D, Dense
from gpukit.models import Sequential, load_model
from gpukit.testing import check_gradients
from gpukit.utils import to_categorical

torch = pytest.importorskip("torch")
F = torch.nn.functional

N, K = 6, 4
RNG = np.random.default_rng(11)
Y, T = RNG.normal(size=(N, K)), RNG.normal(size=(N, K))
P = RNG.random((N, K)) * 0.9 + 0.05
HOT = RNG.integers(0, 2, (N, K)).astype(float)
NUMBERS = RNG.integers(0, K, N)
ONE = np.eye(K)[NUMBERS]
SHARES = P / P.sum(1, keepdims=True)
EPS = 1e-7


def of_torch(function, *arrays, **named):
    result = function(*(torch.tensor(a) for a in arrays), reduction="none", **named)
    return result.numpy().reshape(N, -1).mean(1)


def entropy(t, p):
    return -(t * np.log(p) + (1 - t) * np.log(1 - p))


def binary_focal(t, p, gamma, alpha=None):
    found = np.zeros(t.shape)
    for i in np.ndindex(t.shape):
        p_t = t[i] * p[i] + (1 - t[i]) * (1 - p[i])
        found[i] = (1 - p_t) ** gamma * entropy(t[i], p[i])
        if alpha is not None:
            found[i] *= t[i] * alpha + (1 - t[i]) * (1 - alpha)
    return found.mean(-1)


def categorical_focal(t, p, gamma, alpha):
    p = p / p.sum(-1, keepdims=True)
    return (np.asarray(alpha) * (1 - p) ** gamma * -t * np.log(p)).sum(-1)


def squared_hinge(t, y):
    return (np.maximum(0, 1 - t * y) ** 2).mean(1)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def smooth(t, s):
    return t * (1 - s) + s / t.shape[-1]


def tversky(t, p, alpha, beta):
    both = (t * p).sum()
    return 1 - both / (both + alpha * (t * (1 - p)).sum() + beta * ((1 - t) * p).sum() + EPS)


def dice(t, p):
    return 1 - 2 * (t * p).sum() / (t.sum() + p.sum() + EPS)


CASES = [
    (losses.MeanAbsoluteError(), T, Y, lambda: of_torch(F.l1_loss, Y, T)),
    (losses.Huber(), T, 3 * Y, lambda: of_torch(F.huber_loss, 3 * Y, T)),
    (losses.Huber(0.3), T, Y, lambda: of_torch(F.huber_loss, Y, T, delta=0.3)),
    (losses.LogCosh(), T, Y, lambda: np.log(np.cosh(Y - T)).mean(1)),
    (
        losses.MeanAbsolutePercentageError(),
        T,
        Y,
        lambda: (100 * np.abs(T - Y) / np.abs(T)).mean(1),
    ),
    (
        losses.MeanSquaredLogarithmicError(),
        P,
        SHARES,
        lambda: ((np.log1p(P) - np.log1p(SHARES)) ** 2).mean(1),
    ),
    (losses.SquaredHinge(), HOT, Y, lambda: squared_hinge(2 * HOT - 1, Y)),
    (losses.SquaredHinge(), 2 * HOT - 1, Y, lambda: squared_hinge(2 * HOT - 1, Y)),
    (
        losses.CategoricalHinge(),
        ONE,
        Y,
        lambda: [max(0, 1 + max((1 - t) * y) - t @ y) for t, y in zip(ONE, Y)],
    ),
    (
        losses.KLDivergence(),
        softmax(T),
        SHARES,
        lambda: K * of_torch(F.kl_div, np.log(SHARES), softmax(T)),
    ),
    (
        losses.Poisson(),
        HOT,
        P,
        lambda: of_torch(F.poisson_nll_loss, P, HOT, log_input=False, eps=EPS),
    ),
    (
        losses.CosineSimilarity(),
        T,
        Y,
        lambda: -F.cosine_similarity(torch.tensor(T), torch.tensor(Y)).numpy(),
    ),
    (
        losses.CategoricalCrossentropy(True, 0.1),
        ONE,
        Y,
        lambda: of_torch(F.cross_entropy, Y, NUMBERS, label_smoothing=0.1),
    ),
    (
        losses.CategoricalCrossentropy(label_smoothing=0.2),
        ONE,
        SHARES,
        lambda: -(smooth(ONE, 0.2) * np.log(SHARES)).sum(1),
    ),
    (
        losses.BinaryCrossentropy(label_smoothing=0.2),
        HOT,
        P,
        lambda: entropy(HOT * 0.8 + 0.1, P).mean(1),
    ),
    (
        losses.BinaryCrossentropy(True, 0.2),
        HOT,
        Y,
        lambda: of_torch(F.binary_cross_entropy_with_logits, Y, HOT * 0.8 + 0.1),
    ),
    (losses.BinaryFocalCrossentropy(), HOT, P, lambda: binary_focal(HOT, P, 2)),
    (
        losses.BinaryFocalCrossentropy(True, 0.3, 1.5),
        HOT,
        P,
        lambda: binary_focal(HOT, P, 1.5, 0.3),
    ),
    (
        losses.BinaryFocalCrossentropy(from_logits=True, label_smoothing=0.1),
        HOT,
        Y,
        lambda: binary_focal(HOT * 0.9 + 0.05, sigmoid(Y), 2),
    ),
    (
        losses.CategoricalFocalCrossentropy(),
        ONE,
        SHARES,
        lambda: categorical_focal(ONE, SHARES, 2, 0.25),
    ),
    (
        losses.CategoricalFocalCrossentropy([0.1, 0.2, 0.3, 0.4], 3.0, True, 0.1),
        ONE,
        Y,
        lambda: categorical_focal(smooth(ONE, 0.1), softmax(Y), 3, [0.1, 0.2, 0.3, 0.4]),
    ),
    (losses.Dice(), HOT, P, lambda: np.full(N, dice(HOT, P))),
    (losses.Dice(axis=1), HOT, P, lambda: [dice(t, p) for t, p in zip(HOT, P)]),
    (losses.Dice(axis=0), HOT, P, lambda: [np.mean([dice(t, p) for t, p in zip(HOT.T, P.T)])] * N),
    (losses.Tversky(0.7, 0.2), HOT, P, lambda: np.full(N, tversky(HOT, P, 0.7, 0.2))),
    (losses.Tversky(axis=1), HOT, P, lambda: [tversky(t, p, 0.5, 0.5) for t, p in zip(HOT, P)]),
]  # fmt: skip
IDS = [f"{type(loss).__name__}-{i}" for i, (loss, *_) in enumerate(CASES)]


@pytest.mark.parametrize(("loss", "t", "y", "expected"), CASES, ids=IDS)
def test_value_gradient_and_configuration(loss, t, y, expected):
    value = np.asarray(expected())
    np.testing.assert_allclose(loss.per_sample(t, y), value, rtol=1e-6)
    assert loss(t, Tensor(y)).item() == pytest.approx(value.mean(), rel=1e-6)
    check_gradients(lambda x: loss.per_sample(t, x), y)
    again = losses.get(json.loads(json.dumps(loss.get_config())))
    np.testing.assert_array_equal(again.per_sample(t, y), loss.per_sample(t, y))
    device = get_device("cpu:1")
    there = loss.per_sample(t, device.asarray(y.astype(np.float32)))
    np.testing.assert_allclose(to_host(there), value, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize(("function", "cls"), losses.FUNCTIONS.items(), ids=lambda x: "")
def test_names_and_functions(function, cls):
    assert isinstance(losses.get(function.__name__), cls)
    assert isinstance(losses.get(function), cls) and isinstance(losses.get(cls.__name__), cls)
    labels = NUMBERS if "sparse" in function.__name__ else ONE
    np.testing.assert_array_equal(function(labels, SHARES), cls().per_sample(labels, SHARES))


def test_short_names():
    for name, cls in (("mae", "MeanAbsoluteError"), ("mape", "MeanAbsolutePercentageError"),
                      ("msle", "MeanSquaredLogarithmicError"), ("kld", "KLDivergence"),
                      ("kl_divergence", "KLDivergence"), ("logcosh", "LogCosh")):  # fmt: skip
        assert type(losses.get(name)).__name__ == cls


def test_large_errors_do_not_overflow():
    found = losses.LogCosh().per_sample(np.zeros((2, 1)), np.array([[800.0], [-800.0]]))
    np.testing.assert_allclose(found, 800 - math.log(2))
    zero = Tensor(np.zeros((1, 3)), requires_grad=True)
    losses.CosineSimilarity()(np.ones((1, 3)), zero).backward()
    assert np.isfinite(zero.grad.numpy()).all()


PIXELS = RNG.normal(size=(3, 2, 5, K))
LABELS = RNG.integers(0, K, (3, 2, 5))


def of_pixels(z, labels, **named):
    z = torch.tensor(z).permute(0, 3, 1, 2)
    return F.cross_entropy(z, torch.tensor(labels), **named).numpy()


@pytest.mark.parametrize("from_logits", [True, False])
def test_cross_entropy_of_pixels(from_logits):
    y = PIXELS if from_logits else softmax(PIXELS)
    expected = of_pixels(PIXELS, LABELS, reduction="none").mean((1, 2))
    sparse = losses.SparseCategoricalCrossentropy(from_logits)
    for labels in (LABELS, LABELS[..., None], LABELS.astype(float)):
        np.testing.assert_allclose(sparse.per_sample(labels, y), expected, rtol=1e-6)
    dense = losses.CategoricalCrossentropy(from_logits)
    np.testing.assert_allclose(dense.per_sample(np.eye(K)[LABELS], y), expected, rtol=1e-6)
    check_gradients(lambda x: sparse.per_sample(LABELS, x), y)
    check_gradients(lambda x: dense.per_sample(np.eye(K)[LABELS], x), y)


@pytest.mark.parametrize("ignored", [255, -1, 2])
def test_ignored_class(ignored):
    labels = np.where(RNG.random(LABELS.shape) < 0.4, ignored, LABELS)
    expected = of_pixels(PIXELS, labels, ignore_index=ignored)
    for loss, y in (
        (losses.SparseCategoricalCrossentropy(True, ignored), PIXELS),
        (losses.SparseCategoricalCrossentropy(ignore_class=ignored), softmax(PIXELS)),
    ):
        assert loss(labels, Tensor(y)).item() == pytest.approx(float(expected))
        check_gradients(lambda x, loss=loss: loss(labels, x), y)
        config = {"from_logits": loss.from_logits, "ignore_class": ignored}
        metric = metrics.SparseCategoricalCrossentropy(**config)
        for part in (slice(0, 1), slice(1, 3)):
            metric.update_state(labels[part], y[part])
        assert metric.result() == pytest.approx(float(expected)), "over batches of any cut"
        everything = np.full_like(LABELS, ignored)
        assert loss(everything, Tensor(y)).item() == 0


WEIGHTS = RNG.random(N)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("sum_over_batch_size", lambda v, w: (v * w).mean()),
        ("mean", lambda v, w: (v * w).mean()),
        ("sum", lambda v, w: (v * w).sum()),
        ("mean_with_sample_weight", lambda v, w: (v * w).sum() / w.sum()),
        ("none", lambda v, w: v * w),
        (None, lambda v, w: v * w),
    ],
)
def test_reductions(reduction, expected):
    loss = losses.MeanAbsoluteError(reduction=reduction)
    values = np.abs(T - Y).mean(1)
    np.testing.assert_allclose(loss(T, Y), expected(values, np.ones(N)))
    np.testing.assert_allclose(loss(T, Y, sample_weight=WEIGHTS), expected(values, WEIGHTS))


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (lambda: losses.Dice(reduction="avg"), SettingError, "reduction='avg': use one of"),
        (lambda: losses.Huber(dtype="float64"), SettingError, "leave it out"),
        (lambda: losses.Huber(0), SettingError, "delta=0"),
        (lambda: losses.BinaryCrossentropy(label_smoothing=2), SettingError, "label_smoothing=2"),
        (lambda: losses.CategoricalCrossentropy(axis=1), SettingError, "axis=1: classes are on"),
        (lambda: losses.CosineSimilarity(axis=0), SettingError, "axis=0 is that of the samples"),
        (lambda: losses.CategoricalHinge()(2 * ONE, Y), DataError, "label 2 is out of range"),
        (lambda: losses.huber(T[:, :2], Y), ShapeError, "do not fit"),
        (lambda: losses.huber(T, Y, delta=None), SettingError, "delta=None"),
        (lambda: losses.MeanAbsoluteError()(T, Y, [1, 2]), ShapeError, "one weight a sample"),
        (
            lambda: losses.CategoricalFocalCrossentropy(alpha=[1, 2])(ONE, SHARES),
            ShapeError,
            "2 values of alpha for 4 classes",
        ),
    ],
)
def test_what_is_refused(call, error, part):
    with pytest.raises(error) as caught:
        call()
    assert part in str(caught.value) and "\n" not in str(caught.value)


X = RNG.normal(size=(N, 3)).astype(np.float32)


def test_each_loss_is_no_reduction_in_fit():
    made = Sequential([Dense(K, input_shape=(3,))])
    made.compile("sgd", losses.MeanAbsoluteError(reduction=None))
    with pytest.raises(SettingError, match="reduction=None gives a loss for each sample"):
        made.fit(X, T.astype(np.float32), verbose=0)


@pytest.mark.parametrize("accumulate", [1, 4])
def test_sum_is_the_mean_times_the_samples(accumulate):
    after, figures = [], []
    for loss, rate in ((losses.MeanSquaredError("sum"), 0.01), (losses.MeanSquaredError(), 0.06)):
        made = Sequential([Dense(K, input_shape=(3,))], seed=2)
        made.compile({"class": "SGD", "learning_rate": rate}, loss)
        figures.append(made.evaluate(X, T.astype(np.float32)))
        made.fit(X, T.astype(np.float32), verbose=0, accumulate=accumulate)
        after.append(made.get_weights())
    for a, b in zip(*after):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    assert figures[0] == pytest.approx(N * figures[1])


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("last", ["softmax", None])
def test_segmentation_trains_with_ignored_pixels(tmp_path, last, accumulate):
    x = RNG.normal(size=(5, 6, 6, 2)).astype(np.float32)
    y = RNG.integers(0, 3, (5, 6, 6))
    y[RNG.random(y.shape) < 0.3] = 255
    loss = losses.SparseCategoricalCrossentropy(from_logits=last is None, ignore_class=255)
    made = Sequential([Conv2D(3, 1, activation=last, input_shape=(6, 6, 2))], seed=1)
    made.compile({"class": "SGD", "learning_rate": 0.5}, loss)
    kernel, bias = (w.astype(np.float64) for w in made.get_weights())
    w, b = torch.tensor(kernel[0, 0], requires_grad=True), torch.tensor(bias, requires_grad=True)
    z = torch.tensor(x.astype(np.float64)) @ w + b
    value = F.cross_entropy(z.permute(0, 3, 1, 2), torch.tensor(y), ignore_index=255)
    value.backward()
    for size in (1, 2, 5):
        assert made.evaluate(x, y, batch_size=size) == pytest.approx(value.item(), rel=1e-5)
    history = made.fit(x, y, batch_size=5, verbose=0, accumulate=accumulate).history
    assert history["loss"][0] == pytest.approx(value.item(), rel=1e-5)
    moved = made.get_weights()
    np.testing.assert_allclose(moved[0][0, 0], kernel[0, 0] - 0.5 * w.grad.numpy(), atol=1e-5)
    np.testing.assert_allclose(moved[1], bias - 0.5 * b.grad.numpy(), atol=1e-5)
    made.save(tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").loss.ignore_class == 255
    with pytest.raises(DataError, match="label 3 is out of range"):
        made.fit(x, np.full_like(y, 3), verbose=0)


def test_smoothing_survives_the_fused_softmax():
    y = to_categorical(NUMBERS, K)
    made = Sequential([Dense(K, activation="softmax", input_shape=(3,))])
    loss = losses.CategoricalCrossentropy(label_smoothing=0.1)
    made.compile("sgd", loss)
    p = made.predict(X).astype(float)
    expected = -(smooth(y, 0.1) * np.log(p)).sum(1).mean()
    assert made.evaluate(X, y) == pytest.approx(expected, rel=1e-5)


def test_losses_of_users_in_kerass_form():
    class Squared(losses.Loss):
        def __init__(self, factor=2.0, **named):
            super().__init__(**named)
            self.factor = factor

        def call(self, y_true, y_pred):
            return ops.multiply(ops.square(y_true - y_pred), self.factor)

    loss = Squared(3.0, name="mine")
    np.testing.assert_allclose(loss.per_sample(T, Y), 3 * ((T - Y) ** 2).mean(1))
    made = Sequential([Dense(K, input_shape=(3,))])
    made.compile("sgd", loss)
    before = made.evaluate(X, T.astype(np.float32))
    made.fit(X, T.astype(np.float32), epochs=3, verbose=0)
    assert made.evaluate(X, T.astype(np.float32)) < before

    class Nothing(losses.Loss):
        pass

    with pytest.raises(NotImplementedError, match="neither call nor per_sample"):
        Nothing()(T, Y)

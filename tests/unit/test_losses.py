"""Losses against float64 formulas, on both devices, and what is refused."""

import json

import numpy as np
import pytest

from gpukit import Tensor, get_device, losses, ops, to_host
from gpukit.errors import CheckpointError, DataError, SettingError, ShapeError
from gpukit.utils import to_categorical

N, K = 6, 4


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_cross_entropies_are_the_formula(rng):
    logits = rng.normal(size=(N, K))
    p = softmax(logits)
    labels = rng.integers(0, K, N)
    one_hot = to_categorical(labels, K)
    expected = -np.log(p[np.arange(N), labels])
    for per_sample in (
        losses.categorical_crossentropy(one_hot, p),
        losses.categorical_crossentropy(one_hot, 3 * p),  # made to sum to 1
        losses.categorical_crossentropy(one_hot, logits, from_logits=True),
        losses.sparse_categorical_crossentropy(labels, p),
        losses.sparse_categorical_crossentropy(labels[:, None].astype(np.uint8), p),
        losses.sparse_categorical_crossentropy(labels.astype(float), logits, from_logits=True),
    ):
        np.testing.assert_allclose(per_sample, expected, rtol=1e-9)
    mean = losses.get("sparse_categorical_crossentropy")(labels, Tensor(p))
    assert mean.shape == () and mean.item() == pytest.approx(expected.mean())


def test_soft_labels(rng):
    t, p = softmax(rng.normal(size=(N, K))), softmax(rng.normal(size=(N, K)))
    np.testing.assert_allclose(losses.categorical_crossentropy(t, p), -(t * np.log(p)).sum(-1))


def test_fused_variant_gives_the_same_gradients(rng):
    logits = rng.normal(size=(N, K))
    labels = rng.integers(0, K, N)
    binary = rng.integers(0, 2, (N, K))
    for name, y in (
        ("categorical_crossentropy", to_categorical(labels, K)),
        ("sparse_categorical_crossentropy", labels),
        ("binary_crossentropy", binary),
    ):
        loss = losses.get(name)
        fused = loss.from_logits_variant()
        assert fused.from_logits and fused.from_logits_variant() is None
        a, b = Tensor(logits, requires_grad=True), Tensor(logits, requires_grad=True)
        one = fused(y, a)
        two = loss(y, getattr(ops, loss.fused_activation)(b))
        one.backward()
        two.backward()
        assert one.item() == pytest.approx(two.item())
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), atol=1e-9)
    assert losses.MeanSquaredError().from_logits_variant() is None


def test_binary_cross_entropy(rng):
    z = rng.normal(size=(N, 3)) * 3
    t = rng.integers(0, 2, (N, 3)).astype(bool)
    p = 1 / (1 + np.exp(-z))
    expected = -np.where(t, np.log(p), np.log(1 - p)).mean(1)
    np.testing.assert_allclose(losses.binary_crossentropy(t, p), expected, rtol=1e-9)
    np.testing.assert_allclose(losses.binary_crossentropy(t, z, from_logits=True), expected)
    sure = losses.binary_crossentropy(np.array([1, 0]), np.array([[800.0], [800.0]]), True)
    np.testing.assert_allclose(sure, [0, 800])
    assert np.isfinite(losses.binary_crossentropy(np.array([1.0]), np.array([0.0], "f4"))).all()


def test_squared_error_and_hinge(rng):
    y, t = rng.normal(size=(N, 2, 3)), rng.normal(size=(N, 2, 3))
    np.testing.assert_allclose(losses.mean_squared_error(t, y), ((y - t) ** 2).mean((1, 2)))
    y, t = rng.normal(size=(N, 3)), rng.integers(0, 2, (N, 3))
    expected = np.maximum(0, 1 - (2 * t - 1) * y).mean(1)
    np.testing.assert_allclose(losses.hinge(t, y), expected)
    np.testing.assert_allclose(losses.hinge(2 * t - 1, y), expected)


def test_one_output_never_broadcasts(rng):
    y, t = rng.normal(size=(N, 1)), rng.normal(size=N)
    np.testing.assert_allclose(losses.mean_squared_error(t, y), (y[:, 0] - t) ** 2)
    np.testing.assert_allclose(losses.mean_squared_error(t[:, None], y[:, 0]), (y[:, 0] - t) ** 2)
    with pytest.raises(ShapeError, match=r"labels \(6,\) do not fit predictions \(6, 6\)"):
        losses.mean_squared_error(t, np.zeros((6, 6)))


@pytest.mark.parametrize(
    ("call", "error", "part"),
    [
        (
            lambda p: losses.categorical_crossentropy(np.zeros(N, int), p),
            ShapeError,
            "use sparse_categorical_crossentropy, or one-hot labels from gpukit.utils.to_cat",
        ),
        (
            lambda p: losses.sparse_categorical_crossentropy(np.zeros((N, K)), p),
            ShapeError,
            "use categorical_crossentropy for one-hot labels",
        ),
        (
            lambda p: losses.sparse_categorical_crossentropy(np.zeros(N - 1, int), p),
            ShapeError,
            "one class number for each sample",
        ),
        (
            lambda p: losses.sparse_categorical_crossentropy(np.full(N, 4), p),
            DataError,
            "label 4 is out of range: 4 classes are numbered 0 to 3",
        ),
        (
            lambda p: losses.sparse_categorical_crossentropy(np.full(N, -1), p, True),
            DataError,
            "label -1 is out of range: 4 classes",
        ),
        (
            lambda p: losses.sparse_categorical_crossentropy(np.full(N, 0.5), p),
            DataError,
            "label 0.5 is no class number",
        ),
        (lambda p: losses.categorical_crossentropy(p, p[:, 0]), ShapeError, "(N, classes)"),
        (lambda p: losses.categorical_crossentropy(p, p[None]), ShapeError, "do not fit"),
        (
            lambda p: losses.sparse_categorical_crossentropy(
                np.zeros(N, int), np.ones((N, 2, 2, K))
            ),
            ShapeError,
            "one class number for each position, or end the model with Flatten()",
        ),
        (lambda p: losses.binary_crossentropy(2 * np.ones((N, K)), p), DataError, "label 2 is out"),
        (lambda p: losses.binary_crossentropy(np.ones(N), p), ShapeError, "to_categorical"),
        (lambda p: losses.hinge(np.full((N, K), np.nan), p), DataError, "label nan"),
        (lambda p: losses.get(lambda t, y: ops.sum(y))(p, p), ShapeError, "one loss for each"),
        (lambda p: losses.get("maee"), SettingError, "unknown loss 'maee'; use one of"),
        (lambda p: losses.get({"class": "x"}), CheckpointError, "unknown class 'x'"),
        (lambda p: losses.get(None), SettingError, "None is no loss"),
    ],
)
def test_what_is_refused(call, error, part):
    with pytest.raises(error) as caught:
        call(np.full((N, K), 0.25))
    assert part in str(caught.value) and "\n" not in str(caught.value)


def test_labels_of_the_host_meet_predictions_of_a_device(rng):
    there = get_device("cpu:1")
    p = softmax(rng.normal(size=(N, K))).astype(np.float32)
    labels = rng.integers(0, K, N)
    one_hot = to_categorical(labels, K)
    for name, y in (
        ("sparse_categorical_crossentropy", labels),
        ("categorical_crossentropy", one_hot),
        ("binary_crossentropy", one_hot),
        ("mse", one_hot),
        ("hinge", one_hot),
    ):
        result = losses.get(name).per_sample(y, Tensor.wrap(there.asarray(p)))
        assert result.device is there and result.dtype == np.float32
        np.testing.assert_allclose(
            to_host(result.array), losses.get(name).per_sample(y, p), rtol=1e-6
        )
        for variant in (losses.get(name), losses.get(name).from_logits_variant()):
            if variant is not None:
                assert variant(y[:0], p[:0]) == 0


def test_functions_are_losses():
    assert isinstance(losses.get(losses.hinge), losses.Hinge)
    mine = losses.get(lambda t, y: ops.absolute(ops.subtract(y, t)))
    np.testing.assert_allclose(mine.per_sample(np.zeros((2, 2)), np.ones((2, 2))), [1, 1])
    loss = losses.SparseCategoricalCrossentropy(from_logits=True)
    again = losses.get(json.loads(json.dumps(loss.get_config())))
    assert type(again) is type(loss) and again.from_logits


def test_to_categorical():
    assert to_categorical([0, 2]).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert to_categorical(np.array([[1], [0]]), 3).shape == (2, 3)
    assert to_categorical([]).shape == (0, 0)
    assert to_categorical([True, False]).tolist() == [[0, 1], [1, 0]]
    for wrong in ([3], [-1], [0.5], ["a"]):
        with pytest.raises(DataError):
            to_categorical(np.array(wrong), 3)

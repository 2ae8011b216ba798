"""Weights of samples and classes in training, evaluation and metrics, against PyTorch; and when
`fit` validates."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from gpukit import callbacks, data, losses, metrics
from gpukit.errors import DataError, SettingError
from gpukit.layers import Dense
from gpukit.models import Sequential, load_model

torch = pytest.importorskip("torch")

N, K = 12, 3
RNG = np.random.default_rng(4)
X = RNG.normal(size=(N, 2)).astype(np.float32)
Y = np.arange(N) % K
ONE_HOT = np.eye(K, dtype=np.float32)[Y]
W = RNG.random(N).round(3)
BY_CLASS = {0: 0.5, 2: 3.0}
OF_CLASS = np.array([0.5, 1.0, 3.0])[Y]


def model(loss="sparse_categorical_crossentropy", **given):
    made = Sequential([Dense(K, activation="softmax", input_shape=(2,))], seed=6)
    made.compile({"class": "SGD", "learning_rate": 0.5}, loss, **given)
    return made


def expected(made, w, divisor=None):
    """(loss, kernel, bias) after a step on the whole batch, by PyTorch in float64."""
    kernel, bias = (torch.tensor(v.astype(float), requires_grad=True) for v in made.get_weights())
    z = torch.tensor(X.astype(float)) @ kernel + bias
    each = torch.nn.functional.cross_entropy(z, torch.tensor(Y), reduction="none")
    loss = (each * torch.tensor(w)).sum() / (N if divisor is None else divisor)
    loss.backward()
    return loss.item(), *((v - 0.5 * v.grad).detach().numpy() for v in (kernel, bias))


class Batches:
    """As Keras's Sequence: batches with weights."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        return X, Y, W


WAYS = {
    "sample_weight": (lambda m, **g: m.fit(X, Y, batch_size=N, sample_weight=W, **g), W),
    "column": (lambda m, **g: m.fit(X, Y, batch_size=N, sample_weight=W[:, None], **g), W),
    "class_weight": (lambda m, **g: m.fit(X, Y, N, class_weight=BY_CLASS, **g), OF_CLASS),
    "batches": (lambda m, **g: m.fit(Batches(), **g), W),
    "list": (lambda m, **g: m.fit([(X, Y, W)], **g), W),
    "feed": (lambda m, **g: m.fit(data.ArrayFeed(X, Y, N, weights=W), **g), W),
    "class_weight of a feed": (
        lambda m, **g: m.fit(data.ArrayFeed(X, Y, N), class_weight=BY_CLASS, **g),
        OF_CLASS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("way", WAYS)
def test_a_step_is_that_of_the_weighted_losses(way, accumulate):
    fit, w = WAYS[way]
    made = model()
    loss, kernel, bias = expected(made, w)
    history = fit(made, verbose=0, accumulate=accumulate).history
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(made.get_weights()[0], kernel, atol=1e-6)
    np.testing.assert_allclose(made.get_weights()[1], bias, atol=1e-6)


def test_one_hot_labels_have_classes_too():
    one, other = model(), model("categorical_crossentropy")
    one.fit(X, Y, batch_size=5, seed=1, class_weight=BY_CLASS, verbose=0)
    other.fit(X, ONE_HOT, batch_size=5, seed=1, class_weight=BY_CLASS, verbose=0)
    np.testing.assert_allclose(one.get_weights()[0], other.get_weights()[0], atol=1e-6)


def test_mean_with_sample_weight_divides_by_the_weights():
    made = model(losses.SparseCategoricalCrossentropy(reduction="mean_with_sample_weight"))
    loss, kernel, _ = expected(made, W, W.sum())
    for size in (N, 5):
        found = made.evaluate(X, Y, batch_size=size, sample_weight=W)
        assert found == pytest.approx(loss, rel=1e-5)
    made.fit(X, Y, batch_size=N, sample_weight=W, verbose=0)
    np.testing.assert_allclose(made.get_weights()[0], kernel, atol=1e-6)


def test_train_on_batch_and_evaluate():
    made = model()
    loss, kernel, _ = expected(made, W)
    for size in (N, 5, 1):
        assert made.evaluate(X, Y, size, sample_weight=W) == pytest.approx(loss, rel=1e-5)
    assert made.train_on_batch(X, Y, sample_weight=W) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(made.get_weights()[0], kernel, atol=1e-6)
    made = model()
    loss, kernel, _ = expected(made, OF_CLASS)
    assert made.train_on_batch(X, Y, class_weight=BY_CLASS) == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(made.get_weights()[0], kernel, atol=1e-6)


def test_only_weighted_metrics_take_weights(tmp_path):
    made = model(metrics=["acc"], weighted_metrics=["acc", metrics.ConfusionMatrix(K)])
    figures = made.evaluate(X, Y, batch_size=5, sample_weight=W, return_dict=True)
    right = made.predict(X).argmax(1) == Y
    assert list(figures) == ["loss", "acc", "acc_1", "confusion_matrix"]
    assert figures["acc"] == pytest.approx(right.mean())
    assert figures["acc_1"] == pytest.approx(np.average(right, weights=W))
    assert np.sum(figures["confusion_matrix"]) == pytest.approx(W.sum())
    made.save(tmp_path / "m.safetensors")
    again = load_model(tmp_path / "m.safetensors")
    found = again.evaluate(X, Y, batch_size=5, sample_weight=W, return_dict=True)
    assert found == figures


def test_validation_takes_weights():
    given = {"metrics": ["acc"], "weighted_metrics": ["acc"]}
    for validation in (
        {"validation_data": (X, Y, W)},
        {"validation_data": [(X, Y, W)]},
        {"validation_data": (X, Y, W), "validation_batch_size": 5},
    ):
        made = model(**given)
        history = made.fit(X, Y, verbose=0, **validation).history
        figures = made.evaluate(X, Y, sample_weight=W, return_dict=True)
        for key, value in figures.items():
            assert history[f"val_{key}"][0] == pytest.approx(value, rel=1e-5)
    made = model(**given)
    history = made.fit(X, Y, sample_weight=W, validation_split=0.25, verbose=0).history
    figures = made.evaluate(X[9:], Y[9:], sample_weight=W[9:], return_dict=True)
    assert history["val_acc_1"][0] == pytest.approx(figures["acc_1"])
    assert history["val_loss"][0] == pytest.approx(figures["loss"], rel=1e-5)


def test_class_weights_do_not_weight_validation():
    made = model()
    history = made.fit(X, Y, validation_data=(X, Y), class_weight=BY_CLASS, verbose=0).history
    assert history["val_loss"][0] == pytest.approx(made.evaluate(X, Y), rel=1e-6)


@pytest.mark.parametrize(
    ("given", "error", "part"),
    [
        ({"sample_weight": W[:3]}, DataError, "one number a sample"),
        ({"sample_weight": W * np.nan}, DataError, "not finite"),
        ({"sample_weight": W, "class_weight": BY_CLASS}, SettingError, "give one of them"),
        ({"class_weight": {3: 1.0}}, SettingError, "numbered 0 to 2"),
        ({"class_weight": {"cat": 1.0}}, SettingError, "class_weight='cat'"),
        ({"class_weight": [1, 2, 3]}, SettingError, "use a dict of weights by class number"),
        ({"class_weight": {0: -1}}, SettingError, "class_weight=-1"),
        ({"validation_freq": 2}, SettingError, "validation_freq is for validation_data"),
        ({"validation_batch_size": 2}, SettingError, "size is for validation_data"),
        ({"validation_freq": 0}, SettingError, "validation_freq=0"),
        ({"validation_batch_size": 0}, SettingError, "validation_batch_size=0"),
        ({"validation_data": (X,)}, SettingError, "(x, y, weights)"),
    ],
)
def test_what_is_refused(given, error, part):
    made = model()
    before = made.get_weights()
    with pytest.raises(error) as caught:
        made.fit(X, Y, verbose=0, **given)
    assert part in str(caught.value) and "\n" not in str(caught.value)
    np.testing.assert_array_equal(made.get_weights()[0], before[0])


def test_classes_of_weights_are_whole_numbers():
    made = Sequential([Dense(1, input_shape=X.shape[1:])])
    made.compile("sgd", "mse")
    with pytest.raises(DataError, match="y has fractions"):
        made.fit(X, Y / 4, class_weight={0: 2.0}, verbose=0)


def test_weights_of_a_feed_are_its_own():
    made = model()
    with pytest.raises(SettingError, match=r"give batches \(x, y, weights\)"):
        made.fit(Batches(), sample_weight=W)
    with pytest.raises(DataError, match="class_weight beside weights"):
        made.fit(Batches(), class_weight=BY_CLASS, verbose=0)
    with pytest.raises(SettingError, match="loss_weights is for several outputs"):
        made.compile("sgd", "mse", loss_weights=[1.0])


@pytest.mark.parametrize(("frequency", "epochs"), [(1, 5), (2, 2), ([1, 4], 2), (9, 0)])
def test_validation_frequency(frequency, epochs):
    stopping = callbacks.EarlyStopping("val_loss", patience=9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        history = model().fit(
            X, Y, epochs=5, validation_data=(X, Y), validation_freq=frequency, verbose=0,
            callbacks=[stopping],
        ).history  # fmt: skip
    assert len(history["loss"]) == 5 and len(history.get("val_loss", [])) == epochs


def test_steps_of_a_class_get_the_weights():
    class Own(Sequential):
        def train_step(self, data):
            _, _, w = data
            np.testing.assert_array_equal(w, W)
            return super().train_step(data)

    made = Own([Dense(K, activation="softmax", input_shape=(2,))], seed=6)
    made.compile({"class": "SGD", "learning_rate": 0.5}, "sparse_categorical_crossentropy")
    loss, kernel, _ = expected(made, W)
    history = made.fit(X, Y, N, sample_weight=W, shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(made.get_weights()[0], kernel, atol=1e-6)

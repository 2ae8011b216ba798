import json

import numpy as np
import pytest

from gpukit import Tensor, get_device, losses, metrics
from gpukit.errors import DataError, SettingError, ShapeError
from gpukit.utils import to_categorical

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]], np.float32)
LABELS = np.array([1, 1, 2, 1])


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
def test_accuracy_of_every_form_of_labels(device):
    scores = get_device(device).asarray(SCORES)
    accuracy = metrics.get("accuracy")
    for y in (LABELS, LABELS[:, None], LABELS.astype(np.uint64), to_categorical(LABELS, 3)):
        for p in (scores, Tensor.wrap(scores)):
            assert accuracy.update(y, p) == (2, 4)  # of equal scores the first counts
    assert accuracy(LABELS, scores) == 0.5
    assert accuracy.update(LABELS[:0], scores[:0]) == (0, 0)
    assert accuracy(LABELS[:0], scores[:0]) == 0.5, "as in Keras, of all since reset_state"
    accuracy.reset_state()
    assert accuracy(LABELS[:0], scores[:0]) == 0


def test_binary_accuracy():
    p = np.array([[0.2], [0.6], [0.7], [0.5]], np.float32)
    y = np.array([0, 1, 0, 1])
    assert metrics.Accuracy().update(y, p) == (2, 4)
    assert metrics.Accuracy().update(y[:, None].astype(bool), p[:, 0]) == (2, 4)
    assert metrics.Accuracy(threshold=0.1).update(y, p) == (2, 4)


@pytest.mark.parametrize("device", ["cpu", "cpu:1"])
def test_top_k(device):
    scores = get_device(device).asarray(SCORES)
    for k, right in ((1, 3), (2, 4), (3, 4), (5, 4)):
        top = metrics.get(f"top_{k}_accuracy")
        assert top.name == f"top_{k}_accuracy"
        assert top.update(LABELS, scores) == (right, 4)
        assert top.update(to_categorical(LABELS, 3), scores) == (right, 4)
    assert metrics.TopKAccuracy(2).update([0], np.full((1, 3), np.nan, "f4")) == (0, 1)


def test_top_k_agrees_with_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(50, 20)), rng.integers(0, 20, 50)
    top = torch.tensor(scores).topk(5).indices.numpy()
    assert (
        metrics.TopKAccuracy(5).update(labels, scores)[0] == (top == labels[:, None]).any(1).sum()
    )


def test_losses_as_metrics():
    metric = metrics.get("mse")
    assert metric.name == "mse"
    assert metrics.LossMetric("mse").name == "mean_squared_error"
    total, count = metric.update(np.zeros((4, 3)), Tensor(SCORES, requires_grad=True))
    assert count == 4 and total == pytest.approx((SCORES**2).mean(1).sum())
    assert metrics.get(losses.hinge).name == "hinge"


def test_names_configs_and_mistakes():
    for name in ("acc", "Accuracy"):
        assert isinstance(metrics.get(name), metrics.Accuracy)
        assert metrics.get(name).name == name, "the name given"
    for spec in ("accuracy", "top_3_accuracy", "mse", "top_k_categorical_accuracy"):
        metric = metrics.get(spec)
        again = metrics.get(json.loads(json.dumps(metric.get_config())))
        assert type(again) is type(metric) and again.name == metric.name
    for spec in ("acuracy", "top_x_accuracy", None, 3):
        with pytest.raises(SettingError):
            metrics.get(spec)
    with pytest.raises(SettingError, match="k=0"):
        metrics.get("top_0_accuracy")
    with pytest.raises(DataError, match="label 3 is out of range: 3 classes"):
        metrics.Accuracy().update(LABELS + 1, SCORES)
    with pytest.raises(ShapeError, match=r"labels \(3,\) do not fit"):
        metrics.Accuracy().update(LABELS[:3], SCORES)
    with pytest.raises(ShapeError, match=r"\(N, classes\)"):
        metrics.TopKAccuracy().update(LABELS, SCORES[:, 0])

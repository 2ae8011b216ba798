"""Metrics in an epoch that another process goes on with."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import callbacks, metrics
from gpukit.layers import Dense
from gpukit.models import Sequential, load_model

RNG = np.random.default_rng(5)
X = RNG.random((60, 3)).astype(np.float32)
HOT = np.eye(4, dtype=np.float32)[RNG.integers(0, 4, 60)]


def compiled(found):
    model = Sequential([Dense(4, activation="softmax", input_shape=(3,))], seed=1)
    model.compile("sgd", "categorical_crossentropy", metrics=found)
    return model


@metrics.register
class OwnHits(metrics.Metric):
    def __init__(self, name="hits"):
        super().__init__(name=name)
        self.hits = self.add_weight(name="hits")
        self.seen = self.add_weight(shape=(2,), name="seen")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.hits.assign_add((np.argmax(y_true, -1) == np.argmax(y_pred, -1)).sum())
        self.seen.assign_add(len(y_true))

    def result(self):
        return float(self.hits / self.seen[0]) if self.seen[0] else 0.0


@metrics.register
class OwnMean(metrics.Mean):
    def update_state(self, y_true, y_pred, sample_weight=None):
        super().update_state(np.abs(y_pred))


@metrics.register
class OwnAttribute(metrics.Metric):
    total = 0

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.total += len(y_true)

    def result(self):
        return self.total

    def reset_state(self):
        self.total = 0


def half_and_on(tmp_path, *own):
    """Figures of an epoch as it was, and as another process ended it from its third batch on."""

    class Half(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 2:
                self.model.save(tmp_path / "half.safetensors")

    made = compiled(list(own))
    whole = made.fit(X, HOT, batch_size=10, verbose=0, seed=1, callbacks=[Half()]).history
    again = load_model(tmp_path / "half.safetensors")
    state = again.training_state
    return whole, again.fit(X, HOT, batch_size=10, verbose=0, seed=1, state=state).history


def test_users_own_metrics_count_on_in_a_resumed_epoch(tmp_path):
    whole, resumed = half_and_on(tmp_path, OwnHits(), OwnMean(name="size"))
    assert whole["hits"] == resumed["hits"] and whole["size"] == resumed["size"]
    with pytest.warns(UserWarning, match="own_attribute counts only the rest of the epoch"):
        half_and_on(tmp_path, OwnAttribute())


def test_variables_are_read_as_arrays():
    metric = metrics.Sum()
    table = metric.add_weight(shape=(2, 3))
    table.assign_add(np.arange(6).reshape(2, 3))
    one = metric.add_weight()
    assert table[1, 2] == 5 and len(table) == 2 and [row.sum() for row in table] == [3, 12]
    assert not one and int(one) == 0
    one.assign(2.0)
    assert one and int(one) == 2


def test_metrics_of_sums_count_on_in_a_resumed_epoch(tmp_path):
    whole, resumed = half_and_on(tmp_path, metrics.AUC(), metrics.Precision(thresholds=0.3))
    assert whole["auc"] == resumed["auc"] and whole["precision"] == resumed["precision"]

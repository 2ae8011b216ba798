"""gpukit's side of `python -m bench alexnet`, through the public API. Runs in its own process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bench.alexnet import DECAY, DROPOUT, MOMENTUM, RATE, Net, images, loss_of, weights
from gpukit.layers import Dropout
from gpukit.models import alexnet
from gpukit.optimizers import SGD

Pair = tuple[Callable[[], list[float]], Callable[[], Any]]


def _model(net: Net, form: str) -> Any:
    settings: dict[str, Any] = {"columns": 1, "groups": True, "device": "cpu"}
    if form == "columns":
        settings = {"columns": 2, "devices": ("cpu:0", "cpu:1")}
    model = alexnet(
        width=net.width, input_size=net.size, classes=net.classes, dropout=DROPOUT, seed=0,
        **settings,
    )  # fmt: skip
    model.load_tensors(weights(net), "the benchmark")
    return model


def training(net: Net, form: str) -> Pair:
    """A step of training with momentum and weight decay, grouped or in two columns."""
    model = _model(net, form)
    optimizer = SGD(RATE, momentum=MOMENTUM, weight_decay=DECAY)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    x, labels = images(net)

    def check() -> list[float]:
        _drop(model, 0.0)
        losses = [float(model.train_on_batch(x, labels)) for _ in range(2)]
        _drop(model, DROPOUT)
        return losses

    return check, lambda: model.train_on_batch(x, labels)


def _drop(model: Any, rate: float) -> None:
    for layer in model.layers:
        if isinstance(layer, Dropout):
            layer.rate = rate


def inference(net: Net) -> Pair:
    """Predictions for a batch."""
    import numpy as np

    model = _model(net, "grouped")
    x, labels = images(net)

    def run() -> Any:
        return model.predict(x, batch_size=net.batch)

    return lambda: [loss_of(np.log(np.maximum(run(), 1e-30)), labels)], run

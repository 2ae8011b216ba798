"""gpukit's side of `python -m bench alexnet`, through the public API, on any device.

The images lie on that device before anything is timed, as PyTorch's do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.alexnet import DECAY, DROPOUT, MOMENTUM, RATE, Net, images, loss_of, weights
from bench.ours import training_step
from gpukit import no_grad
from gpukit.device import get_device
from gpukit.layers import Dropout
from gpukit.models import alexnet
from gpukit.optimizers import SGD

Pair = tuple[Callable[[], list[float]], Callable[[], Any]]


def _model(net: Net, form: str, device: str) -> Any:
    settings: dict[str, Any] = {"columns": 1, "groups": True, "device": device}
    if form == "columns":
        settings = {"columns": 2, "devices": ("cpu:0", "cpu:1")}
    model = alexnet(
        width=net.width, input_size=net.size, classes=net.classes, dropout=DROPOUT, seed=0,
        kernel_initializer="zeros", **settings,
    )  # fmt: skip
    model.load_tensors(weights(net), "the benchmark")
    return model


def training(net: Net, form: str, device: str = "cpu") -> Pair:
    """A step of training with momentum and weight decay, grouped or in two columns."""
    model = _model(net, form, device)
    optimizer = SGD(RATE, momentum=MOMENTUM, weight_decay=DECAY)
    x, labels = (get_device(device).asarray(a) for a in images(net))

    def step() -> float:
        return training_step(model, optimizer, x, labels)

    def check() -> list[float]:
        _drop(model, 0.0)
        losses = [step() for _ in range(2)]
        _drop(model, DROPOUT)
        return losses

    return check, step


def _drop(model: Any, rate: float) -> None:
    for layer in model.layers:
        if isinstance(layer, Dropout):
            layer.rate = rate


def inference(net: Net, form: str = "grouped", device: str = "cpu") -> Pair:
    """Predictions for a batch, on the host in the end."""
    model = _model(net, form, device)
    x, labels = images(net)
    there = get_device(device).asarray(x)

    def run() -> Any:
        with no_grad():
            return model(there).numpy()

    return lambda: [loss_of(np.log(np.maximum(run(), 1e-30)), labels)], run

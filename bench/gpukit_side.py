"""gpukit's side of whole networks, through the public API, on any device.

The images lie on that device before anything is timed, as PyTorch's do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.networks import DROPOUT, MOMENTUM, Net, images, loss_of, weights
from gpukit import no_grad, ops
from gpukit.device import get_device
from gpukit.layers import Dropout
from gpukit.models import alexnet, lenet5
from gpukit.optimizers import SGD

Side = tuple[Callable[[], list[float]], Callable[[], Any]]


def model_of(net: Net, form: str, device: str) -> Any:
    """The model with the weights that all entrants begin with."""
    if net.network == "lenet":
        model = lenet5(seed=0, device=device)
    else:
        settings: dict[str, Any] = {"columns": 1, "groups": True, "device": device}
        if form == "columns":
            settings = {"columns": 2, "devices": ("cpu:0", "cpu:1")}
        model = alexnet(
            width=net.width, input_size=net.size, classes=net.classes, dropout=DROPOUT, seed=0,
            kernel_initializer="zeros", **settings,
        )  # fmt: skip
    model.load_tensors(weights(net), "the benchmark")
    return model


def training(order: dict[str, Any], form: str, device: str = "cpu") -> Side:
    """A step of training with momentum; AlexNet's `form` is grouped or columns."""
    net = Net(**order)
    model = model_of(net, form, device)
    optimizer = SGD(net.rate, momentum=MOMENTUM, weight_decay=net.decay, decoupled=False)
    x, labels = (get_device(device).asarray(a) for a in images(net))

    def step() -> float:
        loss = ops.softmax_cross_entropy(model.logits(x, training=True), labels).mean()
        loss.backward()
        optimizer.step(model)
        model.zero_grad()
        return float(loss.item())

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


def inference(order: dict[str, Any], form: str = "grouped", device: str = "cpu") -> Side:
    """Predictions for a batch, on the host in the end."""
    net = Net(**order)
    model = model_of(net, form, device)
    x, labels = images(net)
    there = get_device(device).asarray(x)

    def run() -> Any:
        with no_grad():
            return model(there).numpy()

    return lambda: [loss_of(np.log(np.maximum(run(), 1e-30)), labels)], run

"""AlexNet in all of its forms, narrow and small, for tests that hold one against another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from gpukit import models, optimizers
from gpukit.core.settings import training_mode
from gpukit.model.functional import Model

SIZE, CLASSES, BATCH = 67, 7, 4
HE = {"kernel_initializer": "he_normal", "first_initializer": "he_normal"}

GROUPED = {"columns": 1, "groups": True}
FORMS: dict[str, dict[str, Any]] = {
    "grouped": {**GROUPED, "devices": ("cpu",)},
    "one device": {"devices": ("cpu", "cpu")},
    "twins": {"devices": ("cpu:0", "cpu:1")},
    "b first": {"devices": ("cpu:1", "cpu:0")},
    "emu": {"devices": ("emu:0", "emu:1")},
}


def narrow(dtype: str = "float64", **settings: Any) -> Model:
    """A form of AlexNet with 4, 8, 12, 12, 8 maps and 128, 128 units a column, compiled."""
    model = models.alexnet(
        width=1 / 16,
        classes=CLASSES,
        input_size=SIZE,
        dtype=dtype,
        **{**HE, "seed": 5, **settings},
    )
    sgd = optimizers.SGD(0.05, momentum=0.9, weight_decay=5e-4, decoupled=False)
    model.compile(sgd, "sparse_categorical_crossentropy", ["accuracy"])
    return model


def samples(dtype: str = "float64", count: int = BATCH) -> tuple[np.ndarray, np.ndarray]:
    """Images (count, 67, 67, 3) and labels."""
    rng = np.random.default_rng(count)
    return rng.standard_normal((count, SIZE, SIZE, 3)).astype(dtype), rng.integers(0, 7, count)


def write_checkpoint(path: Path, dtype: str = "float64") -> dict[str, np.ndarray]:
    """A checkpoint of the grouped form in the middle of training; its parameters."""
    model = narrow(dtype, **FORMS["grouped"])
    rng = np.random.default_rng(1)
    for layer in model.layers:
        layer.set_weights([w + 0.05 * rng.standard_normal(w.shape) for w in layer.get_weights()])
    for _ in range(3):
        model.train_on_batch(*samples(dtype))
    model.save(path)
    return {p.name: p.numpy().copy() for p in model.parameters}


def loss_and_gradients(model: Model, x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """The loss of one batch in training, under "loss", and the gradient of every parameter."""
    with training_mode():
        outputs = model.for_loss(model.to_device(x))
        loss = model.training_loss.per_sample(y, outputs).mean()
    model.zero_grad()
    loss.backward()
    gradients = {}
    for parameter in model.parameters:
        assert parameter.grad is not None, f"{parameter.name} has no gradient"
        gradients[parameter.name] = parameter.grad.numpy().copy()
    model.zero_grad()
    return {"loss": np.asarray(loss.item()), **columns_joined(gradients)}


def columns_joined(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """conv1a/kernel and conv1b/kernel side by side as conv1/kernel; what is whole as it is."""
    joined = {}
    for name, array in arrays.items():
        layer, _, short = name.partition("/")
        if layer.endswith("a"):
            joined[f"{layer[:-1]}/{short}"] = np.concatenate(
                [array, arrays[f"{layer[:-1]}b/{short}"]], -1
            )
        elif not layer.endswith("b"):
            joined[name] = array
    return joined


def assert_agree(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray], bound: float) -> None:
    """Each array within `bound` of the other, as a fraction of the largest value in it."""
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        error = np.abs(ours[name].astype(np.float64) - array).max()
        assert error <= bound * np.abs(array).max(), f"{name}: {error} of {np.abs(array).max()}"

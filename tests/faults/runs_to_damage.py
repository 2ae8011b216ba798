"""Small runs and data sets that tests of damaged files begin with, each made once."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import data_on_disk
import numpy as np

from gpukit import layers
from gpukit.models import Model, Sequential

IMAGE = (12, 12)
write_set = partial(data_on_disk.write_set, train=30, test=10, size=IMAGE)


def write_models(folder: Path) -> list[Path]:
    """Checkpoints of models that between them have most kinds of layers and of training state."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(4)
    x, y = rng.random((8, *IMAGE, 1), np.float32), rng.integers(0, 10, 8)
    chain = Sequential(
        [
            layers.Conv2D(4, 3, padding="same", input_shape=(*IMAGE, 1), activation="relu",
                          kernel_regularizer="l2", algo="im2col"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(2),
            layers.Dropout(0.2),
            layers.Flatten(),
            layers.Dense(10, activation="softmax", kernel_constraint="max_norm"),
        ],
        seed=1,
    )  # fmt: skip
    a = layers.Input((*IMAGE, 1))
    b = layers.Conv2D(4, 3, padding=1, name="b")(a)
    c = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=4)(a)
    d = layers.LocalResponseNormalization()(layers.Add()([b, c]))
    e = layers.Concatenate()([layers.AveragePooling2D(3, 2)(d), layers.MaxPooling2D(3, 2)(b)])
    out = layers.Dense(10, activation="softmax")(layers.GlobalAveragePooling2D()(e))
    made = []
    for name, model, optimizer in (
        ("chain", chain, "adam"),
        ("graph", Model(a, out, seed=2), "sgd"),
    ):
        model.compile(optimizer, "sparse_categorical_crossentropy", ["accuracy"])
        model.fit(x, y, epochs=2, batch_size=4, validation_data=(x, y), verbose=0)
        model.class_names = tuple(f"class {i}" for i in range(10))
        model.save(folder / f"{name}.safetensors")
        made.append(folder / f"{name}.safetensors")
    return made

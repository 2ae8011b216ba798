"""Small runs and data sets that tests of damaged files begin with, each made once."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gpukit import layers
from gpukit.data.idx import write_idx
from gpukit.data.sources import IDX_NAMES
from gpukit.models import Model, Sequential

IMAGE = (12, 12)


def write_set(folder: Path, train: int = 30, test: int = 10, classes: int = 10) -> Path:
    """Four IDX files of random grey images."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for name, count in zip(IDX_NAMES, (train, train, test, test)):
        shape = (count, *IMAGE) if "images" in name else (count,)
        values = rng.integers(0, 256, shape) if "images" in name else np.arange(count) % classes
        with (folder / name).open("wb") as file:
            write_idx(file, values.astype(np.uint8))
    return folder


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

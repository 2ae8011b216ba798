# ruff: noqa: E501  (tables)
"""Every public function, constructor and method with an argument that works, and what to put there.

`calls()` lists them as (name, function, good arguments by name); `VALUES` are what nobody meant.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import gpukit
from gpukit import (
    callbacks,
    constraints,
    data,
    initializers,
    layers,
    losses,
    metrics,
    models,
    ops,
    optimizers,
    regularizers,
    schedules,
    utils,
)

rng = np.random.default_rng(0)


def array(*shape: int) -> np.ndarray:
    return rng.uniform(0.1, 0.9, shape).astype(np.float32)


X = array(2, 4, 4, 4)
M = array(3, 5)
MASKED = np.ma.masked_array(array(2, 4, 4, 4), mask=True)

VALUES: dict[str, Any] = {
    "None": None, "-1": -1, "0": 0, "2.5": 2.5, "'x'": "x", "''": "", "[]": [], "{}": {},
    "object": object(), "nan": float("nan"), "inf": float("inf"), "-inf": float("-inf"),
    "10**30": 10**30, "True": True, "b'x'": b"x", "1j": 1j, "'32'": "32", "np.float64": np.float64(3),
    "pair of texts": ("a", "b"), "nested": [[[]]], "ragged": [[1.0, 2.0], [3.0]], "triple": (1, 2, 3),
    "np.nan array": np.full((2, 4, 4, 4), np.nan, np.float32),
    "objects": np.array([None, "a"], object), "texts": np.array(["a", "b"]),
    "complex": array(2, 4, 4, 4).astype(complex), "dates": np.array(["2020-01-01"], "datetime64[D]"),
    "records": np.zeros(2, [("a", "i4"), ("b", "f4")]), "masked": MASKED,
    "int8": np.ones((2, 4, 4, 4), np.int8), "bool array": np.ones((2, 4, 4, 4), bool),
    "float64": np.ones((2, 4, 4, 4)), "float16": np.ones((2, 4, 4, 4), np.float16),
    "scalar array": np.float32(1).reshape(()), "empty": np.zeros((0,), np.float32),
    "vector": array(7), "rank 6": array(1, 1, 1, 1, 1, 1), "twin": gpukit.get_device("cpu:1").asarray(X),
    "function": lambda *a, **k: None, "class": dict, "module": np, "Tensor": gpukit.Tensor(array(7)),
    "set": {1, 2}, "range": range(3), "slice": slice(1), "Ellipsis": ..., "generator": (i for i in ()),
}  # fmt: skip

OPS: dict[str, dict[str, Any]] = {
    **{name: {"x": M} for name in (
        *ops.activation.__all__, "absolute", "exp", "log", "log_softmax", "negative", "softmax", "sqrt",
        "square", "flatten", "all_finite")},
    **{name: {"x": M, "y": M} for name in (
        "add", "divide", "maximum", "minimum", "multiply", "power", "subtract")},
    **{name: {"x": M, "axis": 1, "keepdims": False} for name in ("sum", "mean", "max")},
    "argmax": {"x": M, "axis": 1},
    "elu": {"x": M, "alpha": 1.0},
    "leaky_relu": {"x": M, "slope": 0.1},
    "avg_pool2d": {"x": X, "window": 2, "stride": 2, "padding": 0},
    "max_pool2d": {"x": X, "window": 2, "stride": 2, "padding": 0},
    "global_avg_pool2d": {"x": X},
    "batch_norm": {"x": X, "gamma": array(4), "beta": array(4), "epsilon": 1e-3},
    "batch_norm_inference": {"x": X, "gamma": array(4), "beta": array(4), "mean": array(4),
                             "variance": array(4), "epsilon": 1e-3},
    "bias_relu_lrn_pool": {"x": X, "b": array(4), "relu": True, "size": 3, "alpha": 1e-4, "beta": 0.75,
                           "k": 1.0, "groups": 1, "window": 2, "stride": 2, "padding": 0},
    "lrn": {"x": X, "size": 3, "alpha": 1e-4, "beta": 0.75, "k": 1.0, "groups": 1},
    "broadcast_to": {"x": array(1, 5), "shape": (3, 5)},
    "concat": {"arrays": [M, M], "axis": 0},
    "conv2d": {"x": X, "w": array(3, 3, 4, 6), "b": array(6), "stride": 1, "padding": 1, "dilation": 1,
               "groups": 1, "activation": "relu"},
    "dense": {"x": M, "w": array(5, 2), "b": array(2), "activation": None},
    "matmul": {"a": M, "b": array(5, 2)},
    "dropout": {"x": M, "rate": 0.5, "seed": 0, "layer": 0, "step": 0, "sample": 0, "classic": False},
    "index": {"x": M, "key": 1},
    "pad": {"x": M, "widths": [(1, 1), (0, 0)], "value": 0.0},
    "reshape": {"x": M, "shape": (5, 3)},
    "split": {"x": M, "sections": 5, "axis": 1},
    "transpose": {"x": M, "axes": (1, 0)},
    "softmax_cross_entropy": {"logits": M, "targets": np.array([0, 1, 2])},
    "squared_error": {"y": M, "t": M},
    "to_device": {"x": M, "device": "cpu:1"},
}  # fmt: skip

# What constructors need beside their defaults.
REQUIRED: dict[str, Any] = {
    "filters": 2, "kernel_size": 3, "units": 3, "pool_size": 2, "rate": 0.5, "target_shape": (8, 8),
    "activation": "relu", "device": "cpu", "shape": (4,), "learning_rate": 0.1, "every": 2,
    "decay_steps": 10, "decay_rate": 0.5, "boundaries": [2], "values": [0.1, 0.2], "total_steps": 10,
    "filename": "log.csv", "filepath": "best.safetensors", "schedule": lambda epoch: 0.1, "steps": 10,
    "initial_learning_rate": 0.1, "power": 1.0, "end": 0.0, "alpha": 0.1, "loss": "mse", "dims": (1, 0),
    "part": None, "aliases": {}, "warmup": 2, "after": 0.1, "first": 0.1,
}  # fmt: skip

# Those that say where something goes or comes from, or are checked when a model is called.
SKIPPED = {"name", "verbose", "aliases"}

FAMILIES = (callbacks, constraints, initializers, layers, losses, metrics, optimizers, regularizers,
            schedules)  # fmt: skip


def model() -> Any:
    made = models.Sequential(
        [layers.Flatten(input_shape=(4, 4, 4)), layers.Dense(3, activation="softmax")],
        device="cpu",
        seed=0,
    )
    made.compile("sgd", "sparse_categorical_crossentropy", ["accuracy"])
    return made


def methods() -> Iterator[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """Methods of models and Tensors, each of an object of its own."""
    y = np.array([0, 1])
    fit = {"x": X, "y": y, "batch_size": 2, "epochs": 1, "callbacks": [], "validation_split": 0.0,
           "validation_data": None, "shuffle": True, "initial_epoch": 0, "accumulate": 1,
           "replay": 0}  # fmt: skip
    for name, given in {
        "fit": fit,
        "evaluate": {"x": X, "y": y, "batch_size": 2},
        "predict": {"x": X, "batch_size": 2},
        "train_on_batch": {"x": X, "y": y},
        "__call__": {"x": X, "training": None},
        "logits": {"x": X, "training": None},
        "compile": {"optimizer": "sgd", "loss": "mse", "metrics": ["accuracy"]},
        "set_weights": {"weights": [array(64, 3), array(3)]},
        "get_layer": {"name": "dense"},
        "add": {"layer": layers.Dense(2)},
        "build": {"input_shape": (None, 4)},
        "load": {"path": "none.safetensors"},
        "save": {"path": "some.safetensors"},
    }.items():
        made = models.Sequential(device="cpu") if name in ("add", "build") else None
        if name == "build":
            made = models.Sequential([layers.Dense(2)], device="cpu")
        yield f"Sequential.{name}", _bound(made, name), given
    tensor = {
        "sum": {"axis": 0, "keepdims": False},
        "mean": {"axis": 0, "keepdims": False},
        "max": {"axis": 0, "keepdims": False},
        "reshape": {"shape": (5, 3)},
        "to": {"device": "cpu:1"},
        "__getitem__": {"key": 0},
        "assign": {"value": M},
        "backward": {"grad": M},
        **{
            f"__{n}__": {"other": M}
            for n in ("add", "radd", "sub", "mul", "truediv", "pow", "rpow")
        },
        "__matmul__": {"other": array(5, 2)},
    }
    for name, given in tensor.items():
        yield f"Tensor.{name}", _of_tensor(name), given


def _bound(made: Any, name: str) -> Callable[..., Any]:
    return lambda **given: getattr(model() if made is None else made, name)(**given)


def _of_tensor(name: str) -> Callable[..., Any]:
    def call(**given: Any) -> Any:
        tensor = gpukit.Tensor(M, requires_grad=True)
        if name == "backward":
            tensor = tensor * 2.0
        return getattr(tensor, name)(*given.values())

    return call


def calls() -> list[tuple[str, Callable[..., Any], dict[str, Any]]]:
    """All of them."""
    found: list[tuple[str, Callable[..., Any], dict[str, Any]]] = []
    for name in ops.__all__:
        given = OPS[name] if name in ("split", "concat", "pad", "to_device", "flatten", "all_finite") else (
            {**OPS[name], "algo": None})  # fmt: skip
        found.append((f"ops.{name}", getattr(ops, name), given))
    for family in FAMILIES:
        for name in family.__all__ if hasattr(family, "__all__") else vars(family):
            made = getattr(family, name)
            if (
                not inspect.isclass(made)
                or name.startswith("_")
                or not made.__module__.startswith("gpukit")
            ):
                continue
            if not made.__module__.startswith(family.__name__):
                continue
            signature = inspect.signature(made).parameters.values()
            given = {
                p.name: REQUIRED.get(p.name) if p.default is p.empty else p.default
                for p in signature
                if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
            }
            found.append((f"{family.__name__.removeprefix('gpukit.')}.{name}", made, given))
        if hasattr(family, "get"):
            found.append(
                (f"{family.__name__.removeprefix('gpukit.')}.get", family.get, {"spec": None})
            )
    found += methods()
    images = data.load("fashion-mnist-small", limit=8)
    x, y = images.train_images, images.train_labels
    found += [
        ("Tensor", gpukit.Tensor, {"array": M, "requires_grad": False}),
        ("get_device", gpukit.get_device, {"spec": "cpu"}),
        ("device_of", lambda array: gpukit.device_of(array), {"array": M}),
        ("to_host", gpukit.to_host, {"array": M}),
        ("load_kernel", gpukit.load_kernel, {"path": "none.py"}),
        ("data.load", data.load, {"name_or_dir": "fashion-mnist-small", "limit": 8}),
        ("data.batches", lambda **k: next(data.batches(**k), None),
         {"x": x, "y": y, "batch_size": 4, "shuffle": True, "seed": 0, "epoch": 0, "start": 0}),
        ("data.batch_count", data.batch_count, {"count": 10, "batch_size": 4}),
        ("models.lenet5", models.lenet5, {"input_shape": (28, 28, 1), "classes": 10, "device": "cpu",
                                          "dtype": "float32", "seed": 0}),
        ("models.load_model", models.load_model, {"path": "none.safetensors", "device": None,
                                                  "devices": None}),
        ("models.Sequential", models.Sequential, {"layers": None, "device": "cpu", "dtype": "float32",
                                                  "seed": 0}),
        ("models.get", models.get, {"name": "lenet5"}),
        ("utils.to_categorical", utils.to_categorical, {"labels": [0, 1], "num_classes": 2,
                                                        "dtype": "float32"}),
        ("utils.set_random_seed", utils.set_random_seed, {"seed": 0}),
        ("layers.Dense.__call__", lambda **k: layers.Dense(3)(**k), {"inputs": M, "training": None}),
        ("layers.Conv2D.__call__", lambda **k: layers.Conv2D(3, 3)(**k), {"inputs": X,
                                                                            "training": None}),
        ("layers.Add.__call__", lambda **k: layers.Add()(**k), {"inputs": [M, M], "training": None}),
        ("layers.Input", layers.Input, {"shape": (4,)}),
        ("layers.Dense.build", lambda **k: layers.Dense(3).build(**k), {"input_shape": (None, 4),
                                                                         "device": "cpu",
                                                                         "dtype": None}),
        ("optimizers.SGD.step", optimizers.SGD().step, {"target": []}),
    ]  # fmt: skip
    for name in ("categorical_crossentropy", "mean_squared_error", "binary_crossentropy", "hinge"):
        found.append((f"losses.{name}", getattr(losses, name), {"y_true": M, "y_pred": M}))
    found.append(("losses.sparse_categorical_crossentropy", losses.sparse_categorical_crossentropy,
                  {"y_true": np.array([0, 1, 2]), "y_pred": M}))  # fmt: skip
    for name in ("Accuracy", "TopKAccuracy"):
        found.append((f"metrics.{name}.__call__", getattr(metrics, name)(),
                      {"y_true": np.array([0, 1, 2]), "y_pred": M}))  # fmt: skip
    return found


def wrong_calls() -> list[tuple[str, str, str]]:
    """(call, argument, value), by name."""
    return [
        (name, argument, value)
        for name, _, given in calls()
        for argument in given
        if argument not in SKIPPED
        for value in VALUES
    ]

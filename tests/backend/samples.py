"""One small call of every primitive, for tests that hold for all of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from cases import values

from gpukit.primitives import Conv, Response, Window


class Sample(NamedTuple):
    """Arguments of one call: arrays, and settings by name."""

    arrays: tuple[Any, ...]
    settings: dict[str, Any]


WINDOW = {"conv": Conv(stride=(2, 1), padding=((1, 0), (1, 2)), dilation=(1, 2), groups=2)}
POOL = {"window": Window((3, 2), stride=(2, 1), padding=((1, 0), (0, 1)))}
LRN = {"response": Response(size=3, alpha=0.5, beta=0.75, k=2.0, groups=2)}
PLACE = {"seed": 1, "layer": 2, "step": 3}
LABELS = np.array([2, 0])


def bytes_of(*shape: int) -> np.ndarray:
    """Images as they are stored."""
    return np.random.default_rng(shape).integers(0, 256, shape).astype(np.uint8)


def samples(dtype: Any, batch: int = 2) -> dict[str, Sample]:
    """A call of each primitive in the registry, by name: images of `batch` × 5 × 6 × 4."""

    def make(*shape: int) -> np.ndarray:
        return values(shape, shape, dtype)

    x, w, b = make(batch, 5, 6, 4), make(3, 2, 2, 6), make(6)
    y, pooled = make(batch, 2, 7, 6), make(batch, 2, 6, 4)  # what WINDOW and POOL make of x
    index = np.random.default_rng(0).integers(0, 6, pooled.shape).astype(np.uint8)
    rows, weights, out = make(batch, 3), make(3, 5), make(batch, 5)
    gamma, mean, variance = make(4), make(4), np.abs(make(4))
    positive, loss = np.abs(rows) + dtype(0.5), make(batch)
    flat = [make(7) for _ in range(4)]
    roots = np.abs(make(7))
    rates = {"lr": 0.1, "weight_decay": 0.01}
    labels = LABELS[:batch]
    return {
        "conv2d": Sample((x, w, b), WINDOW | {"activation": "tanh"}),
        "conv2d_input_grad": Sample((y, w), WINDOW | {"input_shape": x.shape}),
        "conv2d_weight_grad": Sample((x, y), WINDOW | {"kernel_shape": w.shape}),
        "bias_grad": Sample((y,), {}),
        "max_pool2d": Sample((x,), POOL),
        "max_pool2d_grad": Sample((pooled, index), POOL | {"input_shape": x.shape}),
        "avg_pool2d": Sample((x,), POOL),
        "avg_pool2d_grad": Sample((pooled,), POOL | {"input_shape": x.shape}),
        "global_avg_pool2d": Sample((x,), {}),
        "global_avg_pool2d_grad": Sample((make(batch, 4),), {"input_shape": x.shape}),
        "dense": Sample((rows, weights, make(5)), {"activation": "relu"}),
        "dense_input_grad": Sample((out, weights), {}),
        "dense_weight_grad": Sample((rows, out), {}),
        "matmul": Sample((rows, weights), {}),
        **{
            name: Sample((x,), {})
            for name in ("relu", "sigmoid", "tanh", "softplus", "softmax", "log_softmax")
        },
        **{
            f"{name}_grad": Sample((x, make(*x.shape[::-1]).transpose()), {})
            for name in ("relu", "sigmoid", "tanh", "softplus", "softmax", "log_softmax")
        },
        "leaky_relu": Sample((x,), {"slope": 0.1}),
        "leaky_relu_grad": Sample((x, x), {"slope": 0.1}),
        "elu": Sample((x,), {"alpha": 0.5}),
        "elu_grad": Sample((x, x), {"alpha": 0.5}),
        "softmax_cross_entropy": Sample((rows, labels), {}),
        "softmax_cross_entropy_grad": Sample((loss, positive, labels), {}),
        "squared_error": Sample((x, x[:, ::-1]), {}),
        "squared_error_grad": Sample((loss, x, x[:, ::-1]), {}),
        "batch_norm": Sample((x, gamma, mean), {"epsilon": 1e-3}),
        "batch_norm_inference": Sample((x, gamma, mean, mean, variance), {"epsilon": 1e-3}),
        "batch_norm_grad": Sample((x, x, gamma, mean, variance), {"epsilon": 1e-3}),
        "lrn": Sample((x,), LRN),
        "lrn_grad": Sample((x, x), LRN),
        "bias_relu_lrn_pool": Sample((x, gamma), LRN | POOL | {"relu": True}),
        "bias_relu_lrn_pool_grad": Sample((pooled, x, gamma, index), LRN | POOL | {"relu": True}),
        "normalise_images": Sample(
            (bytes_of(batch, 5, 6, 4), mean, variance, make(batch, 4)), {"dtype": dtype}
        ),
        "philox": Sample((x,), {"shape": (3, 5), **PLACE}),
        "dropout": Sample((x,), {"rate": 0.5, "scale": 2.0, **PLACE}),
        **{
            name: Sample((positive, np.abs(make(3)) + dtype(0.5)), {})
            for name in ("add", "subtract", "multiply", "divide", "power", "maximum", "minimum")
        },
        **{
            name: Sample((positive,), {})
            for name in ("negative", "exp", "log", "sqrt", "square", "absolute", "sign")
        },
        "reduce_sum": Sample((x,), {"axis": (0, 2), "keepdims": False}),
        "reduce_mean": Sample((x,), {"axis": None, "keepdims": True}),
        "reduce_max": Sample((x,), {"axis": (1, 3), "keepdims": False}),
        "argmax": Sample((x,), {"axis": 3}),
        "all_finite": Sample((x,), {}),
        "reshape": Sample((x,), {"shape": (-1, 4)}),
        "transpose": Sample((x,), {"axes": (3, 0, 2, 1)}),
        "concat": Sample(([x, x[:, 1:]],), {"axis": 1}),
        "split": Sample((x,), {"sections": (1, 3), "axis": 3}),
        "pad": Sample((rows,), {"widths": ((0, 0), (1, 2)), "value": 0.5}),
        "index": Sample((x,), {"key": (slice(None), [0, 2, 0])}),
        "index_grad": Sample(
            (make(batch, 3, 6, 4),), {"key": (slice(None), [0, 2, 0]), "input_shape": x.shape}
        ),
        "broadcast_to": Sample((rows,), {"shape": (4, batch, 3)}),
        "sgd_update": Sample(tuple(flat[:3]), {**rates, "momentum": 0.9, "nesterov": True}),
        "adam_update": Sample(
            (flat[0], flat[1], roots, flat[2]),
            {**rates, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-7, "step": 3},
        ),
        "rmsprop_update": Sample(
            (flat[0], roots, flat[1], flat[2]),
            {**rates, "rho": 0.9, "epsilon": 1e-7, "momentum": 0.5},
        ),
        "adagrad_update": Sample((flat[0], roots, flat[1]), {**rates, "epsilon": 1e-7}),
    }


def wide_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings with NumPy float64 scalars, which must not promote float32 arrays."""

    def wide(value: Any) -> Any:
        if isinstance(value, Response):
            return Response(*map(wide, value))
        return np.float64(value) if isinstance(value, float) else value

    return {name: wide(value) for name, value in settings.items()}

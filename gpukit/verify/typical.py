"""One usual call of every primitive: what a look at its kernels runs.

Shapes are those of layers in the middle of a network, large enough for whole tiles and many blocks.
Where there is none here, or a kernel does not take it, the largest of random cases stands in.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.primitives.normalisation import Response
from gpukit.primitives.windows import Conv, Window
from gpukit.verify.cases import MAKERS, Case
from gpukit.verify.coverage import Target
from gpukit.verify.supported import drawn

_TRIES = 40
_MAP = (8, 28, 28, 64)  # N, H, W, C
_LAYER = {"conv": Conv(padding=((1, 1), (1, 1)))}
_KERNEL = (3, 3, 64, 128)
_WINDOW = {"window": Window((2, 2), (2, 2))}
_HALF = (8, 14, 14, 64)
_RESPONSE = {"response": Response(size=5, alpha=5e-4, beta=0.75, k=2.0, groups=2)}
_NORM2 = (8, 27, 27, 256)  # AlexNet's second response normalisation, pooled to
_POOL2 = (8, 13, 13, 256)
_FUSED = {"relu": True, "window": Window((3, 3), (2, 2)), **_RESPONSE}


def typical(target: Target, dtype: str = "float32") -> Case:
    """The call for a target, in `dtype`; arrays hold numbers that any kernel can work with."""
    call = OF_ONE.get(str(target)) or CALLS.get(target.primitive)
    if call:
        made = call()
        made.arrays = [_cast(value, np.dtype(dtype)) for value in made.arrays]
        if "dtype" in made.settings:
            made.settings["dtype"] = dtype
        if target.implementation.takes(tuple(made.arrays), made.settings):
            return made
    if target.primitive not in MAKERS:
        return Case([])
    first = int(dtype == "float64")  # odd cases are in it
    cases = [drawn(target, 0, number) for number in range(first, _TRIES, 2)]
    return max((c for c in cases if c is not None), key=_size, default=Case([]))


def _cast(value: Any, dtype: np.dtype) -> Any:
    if isinstance(value, list):
        return [_cast(v, dtype) for v in value]
    return value.astype(dtype) if value.dtype.kind == "f" else value


def _size(made: Case) -> int:
    flat = [a for v in made.arrays for a in (v if isinstance(v, list) else [v])]
    return sum(a.size for a in flat if isinstance(a, np.ndarray))


def _a(*shape: int) -> np.ndarray:
    return np.resize(np.linspace(0.1, 0.9, 97, dtype=np.float32), shape)


def _bytes(*shape: int) -> np.ndarray:
    return np.resize(np.arange(256, dtype=np.uint8), shape)


def _call(*shapes: tuple[int, ...], **settings: Any) -> Callable[[], Case]:
    return lambda: Case([_a(*shape) for shape in shapes], settings)


def _labels(rows: int, classes: int) -> np.ndarray:
    return (np.arange(rows) % classes).astype(np.int64)


_N = (math.prod(_MAP) << 2,)  # more blocks than a launcher that caps its grid would give
_BN = {"epsilon": 1e-3}
_ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-7, "step": 3, "weight_decay": 0.0}

_UNARY = ("absolute", "exp", "log", "negative", "relu", "sigmoid", "sign", "softplus", "sqrt",
          "square", "tanh")  # fmt: skip

CALLS: dict[str, Callable[[], Case]] = {
    "conv2d": _call(_MAP, _KERNEL, (128,), **_LAYER, activation="relu"),
    "conv2d_input_grad": _call((*_MAP[:3], 128), _KERNEL, input_shape=_MAP, **_LAYER),
    "conv2d_weight_grad": _call(_MAP, (*_MAP[:3], 128), kernel_shape=_KERNEL, **_LAYER),
    "bias_grad": _call((*_MAP[:3], 128)),
    "dense": _call((128, 1024), (1024, 512), (512,), activation="relu"),
    "dense_input_grad": _call((128, 512), (1024, 512)),
    "dense_weight_grad": _call((128, 1024), (128, 512)),
    "matmul": _call((512, 512), (512, 512)),
    "max_pool2d": _call(_MAP, **_WINDOW),
    "max_pool2d_grad": lambda: Case(
        [_a(*_HALF), np.zeros(_HALF, np.uint8)], {"input_shape": _MAP, **_WINDOW}
    ),
    "avg_pool2d": _call(_MAP, **_WINDOW),
    "avg_pool2d_grad": _call(_HALF, input_shape=_MAP, **_WINDOW),
    "global_avg_pool2d": _call((32, 14, 14, 256)),
    "global_avg_pool2d_grad": _call((32, 256), input_shape=(32, 14, 14, 256)),
    "softmax": _call((256, 1000)),
    "softmax_grad": _call((256, 1000), (256, 1000)),
    "log_softmax": _call((256, 1000)),
    "log_softmax_grad": _call((256, 1000), (256, 1000)),
    "softmax_cross_entropy": lambda: Case([_a(256, 1000), _labels(256, 1000)]),
    "softmax_cross_entropy_grad": lambda: Case([_a(256), _a(256, 1000), _labels(256, 1000)]),
    "squared_error": _call((256, 1000), (256, 1000)),
    "squared_error_grad": _call((256,), (256, 1000), (256, 1000)),
    "lrn": _call(_NORM2, **_RESPONSE),
    "lrn_grad": _call(_NORM2, _NORM2, **_RESPONSE),
    "bias_relu_lrn_pool": _call(_NORM2, (256,), **_FUSED),
    "bias_relu_lrn_pool_grad": lambda: Case(
        [_a(*_POOL2), _a(*_NORM2), _a(256), np.full(_POOL2, 4, np.uint8)], dict(_FUSED)
    ),
    "normalise_images": lambda: Case(
        [_bytes(32, 227, 227, 3), _a(3), _a(3), _a(32, 3)], {"dtype": "float32"}
    ),
    "batch_norm": _call(_MAP, (64,), (64,), **_BN),
    "batch_norm_grad": _call(_MAP, _MAP, (64,), (64,), (64,), **_BN),
    "batch_norm_inference": _call(_MAP, (64,), (64,), (64,), (64,), **_BN),
    "argmax": _call((256, 1000), axis=1),
    "reduce_sum": _call((*_MAP[:3], 128), axis=(0, 1, 2), keepdims=False),
    "reduce_mean": _call((256, 1000), axis=(1,), keepdims=False),
    "reduce_max": _call((256, 1000), axis=(1,), keepdims=False),
    "reshape": _call(_MAP, shape=(8, math.prod(_MAP[1:]))),
    "transpose": _call((8, 512, 256), axes=(0, 2, 1)),
    "concat": lambda: Case([[_a(*_MAP), _a(*_MAP)]], {"axis": 3}),
    "split": _call((*_MAP[:3], 128), sections=(64, 64), axis=3),
    "pad": _call(_MAP, widths=((0, 0), (1, 1), (1, 1), (0, 0)), value=0.0),
    "broadcast_to": _call((64,), shape=_MAP),
    "index": lambda: Case([_a(4096, 256)], {"key": (_labels(2048, 4096)[::-1].tolist(),)}),
    "index_grad": lambda: Case(
        [_a(2048, 256)], {"key": (_labels(2048, 512),), "input_shape": (4096, 256)}
    ),
    "dropout": _call(_N, rate=0.5, seed=1, layer=0, step=0, scale=2.0),
    "philox": _call((1,), shape=_N, seed=1, layer=0, step=0),
    "all_finite": _call(_N),
    "sgd_update": _call(_N, _N, _N, lr=0.1, momentum=0.9, weight_decay=0.0, nesterov=False),
    "adam_update": _call(_N, _N, _N, _N, **_ADAM),
    "adagrad_update": _call(_N, _N, _N, lr=0.1, epsilon=1e-7, weight_decay=0.0),
    "rmsprop_update": _call(
        _N, _N, _N, _N, lr=0.1, rho=0.9, epsilon=1e-7, momentum=0.9, weight_decay=0.0
    ),
    "elu": _call(_N, alpha=1.0),
    "elu_grad": _call(_N, _N, alpha=1.0),
    "leaky_relu": _call(_N, slope=0.1),
    "leaky_relu_grad": _call(_N, _N, slope=0.1),
    **dict.fromkeys(
        ("add", "subtract", "multiply", "divide", "maximum", "minimum", "power"), _call(_N, _N)
    ),
    **dict.fromkeys(("relu_grad", "sigmoid_grad", "tanh_grad", "softplus_grad"), _call(_N, _N)),
    **dict.fromkeys(_UNARY, _call(_N)),
}

# AlexNet's conv1 on a smaller image; MobileNet's layers, a filter a channel.
_FIRST = {"conv": Conv(stride=(4, 4))}
_IMAGE, _SEEN, _FILTERS = (4, 99, 99, 3), (4, 23, 23, 96), (11, 11, 3, 96)
_EACH = {"conv": Conv(padding=((1, 1), (1, 1)), groups=64)}
_OWN = (3, 3, 1, 64)

# For implementations that do not take the usual call of their primitive.
OF_ONE: dict[str, Callable[[], Case]] = {
    "conv2d:first": _call(_IMAGE, _FILTERS, (96,), **_FIRST, activation="relu"),
    "conv2d_weight_grad:first": _call(_IMAGE, _SEEN, kernel_shape=_FILTERS, **_FIRST),
    "conv2d:depthwise": _call(_MAP, _OWN, (64,), **_EACH, activation="relu"),
    "conv2d_input_grad:depthwise": _call(_MAP, _OWN, input_shape=_MAP, **_EACH),
    "conv2d_weight_grad:depthwise": _call(_MAP, _MAP, kernel_shape=_OWN, **_EACH),
}

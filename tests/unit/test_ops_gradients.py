"""Every differentiable operation against finite differences in float64."""

from collections.abc import Callable

import numpy as np
import pytest

from gpukit import ops
from gpukit.testing import check_gradients

RNG = np.random.default_rng(7)


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape)


def apart(*shape: int) -> np.ndarray:
    """Distinct values far from 0 and from one another: no kink within a step."""
    size = int(np.prod(shape))
    return (RNG.permutation(size) - size / 2 + 0.5).reshape(shape) / 3


CASES: dict[str, tuple[Callable, tuple[np.ndarray, ...]]] = {
    "add": (ops.add, (normal(3, 4), normal(4))),
    "add a scalar": (lambda x: 2.0 + x, (normal(3),)),
    "subtract": (ops.subtract, (normal(3, 1), normal(1, 4))),
    "multiply": (ops.multiply, (normal(2, 3, 4), normal(3, 1))),
    "divide": (ops.divide, (normal(3, 4), apart(4))),
    "power by a tensor": (ops.power, (np.abs(normal(3, 4)) + 0.5, normal(4))),
    "power by a number": (lambda x: x**3, (normal(3, 4),)),
    "number to a power": (lambda x: ops.power(2.0, x), (normal(3),)),
    "maximum": (ops.maximum, (apart(3, 4), apart(3, 4) + 0.1)),
    "minimum with a number": (lambda x: ops.minimum(x, 0.5), (apart(3, 4),)),
    "negative": (ops.negative, (normal(3),)),
    "exp": (ops.exp, (normal(3, 4),)),
    "log": (ops.log, (np.abs(normal(3, 4)) + 0.5,)),
    "sqrt": (ops.sqrt, (np.abs(normal(3, 4)) + 0.5,)),
    "square": (ops.square, (normal(3, 4),)),
    "absolute": (ops.absolute, (apart(3, 4),)),
    "sum": (lambda x: x.sum(), (normal(3, 4),)),
    "sum over an axis": (lambda x: x.sum(axis=(0, -1)), (normal(3, 4, 2),)),
    "mean": (lambda x: x.mean(axis=1, keepdims=True), (normal(3, 4),)),
    "max": (lambda x: x.max(axis=0), (apart(3, 4),)),
    "reshape": (lambda x: x.reshape(2, -1), (normal(3, 4),)),
    "flatten": (ops.flatten, (normal(3, 2, 2),)),
    "transpose": (lambda x: x.transpose(1, 2, 0), (normal(2, 3, 4),)),
    "T": (lambda x: x.T, (normal(2, 3),)),
    "concat": (lambda x, y: ops.concat([x, y], axis=1), (normal(2, 3), normal(2, 2))),
    "concat with itself": (lambda x: ops.concat([x, x], axis=0), (normal(2, 3),)),
    "split": (lambda x: ops.split(x, [1, 3])[1], (normal(2, 4),)),
    "pad": (lambda x: ops.pad(x, ((1, 0), (2, 3)), 7.0), (normal(2, 3),)),
    "index": (lambda x: x[1:, ::2], (normal(3, 5),)),
    "index with repeats": (lambda x: ops.index(x, key=np.array([0, 2, 0])), (normal(3, 2),)),
    "broadcast_to": (lambda x: ops.broadcast_to(x, shape=(4, 3, 2)), (normal(3, 1),)),
    "matmul": (lambda a, b: a @ b, (normal(2, 3), normal(3, 4))),
    "dense": (ops.dense, (normal(3, 4), normal(4, 2), normal(2))),
    "dense with tanh": (
        lambda x, w, b: ops.dense(x, w, b, activation="tanh"),
        (normal(3, 4), normal(4, 2), normal(2)),
    ),
    "dense with relu": (
        lambda x, w: ops.dense(x, w, activation="relu"),
        (normal(3, 4), normal(4, 2)),
    ),
    "conv2d": (
        lambda x, w, b: ops.conv2d(x, w, b, stride=(2, 1), padding=((1, 0), (0, 2))),
        (normal(2, 5, 4, 3), normal(3, 2, 3, 4), normal(4)),
    ),
    "conv2d in groups, dilated": (
        lambda x, w: ops.conv2d(x, w, dilation=2, groups=2, padding="same", activation="sigmoid"),
        (normal(1, 5, 5, 4), normal(3, 3, 2, 2)),
    ),
    "max_pool2d": (lambda x: ops.max_pool2d(x, window=3, stride=2), (apart(1, 5, 5, 2),)),
    "avg_pool2d": (lambda x: ops.avg_pool2d(x, window=2, padding="same"), (normal(1, 5, 3, 2),)),
    "global_avg_pool2d": (ops.global_avg_pool2d, (normal(2, 3, 4, 2),)),
    **{name: (getattr(ops, name), (apart(3, 4),)) for name in ops.activation.__all__},
    "leaky_relu": (lambda x: ops.leaky_relu(x, slope=0.2), (apart(3, 4),)),
    "elu": (lambda x: ops.elu(x, alpha=1.5), (apart(3, 4),)),
    "softmax": (ops.softmax, (normal(3, 4),)),
    "log_softmax": (ops.log_softmax, (normal(3, 4),)),
    "softmax_cross_entropy of classes": (
        lambda x: ops.softmax_cross_entropy(x, np.array([0, 3, 1])),
        (normal(3, 4),),
    ),
    "softmax_cross_entropy of probabilities": (
        lambda x: ops.softmax_cross_entropy(x, np.full((3, 4), 0.25)),
        (normal(3, 4),),
    ),
    "squared_error": (ops.squared_error, (normal(3, 4), normal(3, 4))),
    "batch_norm": (
        lambda x, g, b: ops.batch_norm(x, g, b)[0],
        (normal(3, 2, 2, 4), normal(4), normal(4)),
    ),
    "batch_norm_inference": (
        lambda x, g, b: ops.batch_norm_inference(x, g, b, np.full(4, 0.3), np.full(4, 1.7)),
        (normal(3, 2, 2, 4), normal(4), normal(4)),
    ),
    "lrn": (lambda x: ops.lrn(x, alpha=0.5, k=2.0, groups=2), (normal(2, 2, 2, 6),)),
    "bias_relu_lrn_pool": (
        lambda x, b: ops.bias_relu_lrn_pool(x, b, alpha=0.5, k=2.0, groups=2, window=3, stride=2),
        (normal(2, 5, 5, 6), normal(6)),
    ),
    "dropout": (lambda x: ops.dropout(x, rate=0.4, seed=3), (normal(4, 5),)),
}


@pytest.mark.parametrize("full", [True, False], ids=["jacobian", "projection"])
@pytest.mark.parametrize("name", CASES)
def test_gradient(name: str, full: bool) -> None:
    function, inputs = CASES[name]
    assert check_gradients(function, *inputs, full=full) < 1e-6


def test_every_operation_has_a_case() -> None:
    text = " ".join(CASES)
    without = {"all_finite", "argmax", "to_device", "sum", "mean", "max"}
    assert [name for name in ops.__all__ if name not in without and name not in text] == []


def test_a_wrong_gradient_is_found() -> None:
    from gpukit.autograd import differentiable

    wrong = differentiable(lambda x: (x * x, (lambda g: g * x,)))
    for full in (True, False):
        with pytest.raises(AssertionError, match="backward gives"):
            check_gradients(wrong, normal(3), full=full)


def test_a_nan_gradient_is_found() -> None:
    from gpukit.autograd import differentiable

    broken = differentiable(lambda x: (x * 2, (lambda g: g * np.nan,)))
    for full in (True, False):
        with pytest.raises(AssertionError):
            check_gradients(broken, normal(3), full=full)

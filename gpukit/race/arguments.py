"""The arrays of a problem, from its seed: random normal numbers, because zeros run faster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpukit import primitives as p
from gpukit.race.counts import Problem
from gpukit.race.families import BINARY, FAMILIES

Arrays = list[np.ndarray]
Random = np.random.Generator


def arguments(problem: Problem, seed: int) -> Arrays:
    """The arrays of the call, most of them float32: the same for a seed everywhere.

    Those of an odd seed are not all finite where that is the question.
    """
    made = _MAKERS[FAMILIES[problem.primitive]](problem, np.random.default_rng(seed))
    if problem.primitive == "all_finite" and seed % 2:
        made[0][-1, -1, -1, -1] = np.inf
    return made


def as_passed(problem: Problem, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """The arrays as the primitive takes them: concat's in one list."""
    return (list(arrays),) if problem.primitive == "concat" else tuple(arrays)


def _normal(rng: Random, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def _conv(problem: Problem, rng: Random) -> Arrays:
    n, h, w, c, k, r, s, stride, pad, groups = problem.sizes
    p_, q = ((size + 2 * pad - cells) // stride + 1 for size, cells in ((h, r), (w, s)))
    match problem.primitive:
        case "conv2d":
            return [
                _normal(rng, n, h, w, c),
                _normal(rng, r, s, c // groups, k),
                _normal(rng, k),
            ]
        case "conv2d_input_grad":
            return [_normal(rng, n, p_, q, k), _normal(rng, r, s, c // groups, k)]
    return [_normal(rng, n, h, w, c), _normal(rng, n, p_, q, k)]


def _pool(problem: Problem, rng: Random) -> Arrays:
    n, h, w, c, r, s, stride, pad = problem.sizes
    p_, q = ((size + 2 * pad - cells) // stride + 1 for size, cells in ((h, r), (w, s)))
    if problem.primitive == "bias_relu_lrn_pool":
        return [_normal(rng, n, h, w, c), _normal(rng, c)]
    if not problem.primitive.endswith("_grad"):
        return [_normal(rng, n, h, w, c)]
    gy = _normal(rng, n, p_, q, c)
    if problem.primitive == "avg_pool2d_grad":
        return [gy]
    x = _normal(rng, n, h, w, c)
    _, index = p.max_pool2d.reference(x, window=problem.settings["window"])
    fused = problem.primitive.startswith("bias_relu")
    return [gy, x, _normal(rng, c), index] if fused else [gy, index]


def _map(problem: Problem, rng: Random) -> Arrays:
    shape = problem.sizes
    c = shape[-1]
    match problem.primitive:
        case "global_avg_pool2d_grad":
            return [_normal(rng, shape[0], c)]
        case "batch_norm":
            return [_normal(rng, *shape), _normal(rng, c), _normal(rng, c)]
        case "batch_norm_inference":
            vectors = [_normal(rng, c), _normal(rng, c), _normal(rng, c)]
            return [_normal(rng, *shape), *vectors, _between(rng, 0.5, 2, c)]
        case "batch_norm_grad":
            gy, x = _normal(rng, *shape), _normal(rng, *shape)
            axes = (0, 1, 2)
            mean, variance = x.mean(axes, np.float64), x.var(axes, np.float64)
            statistics = [mean.astype(np.float32), variance.astype(np.float32)]
            return [gy, x, _normal(rng, c), *statistics]
        case "bias_grad":
            return [_normal(rng, *shape)]
        case "normalise_images":  # as of photographs
            images = rng.integers(0, 256, shape, np.uint8)
            vectors = [_between(rng, 100, 140, c), _between(rng, 1 / 80, 1 / 50, c)]
            return [images, *vectors, 10 * _normal(rng, shape[0], c)]
        case "philox":
            return [_normal(rng, 1)]
        case "broadcast_to":
            return [_normal(rng, c)]
        case "log" | "sqrt":
            return [_between(rng, 0.5, 4, *shape)]
        case "divide":
            return [_normal(rng, *shape), _between(rng, 0.5, 2, *shape)]
        case "power":
            return [_between(rng, 0.5, 2, *shape), _normal(rng, *shape)]
        case "sigmoid_grad":
            return [_normal(rng, *shape), _between(rng, 0, 1, *shape)]
        case "tanh_grad" | "elu_grad":
            return [_normal(rng, *shape), _between(rng, -1, 1, *shape)]
    two = problem.primitive.endswith("_grad") or problem.primitive in (*BINARY, "concat")
    return [_normal(rng, *shape) for _ in range(2 if two else 1)]


def _between(rng: Random, low: float, high: float, *shape: int) -> np.ndarray:
    made = rng.random(shape, dtype=np.float32)
    made *= np.float32(high - low)
    made += np.float32(low)
    return made


def _rows(problem: Problem, rng: Random) -> Arrays:
    x = _normal(rng, *problem.sizes)
    n, c = problem.sizes
    match problem.primitive:
        case "softmax_cross_entropy":
            return [x, rng.integers(0, c, n)]
        case "softmax_cross_entropy_grad":
            return [_normal(rng, n), p.softmax.reference(x), rng.integers(0, c, n)]
        case "squared_error":
            return [x, _normal(rng, n, c)]
        case "squared_error_grad":
            return [_normal(rng, n), x, _normal(rng, n, c)]
        case "softmax_grad":
            return [_normal(rng, *problem.sizes), p.softmax.reference(x)]
        case "log_softmax_grad":
            return [_normal(rng, *problem.sizes), p.log_softmax.reference(x)]
    return [x]


def _dense(problem: Problem, rng: Random) -> Arrays:
    n, inputs, outputs = problem.sizes
    match problem.primitive:
        case "dense":
            return [_normal(rng, n, inputs), _normal(rng, inputs, outputs), _normal(rng, outputs)]
        case "matmul":
            return [_normal(rng, n, inputs), _normal(rng, inputs, outputs)]
        case "dense_input_grad":
            return [_normal(rng, n, outputs), _normal(rng, inputs, outputs)]
    return [_normal(rng, n, inputs), _normal(rng, n, outputs)]


def _reduction(problem: Problem, rng: Random) -> Arrays:
    return [_normal(rng, *problem.sizes[:2])]


def _update(problem: Problem, rng: Random) -> Arrays:
    """Parameters, the optimiser's state, the gradient; means of squares are positive."""
    (count,) = problem.sizes
    squares = {"adam_update": 2, "rmsprop_update": 1, "adagrad_update": 1}.get(problem.primitive)
    return [
        _between(rng, 0.5, 2, count) if i == squares else _normal(rng, count)
        for i in range(len(problem.in_place) + 1)
    ]


_MAKERS: dict[str, Callable[[Problem, Random], Arrays]] = {
    "conv": _conv,
    "pool": _pool,
    "map": _map,
    "rows": _rows,
    "reduction": _reduction,
    "dense": _dense,
    "matmul": _dense,
    "update": _update,
}

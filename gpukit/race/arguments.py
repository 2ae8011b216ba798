"""The arrays of a problem, from its seed: random normal numbers, because zeros run faster."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gpukit.backends import reference as p
from gpukit.race.problems import BINARY, FAMILIES, Problem

Arrays = list[np.ndarray]
Random = np.random.Generator


def arguments(problem: Problem, seed: int) -> Arrays:
    """The positional arguments of the call, float32: the same for a seed everywhere."""
    return _MAKERS[FAMILIES[problem.primitive]](problem, np.random.default_rng(seed))


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
    if not problem.primitive.endswith("_grad"):
        return [_normal(rng, n, h, w, c)]
    gy = _normal(rng, n, p_, q, c)
    if problem.primitive == "avg_pool2d_grad":
        return [gy]
    settings = {k: v for k, v in problem.settings.items() if k != "input_shape"}
    _, index = p.max_pool2d.reference(_normal(rng, n, h, w, c), **settings)
    return [gy, index]


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
    two = problem.primitive.endswith("_grad") or problem.primitive in BINARY
    return [_normal(rng, *shape) for _ in range(2 if two else 1)]


def _between(rng: Random, low: float, high: float, *shape: int) -> np.ndarray:
    made = rng.random(shape, dtype=np.float32)
    made *= np.float32(high - low)
    made += np.float32(low)
    return made


def _rows(problem: Problem, rng: Random) -> Arrays:
    x = _normal(rng, *problem.sizes)
    match problem.primitive:
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
        case "dense_input_grad":
            return [_normal(rng, n, outputs), _normal(rng, inputs, outputs)]
    return [_normal(rng, n, inputs), _normal(rng, n, outputs)]


_MAKERS: dict[str, Callable[[Problem, Random], Arrays]] = {
    "conv": _conv,
    "pool": _pool,
    "map": _map,
    "rows": _rows,
    "dense": _dense,
}

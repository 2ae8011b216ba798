"""The problems as a PyTorch user would write them, on the same numbers.

Each is offered in the ways that users know to be fast (contiguous, channels_last, compiled); the
fastest is the rival.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.race.problems import BINARY, FAMILIES, UNARY, Problem

Way = Callable[[], Any]

# PyTorch has no gradient of LRN alone.
LACKING = {"lrn_grad": "PyTorch has no gradient of LRN without its forward pass"}

_ACTIVATIONS = {"relu", "sigmoid", "tanh", "elu", "leaky_relu", "softplus"}
_UNARY = {"absolute": "abs", "negative": "neg"}
_BINARY = {"power": "pow"}


def describe() -> dict[str, Any]:
    """Version and number of threads."""
    import torch

    return {"torch": torch.__version__, "threads": torch.get_num_threads()}


def ways(
    problem: Problem, arrays: list[np.ndarray], device: str, compiled: bool
) -> tuple[dict[str, Way], Callable[[Any], list[np.ndarray | None]]]:
    """Ways to solve the problem, by name, and how a result becomes NumPy arrays as gpukit has
    them; None for one that the two hold differently."""
    import torch

    tensors = [torch.from_numpy(a).to(device) for a in arrays]
    function, layouts = _TASKS[FAMILIES[problem.primitive]](problem, tensors)
    found: dict[str, Way] = {}
    for layout, values in layouts.items():
        found[layout] = _bound(function, values)
        if compiled:
            found[f"{layout}, compiled"] = _bound(torch.compile(function), values)
    images = "eager" not in layouts  # elementwise, PyTorch takes gpukit's order as it is
    return found, lambda results: _back(problem, results, images)


def _bound(function: Callable[..., Any], values: list[Any]) -> Way:
    import torch

    def run() -> Any:
        with torch.no_grad():
            return function(*values)

    return run


def _back(problem: Problem, results: Any, images: bool) -> list[np.ndarray | None]:
    listed = list(results) if isinstance(results, (tuple, list)) else [results]
    found: list[np.ndarray | None] = []
    for tensor in listed:
        if not tensor.is_floating_point():
            found.append(None)  # a pooling's index: PyTorch counts pixels, gpukit cells of a window
            continue
        if tensor.ndim == 4 and images:
            weights = problem.primitive == "conv2d_weight_grad"
            tensor = tensor.permute(2, 3, 1, 0) if weights else tensor.permute(0, 2, 3, 1)
        found.append(tensor.contiguous().cpu().numpy())
    return found


def _nchw(*tensors: Any) -> dict[str, list[Any]]:
    """Images (N,H,W,C) as PyTorch has them, in both of its layouts; vectors as they are."""
    moved = [t.permute(0, 3, 1, 2) if t.ndim == 4 else t for t in tensors]
    return {
        "contiguous": [t.contiguous() for t in moved],
        "channels_last": [_channels_last(t) for t in moved],
    }


def _channels_last(tensor: Any) -> Any:
    import torch

    if tensor.ndim != 4:
        return tensor
    return tensor.contiguous(memory_format=torch.channels_last)


def _conv(problem: Problem, tensors: list[Any]) -> Any:
    from torch.nn import functional, grad

    settings = {
        "stride": problem.settings["stride"],
        "padding": problem.sizes[8],
        "groups": problem.sizes[9],
    }
    n, h, width, c, k, r, s, *_, groups = problem.sizes
    image, weights = (n, c, h, width), (k, c // groups, r, s)
    if problem.primitive == "conv2d_weight_grad":
        return lambda x, gy: grad.conv2d_weight(x, weights, gy, **settings), _nchw(*tensors)
    # (R,S,C,K) -> (K,C,R,S); as an image that is (K,R,S,C)
    layouts = _nchw(tensors[0], tensors[1].permute(3, 0, 1, 2), *tensors[2:])
    if problem.primitive == "conv2d_input_grad":
        return lambda gy, w: grad.conv2d_input(image, w, gy, **settings), layouts
    return lambda x, w, b: functional.conv2d(x, w, b, **settings), layouts


def _pool(problem: Problem, tensors: list[Any]) -> Any:
    import torch
    from torch.nn import functional

    n, h, w, c, r, s, stride, pad = problem.sizes
    size, step, pads = [r, s], [stride, stride], [pad, pad]
    if problem.primitive == "max_pool2d":
        return (
            lambda x: functional.max_pool2d(x, size, step, pads, return_indices=True),
            _nchw(*tensors),
        )
    if problem.primitive == "avg_pool2d":
        return (
            lambda x: functional.avg_pool2d(x, size, step, pads, count_include_pad=False),
            _nchw(*tensors),
        )
    x = torch.zeros(n, h, w, c, device=tensors[0].device)  # whose shape and layout count
    if problem.primitive == "avg_pool2d_grad":
        back = torch.ops.aten.avg_pool2d_backward
        return (
            lambda gy, x: back(gy, x, size, step, pads, False, False, None),
            _nchw(tensors[0], x),
        )
    gy, cell = tensors
    index = _pixels(cell, w, stride, pad, s)
    scatter = torch.ops.aten.max_pool2d_with_indices_backward
    return (
        lambda gy, x, index: scatter(gy, x, size, step, pads, [1, 1], False, index),
        _nchw(gy, x, index),
    )


def _pixels(cell: Any, width: int, stride: int, pad: int, columns: int) -> Any:
    """A window's cell number -> the pixel's number in its image, as PyTorch counts: (N,P,Q,C)."""
    import torch

    cell = cell.long()
    p, q = (torch.arange(n, device=cell.device) for n in cell.shape[1:3])
    rows = (p * stride - pad)[None, :, None, None] + cell // columns
    return rows * width + (q * stride - pad)[None, None, :, None] + cell % columns


def _map(problem: Problem, tensors: list[Any]) -> Any:
    import torch
    from torch.nn import functional

    name = problem.primitive
    epsilon = problem.settings.get("epsilon", 0.0)
    match name:
        case "global_avg_pool2d":
            return lambda x: x.mean((2, 3)), _nchw(*tensors)
        case "global_avg_pool2d_grad":
            n, h, w, c = problem.sizes
            return (
                lambda gy: (gy / (h * w))[:, :, None, None].expand(n, c, h, w).contiguous(),
                {"contiguous": tensors},
            )
        case "lrn":
            s = problem.settings
            return (
                lambda x: functional.local_response_norm(
                    x, s["size"], s["alpha"], s["beta"], s["k"]
                ),
                _nchw(*tensors),
            )
        case "batch_norm":
            return lambda x, g, b: _batch_norm(x, g, b, epsilon), _nchw(*tensors)
        case "batch_norm_inference":
            return (
                lambda x, g, b, m, v: functional.batch_norm(x, m, v, g, b, eps=epsilon),
                _nchw(*tensors),
            )
        case "batch_norm_grad":
            return (
                lambda gy, x, g, m, v: torch.ops.aten.native_batch_norm_backward(
                    gy, x, g, None, None, m, (v + epsilon).rsqrt(), True, epsilon, [True] * 3
                ),
                _nchw(*tensors),
            )
    return _elementwise(problem), {"eager": tensors}


def _batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    import torch

    y, mean, inverse = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, epsilon)
    return y, mean, 1 / inverse**2 - epsilon  # gpukit keeps the variance: C numbers


def _elementwise(problem: Problem) -> Callable[..., Any]:
    import torch
    from torch.nn import functional

    name, aten = problem.primitive, torch.ops.aten
    slope, alpha = problem.settings.get("slope", 0.0), problem.settings.get("alpha", 0.0)
    if name in UNARY:
        return getattr(torch, _UNARY.get(name, name))
    if name in BINARY:
        return getattr(torch, _BINARY.get(name, name))
    if name == "leaky_relu":
        return lambda x: functional.leaky_relu(x, slope)
    if name == "elu":
        return lambda x: functional.elu(x, alpha)
    if name in _ACTIVATIONS:
        return getattr(torch, name, None) or getattr(functional, name)
    gradients: dict[str, Callable[..., Any]] = {
        "relu_grad": lambda gy, y: aten.threshold_backward(gy, y, 0),
        "sigmoid_grad": aten.sigmoid_backward,
        "tanh_grad": aten.tanh_backward,
        "leaky_relu_grad": lambda gy, x: aten.leaky_relu_backward(gy, x, slope, False),
        "elu_grad": lambda gy, y: aten.elu_backward(gy, alpha, 1, 1, True, y),
        "softplus_grad": lambda gy, x: aten.softplus_backward(gy, x, 1, 20),
    }
    return gradients[name]


def _rows(problem: Problem, tensors: list[Any]) -> Any:
    import torch

    aten, single = torch.ops.aten, torch.float32
    function = {
        "softmax": lambda x: torch.softmax(x, 1),
        "log_softmax": lambda x: torch.log_softmax(x, 1),
        "softmax_grad": lambda gy, y: aten._softmax_backward_data(gy, y, 1, single),
        "log_softmax_grad": lambda gy, y: aten._log_softmax_backward_data(gy, y, 1, single),
    }[problem.primitive]
    return function, {"eager": tensors}


def _dense(problem: Problem, tensors: list[Any]) -> Any:
    import torch

    function = {
        "dense": lambda x, w, b: torch.addmm(b, x, w),
        "dense_input_grad": lambda gy, w: gy @ w.t(),
        "dense_weight_grad": lambda x, gy: x.t() @ gy,
    }[problem.primitive]
    layouts = {"eager": tensors}
    if problem.primitive == "dense":  # as torch.nn.Linear keeps its weights
        layouts["linear"] = [tensors[0], tensors[1].t().contiguous().t(), tensors[2]]
    return function, layouts


_TASKS: dict[str, Callable[[Problem, list[Any]], Any]] = {
    "conv": _conv,
    "pool": _pool,
    "map": _map,
    "rows": _rows,
    "dense": _dense,
}

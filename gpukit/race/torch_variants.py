"""The problems as a PyTorch user would write them, on the same numbers.

Each has the variants that users know to be fast (contiguous, channels_last, compiled); the fastest
is the rival.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.dispatch.declaration import Problem
from gpukit.dispatch.primitive import registry
from gpukit.race import torch_updates
from gpukit.race.problems import form_of

Variant = Callable[[], Any]

LACKING = {
    "lrn_grad": "PyTorch has no gradient of LRN without its forward pass",
    "bias_relu_lrn_pool_grad": "PyTorch has no gradient of LRN without its forward pass",
    "philox": "PyTorch's random numbers are no function of their place",
}
# Results, by number, that PyTorch holds differently: a pooling's index counts pixels there and not
# the cells of a window, dropout draws other masks.
DIFFERENT = {"max_pool2d": (1,), "bias_relu_lrn_pool": (1,), "dropout": (0,)}


def describe() -> dict[str, Any]:
    """Version and number of threads."""
    import torch

    return {"torch": torch.__version__, "threads": torch.get_num_threads()}


def variants(
    problem: Problem, arrays: list[np.ndarray], device: str, compiled: bool
) -> tuple[dict[str, Variant], Callable[[Any], list[np.ndarray | None]]]:
    """Variants to solve the problem, by name, and how a result becomes NumPy arrays as gpukit has
    them; None for one that the two hold differently."""
    import torch

    tensors = [torch.from_numpy(a).to(device) for a in arrays]
    function, layouts = _TASKS[form_of(problem.primitive).name](problem, tensors)
    found: dict[str, Variant] = {}
    # PyTorch's optimisers are offered as they are: fused ones are one kernel, and not all compile.
    compiled &= form_of(problem.primitive).name != "update"
    several = function if isinstance(function, dict) else {"": function}
    for (layout, values), (name, one) in itertools.product(layouts.items(), several.items()):
        label = f"{layout}, {name}" if name else layout
        found[label] = _bound(one, values)
        if compiled:
            found[f"{label}, compiled"] = _bound(torch.compile(one), values)
    images = "contiguous" in layouts  # else elementwise, PyTorch takes gpukit's order as it is
    return found, lambda results: _back(problem, results, images)


def _bound(function: Callable[..., Any], values: list[Any]) -> Variant:
    import torch

    def run() -> Any:
        with torch.no_grad():
            return function(*values)

    return run


def _back(problem: Problem, results: Any, images: bool) -> list[np.ndarray | None]:
    listed = list(results) if isinstance(results, (tuple, list)) else [results]
    if form_of(problem.primitive).name == "update":
        listed = torch_updates.as_ours(problem, listed)
    if problem.primitive == "softmax_cross_entropy":
        listed[1] = listed[1].exp()  # PyTorch keeps the logarithms for the gradient
    found: list[np.ndarray | None] = []
    for i, tensor in enumerate(listed):
        if i in DIFFERENT.get(problem.primitive, ()):
            found.append(None)
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
        "stride": problem.settings["conv"].stride,
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
    if problem.primitive == "bias_relu_lrn_pool":
        return (
            lambda x, b: functional.max_pool2d(
                _response(problem, functional.relu(x + b[:, None, None])),
                size, step, pads, return_indices=True,
            ),
            _nchw(*tensors),
        )  # fmt: skip
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
        case "bias_grad":
            return lambda gy: gy.sum((0, 2, 3)), _nchw(*tensors)
        case "normalise_images":
            return _NORMALISE, _nchw(*tensors)
        case "dropout":
            rate = problem.settings["rate"]
            return lambda x: functional.dropout(x, rate, training=True), {"eager": tensors}
        case "all_finite":
            return lambda x: x.isfinite().all(), {"eager": tensors}
        case "concat":
            return lambda *xs: torch.cat(xs, 1), _nchw(*tensors)
        case "pad":
            return lambda x: functional.pad(x, (1, 1, 1, 1)), _nchw(*tensors)
        case "lrn":
            return lambda x: _response(problem, x), _nchw(*tensors)
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
    function = _moving(problem) if problem.moves else _by_name(problem)
    return function, {"eager": tensors}


def _response(problem: Problem, x: Any) -> Any:
    from torch.nn import functional

    size, alpha, beta, k, _ = problem.settings["response"]
    return functional.local_response_norm(x, size, alpha, beta, k)


def _as_one_product(x: Any, mean: Any, scale: Any, shift: Any) -> Any:
    import torch

    return torch.addcmul(((shift - mean) * scale)[:, :, None, None], x, scale[:, None, None])


_NORMALISE = {
    "step by step": lambda x, mean, scale, shift: (
        (x + (shift - mean)[:, :, None, None]) * scale[:, None, None]
    ),
    "addcmul": _as_one_product,
}


def _moving(problem: Problem) -> Callable[..., Any]:
    """Copies where PyTorch gives views: only what moves can be timed."""
    s = problem.settings
    moving: dict[str, Callable[..., Any]] = {
        "transpose": lambda x: x.permute(s["axes"]).contiguous(),
        "split": lambda x: [part.contiguous() for part in x.split(s["sections"], s["axis"])],
        "broadcast_to": lambda x: x.expand(s["shape"]).contiguous(),
    }
    return moving[problem.primitive]


def _batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    import torch

    y, mean, inverse = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, epsilon)
    return y, mean, 1 / inverse**2 - epsilon  # gpukit keeps the variance: C numbers


def _by_name(problem: Problem) -> Callable[..., Any]:
    """The function that the primitive declares as PyTorch's, else the one of the same name."""
    import torch

    name, declared = problem.primitive, registry[problem.primitive].declaration
    if declared and declared.torch:
        return declared.torch(torch, **problem.settings)
    if name.endswith("_grad"):
        return getattr(torch.ops.aten, f"{name.removesuffix('_grad')}_backward")
    return getattr(torch, name, None) or getattr(torch.nn.functional, name)


def _rows(problem: Problem, tensors: list[Any]) -> Any:
    import torch
    from torch.nn import functional

    aten, single = torch.ops.aten, torch.float32
    s = problem.settings
    if "key" in s:
        key = torch.from_numpy(s["key"]).to(tensors[0].device)
        return _PICKING[problem.primitive], {"eager": [*tensors, key]}
    if problem.primitive == "softmax_cross_entropy_grad":
        gloss, p, labels = tensors
        tensors = [gloss, p.log(), labels, torch.tensor(0.0, device=p.device)]
    function = {
        "softmax_cross_entropy": _cross_entropy,
        "softmax_cross_entropy_grad": lambda gloss, logarithms, labels, weight: (
            aten._log_softmax_backward_data(
                aten.nll_loss_backward(gloss, logarithms, labels, None, 0, -100, weight),
                logarithms, 1, single,
            )
        ),
        "squared_error": lambda y, t: functional.mse_loss(y, t, reduction="none").mean(1),
        "squared_error_grad": lambda gloss, y, t: aten.mse_loss_backward(
            (gloss / y.shape[1])[:, None].expand_as(y), y, t, 0
        ),
    }.get(problem.primitive)  # fmt: skip
    return function or _by_name(problem), {"eager": tensors}


def _cross_entropy(x: Any, labels: Any) -> Any:
    from torch.nn import functional

    logarithms = functional.log_softmax(x, 1)
    return functional.nll_loss(logarithms, labels, reduction="none"), logarithms


_PICKING: dict[str, Callable[..., Any]] = {
    "index": lambda x, key: x.index_select(0, key),
    "index_grad": lambda gy, key: gy.new_zeros(gy.shape).index_add_(0, key, gy),
}


def _reduction(problem: Problem, tensors: list[Any]) -> Any:
    axis = problem.sizes[2]
    function: dict[str, Callable[..., Any]] = {
        "reduce_sum": lambda x: x.sum(axis),
        "reduce_mean": lambda x: x.mean(axis),
        "reduce_max": lambda x: x.amax(axis),
        "argmax": lambda x: x.argmax(axis),
    }
    return function[problem.primitive], {"eager": tensors}


def _dense(problem: Problem, tensors: list[Any]) -> Any:
    import torch

    function = {
        "dense": lambda x, w, b: torch.addmm(b, x, w),
        "matmul": torch.mm,
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
    "reduction": _reduction,
    "dense": _dense,
    "matmul": _dense,
    "update": torch_updates.variants,
}

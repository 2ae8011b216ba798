"""The problems as a PyTorch user would write them, on the same numbers.

Each has the variants that users know to be fast (contiguous, channels_last, compiled); the fastest
is the rival. Optimisers' steps are those of PyTorch's own, over the same parameter buffer; their
momentum has the other sign and is not yet multiplied by the rate: v = -lr·buffer. Importing this
imports PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import optim
from torch.nn import functional, grad

from gpukit.dispatch.declaration import Problem
from gpukit.dispatch.primitive import registry
from gpukit.race.problems import form_of

Variant = Callable[[], Any]
Calls = dict[str, Any]  # by primitive a function, or several by name

# Results, by number, that PyTorch holds differently: a pooling's index counts pixels there and not
# the cells of a window, dropout draws other masks.
DIFFERENT = {"max_pool2d": (1,), "bias_relu_lrn_pool": (1,), "dropout": (0,)}
# Gradients for which PyTorch has no function: its tape of the forward pass is run backwards.
_BY_TAPE = ("lrn_grad", "bias_relu_lrn_pool_grad")


def variants(
    problem: Problem, arrays: list[np.ndarray], device: str, compiled: bool
) -> tuple[dict[str, Variant], Callable[[Any], list[np.ndarray | None]]]:
    """Variants to solve the problem, by name, and how a result becomes NumPy arrays as gpukit has
    them; None for one that the two hold differently."""
    name, form = problem.primitive, form_of(problem.primitive).name
    tensors = _prepared(problem, [torch.from_numpy(a).to(device) for a in arrays])
    if form == "update":
        function: Any = _step
    else:
        calls = {"conv": _conv, "pool": _pool}.get(form, _others)(problem)
        function = calls.get(name) or _by_name(problem)
    # What works on images has two layouts; of the rest, PyTorch takes gpukit's order as it is.
    images = form in ("conv", "pool") or name in _OF_IMAGES
    layouts = _nchw(tensors) if images else {"eager": tensors}
    if form == "update":
        layouts = dict(_optimisers(problem, tensors))
    elif name == "dense":  # as torch.nn.Linear keeps its weights
        layouts["linear"] = [tensors[0], tensors[1].t().contiguous().t(), tensors[2]]
    elif name in _BY_TAPE:
        layouts = {layout: _recorded(problem, *values) for layout, values in layouts.items()}
    # PyTorch's optimisers are offered as they are: fused ones are one kernel, and not all compile.
    # A tape that is run more than once does not compile.
    compiled &= form != "update" and name not in _BY_TAPE
    found: dict[str, Variant] = {}
    several = function if isinstance(function, dict) else {"": function}
    for (layout, values), (which, one) in itertools.product(layouts.items(), several.items()):
        label = f"{layout}, {which}" if which else layout
        found[label] = _bound(one, values)
        if compiled:
            found[f"{label}, compiled"] = _bound(torch.compile(one), values)
    return found, lambda results: _back(problem, results, images)


def _bound(function: Callable[..., Any], values: list[Any]) -> Variant:
    def run() -> Any:
        with torch.no_grad():
            return function(*values)

    return run


def _prepared(problem: Problem, tensors: list[Any]) -> list[Any]:
    """The arguments as PyTorch's functions take them, images still (N,H,W,C)."""
    name, s = problem.primitive, problem.settings
    if name in ("conv2d", "conv2d_input_grad"):
        # (R,S,C,K) -> (K,C,R,S); as an image that is (K,R,S,C)
        tensors[1] = tensors[1].permute(3, 0, 1, 2)
    elif name in ("avg_pool2d_grad", "max_pool2d_grad"):
        x = tensors[0].new_zeros(problem.sizes[:4])  # whose shape and layout count
        tensors[1:] = [x, *(_pixels(problem, cell) for cell in tensors[1:])]
    elif name == "bias_relu_lrn_pool_grad":
        tensors[3] = _pixels(problem, tensors[3])
    elif name == "softmax_cross_entropy_grad":
        gloss, p, labels = tensors
        tensors = [gloss, p.log(), labels, p.new_zeros(())]
    elif "key" in s:
        tensors.append(torch.from_numpy(s["key"]).to(tensors[0].device))
    return tensors


def _pixels(problem: Problem, cell: Any) -> Any:
    """A window's cell number -> the pixel's number in its image, as PyTorch counts: (N,P,Q,C)."""
    _, _, width, _, _, columns, stride, pad = problem.sizes
    cell = cell.long()
    p, q = (torch.arange(n, device=cell.device) for n in cell.shape[1:3])
    rows = (p * stride - pad)[None, :, None, None] + cell // columns
    return rows * width + (q * stride - pad)[None, None, :, None] + cell % columns


def _nchw(tensors: list[Any]) -> dict[str, list[Any]]:
    """Images (N,H,W,C) as PyTorch has them, in both of its layouts; vectors as they are."""
    moved = [t.permute(0, 3, 1, 2) if t.ndim == 4 else t for t in tensors]
    layouts = {"contiguous": [t.contiguous() for t in moved]}
    if any(t.ndim == 4 for t in moved):
        last = torch.channels_last
        layouts["channels_last"] = [
            t.contiguous(memory_format=last) if t.ndim == 4 else t for t in moved
        ]
    return layouts


def _recorded(problem: Problem, gy: Any, *inputs: Any) -> list[Any]:
    """gy, what normalises the inputs' responses, a leaf for each input, and other tensors."""
    leaves = [t.detach().requires_grad_() for t in inputs if t.is_floating_point()]
    x = functional.relu(leaves[0] + leaves[1][:, None, None]) if leaves[1:] else leaves[0]
    return [gy, _response(problem, x), leaves, *inputs[len(leaves) :]]


def _back(problem: Problem, results: Any, images: bool) -> list[np.ndarray | None]:
    listed = list(results) if isinstance(results, (tuple, list)) else [results]
    if form_of(problem.primitive).name == "update":
        listed = _as_ours(problem, listed)
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


def _conv(problem: Problem) -> Calls:
    n, h, width, c, k, r, s, stride, padding, groups = problem.sizes
    settings: dict[str, Any] = {"stride": stride, "padding": padding, "groups": groups}
    image, weights = (n, c, h, width), (k, c // groups, r, s)
    return {
        "conv2d": lambda x, w, b: functional.conv2d(x, w, b, **settings),
        "conv2d_input_grad": lambda gy, w: grad.conv2d_input(image, w, gy, **settings),
        "conv2d_weight_grad": lambda x, gy: grad.conv2d_weight(x, weights, gy, **settings),
    }


def _pool(problem: Problem) -> Calls:
    *_, r, s, stride, pad = problem.sizes
    window: tuple[Any, ...] = [r, s], [stride, stride], [pad, pad]

    def maximum(x: Any) -> Any:
        return functional.max_pool2d(x, *window, return_indices=True)

    def scatter(gy: Any, x: Any, index: Any) -> Any:
        back = torch.ops.aten.max_pool2d_with_indices_backward
        return back(gy, x, *window, [1, 1], False, index)

    return {
        "max_pool2d": maximum,
        "max_pool2d_grad": scatter,
        "avg_pool2d": lambda x: functional.avg_pool2d(
            x, [r, s], stride, pad, count_include_pad=False
        ),
        "avg_pool2d_grad": lambda gy, x: torch.ops.aten.avg_pool2d_backward(
            gy, x, *window, False, False, None
        ),
        "bias_relu_lrn_pool": lambda x, b: maximum(
            _response(problem, functional.relu(x + b[:, None, None]))
        ),
        "bias_relu_lrn_pool_grad": lambda gy, y, leaves, index: torch.autograd.grad(
            y, leaves, scatter(gy, y, index), retain_graph=True
        ),
    }


def _response(problem: Problem, x: Any) -> Any:
    size, alpha, beta, k, _ = problem.settings["response"]
    return functional.local_response_norm(x, size, alpha, beta, k)


_OF_IMAGES = ("global_avg_pool2d", "global_avg_pool2d_grad", "bias_grad", "normalise_images",
              "concat", "pad", "lrn", "lrn_grad", "batch_norm", "batch_norm_inference",
              "batch_norm_grad")  # fmt: skip


def _others(problem: Problem) -> Calls:
    """Copies where PyTorch gives views: only what moves can be timed."""
    s, sizes, aten = problem.settings, problem.sizes, torch.ops.aten
    return {
        "global_avg_pool2d": lambda x: x.mean((2, 3)),
        "global_avg_pool2d_grad": lambda gy: (
            (gy / (sizes[1] * sizes[2]))[:, :, None, None].expand(-1, -1, *sizes[1:3]).contiguous()
        ),
        "bias_grad": lambda gy: gy.sum((0, 2, 3)),
        "dropout": lambda x: functional.dropout(x, s["rate"], training=True),
        "all_finite": lambda x: x.isfinite().all(),
        "concat": lambda *xs: torch.cat(xs, 1),
        "pad": lambda x: functional.pad(x, (1, 1, 1, 1)),
        "lrn": lambda x: _response(problem, x),
        "lrn_grad": lambda gy, y, leaves: torch.autograd.grad(y, leaves, gy, retain_graph=True),
        "batch_norm": lambda x, g, b: _batch_norm(x, g, b, s["epsilon"]),
        "batch_norm_inference": lambda x, g, b, m, v: functional.batch_norm(
            x, m, v, g, b, eps=s["epsilon"]
        ),
        "batch_norm_grad": lambda gy, x, g, m, v: aten.native_batch_norm_backward(
            gy, x, g, None, None, m, (v + s["epsilon"]).rsqrt(), True, s["epsilon"], [True] * 3
        ),
        "transpose": lambda x: x.permute(s["axes"]).contiguous(),
        "split": lambda x: [part.contiguous() for part in x.split(s["sections"], s["axis"])],
        "broadcast_to": lambda x: x.expand(s["shape"]).contiguous(),
        "index": lambda x, key: x.index_select(0, key),
        "index_grad": lambda gy, key: gy.new_zeros(gy.shape).index_add_(0, key, gy),
        "softmax_cross_entropy": _cross_entropy,
        "softmax_cross_entropy_grad": lambda gloss, logarithms, labels, weight: (
            aten._log_softmax_backward_data(
                aten.nll_loss_backward(gloss, logarithms, labels, None, 0, -100, weight),
                logarithms, 1, torch.float32,
            )
        ),
        "squared_error": lambda y, t: functional.mse_loss(y, t, reduction="none").mean(1),
        "squared_error_grad": lambda gloss, y, t: aten.mse_loss_backward(
            (gloss / y.shape[1])[:, None].expand_as(y), y, t, 0
        ),
        "reduce_sum": lambda x: x.sum(sizes[2]),
        "reduce_mean": lambda x: x.mean(sizes[2]),
        "reduce_max": lambda x: x.amax(sizes[2]),
        "argmax": lambda x: x.argmax(sizes[2]),
        "dense": lambda x, w, b: torch.addmm(b, x, w),
        "matmul": torch.mm,
        "dense_input_grad": lambda gy, w: gy @ w.t(),
        "dense_weight_grad": lambda x, gy: x.t() @ gy,
        "normalise_images": {
            "step by step": lambda x, mean, scale, shift: (
                (x + (shift - mean)[:, :, None, None]) * scale[:, None, None]
            ),
            "addcmul": lambda x, mean, scale, shift: torch.addcmul(
                ((shift - mean) * scale)[:, :, None, None], x, scale[:, None, None]
            ),
        },
    }  # fmt: skip


def _batch_norm(x: Any, gamma: Any, beta: Any, epsilon: float) -> Any:
    y, mean, inverse = torch.native_batch_norm(x, gamma, beta, None, None, True, 0.0, epsilon)
    return y, mean, 1 / inverse**2 - epsilon  # gpukit keeps the variance: C numbers


def _cross_entropy(x: Any, labels: Any) -> Any:
    logarithms = functional.log_softmax(x, 1)
    return functional.nll_loss(logarithms, labels, reduction="none"), logarithms


def _by_name(problem: Problem) -> Callable[..., Any]:
    """The function that the primitive declares as PyTorch's, else the one of the same name."""
    name, declared = problem.primitive, registry[problem.primitive].declaration
    if declared and declared.torch:
        return declared.torch(torch, **problem.settings)
    if name.endswith("_grad"):
        return getattr(torch.ops.aten, f"{name.removesuffix('_grad')}_backward")
    return getattr(torch, name, None) or getattr(torch.nn.functional, name)


# PyTorch's optimiser, and names of its state in the order of gpukit's arguments after the
# parameters.
_OPTIMISERS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "sgd_update": (optim.SGD, ("momentum_buffer",)),
    "adam_update": (optim.Adam, ("exp_avg", "exp_avg_sq")),
    "rmsprop_update": (optim.RMSprop, ("square_avg", "momentum_buffer")),
    "adagrad_update": (optim.Adagrad, ("sum",)),
}
# What it calls gpukit's settings.
_SETTINGS = {
    "lr": "lr", "weight_decay": "weight_decay", "momentum": "momentum", "epsilon": "eps",
    "rho": "alpha",
}  # fmt: skip
# One kernel, or one for each operation; "foreach" does the latter where there is but one buffer.
_STEPS: dict[str, dict[str, bool]] = {"fused": {"fused": True}, "plain": {"foreach": False}}


def _step(optimiser: Any, *results: Any) -> list[Any]:
    """One step; the parameters and the state, which it changes."""
    optimiser.step()
    return list(results)


def _optimisers(problem: Problem, tensors: list[Any]) -> Iterator[tuple[str, list[Any]]]:
    """By the name of each form that PyTorch has here: an optimiser, its parameters, its state."""
    for name, form in _STEPS.items():
        try:
            with torch.no_grad():  # some say only at the first step that there is no such form
                _step(*_optimiser(problem, tensors, form))
        except (RuntimeError, TypeError):
            continue
        yield name, _optimiser(problem, tensors, form)


def _optimiser(problem: Problem, tensors: list[Any], form: dict[str, bool]) -> list[Any]:
    """The optimiser in the middle of its work, its parameters and its state."""
    s, (made_by, names) = problem.settings, _OPTIMISERS[problem.primitive]
    w, *state = (t.clone() for t in tensors[:-1])
    parameters = torch.nn.Parameter(w)
    parameters.grad = tensors[-1]  # which no step changes
    settings = {_SETTINGS[name]: value for name, value in s.items() if name in _SETTINGS}
    if "beta1" in s:
        settings["betas"] = s["beta1"], s["beta2"]
    optimiser = made_by([parameters], **settings, **form)
    kept = dict(zip(names, state))
    if "momentum_buffer" in kept:
        kept["momentum_buffer"] /= -s["lr"]
    optimiser.state[parameters].update(kept)
    if problem.primitive != "sgd_update":
        count = torch.tensor(float(s.get("step", 1) - 1))
        optimiser.state[parameters]["step"] = count.to(w.device) if form.get("fused") else count
    return [optimiser, parameters, *kept.values()]


def _as_ours(problem: Problem, results: list[Any]) -> list[Any]:
    """Results with gpukit's sign and scale."""
    names = ("", *_OPTIMISERS[problem.primitive][1])
    lr = problem.settings["lr"]
    return [r * -lr if n == "momentum_buffer" else r.detach() for n, r in zip(names, results)]

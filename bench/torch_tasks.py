"""The tasks as a PyTorch user would write them. Runs only in the rival's process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Ways = dict[str, Callable[[], Any]]


def describe() -> dict[str, Any]:
    """Version and number of threads."""
    import torch

    return {"torch": torch.__version__, "threads": torch.get_num_threads()}


def prepare(task: str, case: Any, compiled: bool) -> Ways:
    """Ways to run `task` on `case`, by name."""
    return TASKS[task](case, compiled)


def _layouts(*tensors: Any) -> dict[str, list[Any]]:
    import torch

    last = [t.contiguous(memory_format=torch.channels_last) for t in tensors]
    return {"contiguous": list(tensors), "channels_last": last}


def _ways(function: Callable[..., Any], tensors: list[Any], compiled: bool) -> Ways:
    import torch

    ways: Ways = {}
    for layout, values in _layouts(*tensors).items():
        ways[layout] = lambda values=values: function(*values)
        if compiled:
            fast = torch.compile(function)
            ways[f"{layout}, compiled"] = lambda fast=fast, values=values: fast(*values)
    return ways


def _conv_tensors(case: Any) -> tuple[Any, Any, Any]:
    import torch

    x = torch.randn(case.batch, case.channels, case.size, case.size)
    w = torch.randn(case.outputs, case.channels // case.groups, case.kernel, case.kernel)
    gy = torch.randn(case.batch, case.outputs, case.output_size, case.output_size)
    return x, w, gy


def _settings(case: Any) -> dict[str, Any]:
    return {"stride": case.stride, "padding": case.padding, "groups": case.groups}


def _forward(case: Any, compiled: bool) -> Ways:
    import torch

    x, w, _ = _conv_tensors(case)
    bias = torch.randn(case.outputs)
    settings = _settings(case)

    def forward(x: Any, w: Any) -> Any:
        with torch.no_grad():
            return torch.nn.functional.conv2d(x, w, bias, **settings)

    return _ways(forward, [x, w], compiled)


def _input_grad(case: Any, compiled: bool) -> Ways:
    import torch

    x, w, gy = _conv_tensors(case)
    settings = _settings(case)

    def backward(w: Any, gy: Any) -> Any:
        return torch.nn.grad.conv2d_input(x.shape, w, gy, **settings)

    return _ways(backward, [w, gy], compiled)


def _weight_grad(case: Any, compiled: bool) -> Ways:
    import torch

    x, w, gy = _conv_tensors(case)
    settings = _settings(case)

    def backward(x: Any, gy: Any) -> Any:
        return torch.nn.grad.conv2d_weight(x, w.shape, gy, **settings)

    return _ways(backward, [x, gy], compiled)


def _image(case: Any) -> Any:
    import torch

    return torch.randn(case.batch, case.channels, case.size, case.size)


def _max_pool(case: Any, compiled: bool) -> Ways:
    import torch

    def forward(x: Any) -> Any:
        return torch.nn.functional.max_pool2d(x, case.window, case.stride, return_indices=True)

    return _ways(forward, [_image(case)], compiled)


def _max_pool_grad(case: Any, compiled: bool) -> Ways:
    import torch

    x = _image(case)
    pool = torch.nn.functional.max_pool2d
    gy = torch.randn_like(pool(x, case.window, case.stride))
    size, step, none, one = [case.window] * 2, [case.stride] * 2, [0, 0], [1, 1]

    def backward(x: Any, gy: Any) -> Any:
        _, index = indices[x.stride()]
        return torch.ops.aten.max_pool2d_with_indices_backward(
            gy, x, size, step, none, one, False, index
        )

    indices = {
        values[0].stride(): pool(values[0], case.window, case.stride, return_indices=True)
        for values in _layouts(x).values()
    }
    return _ways(backward, [x, gy], compiled)


def _lrn(case: Any, compiled: bool) -> Ways:
    import torch

    def forward(x: Any) -> Any:
        return torch.nn.functional.local_response_norm(x, 5, 5e-4, 0.75, 2.0)

    return _ways(forward, [_image(case)], compiled)


def _lrn_step(case: Any, compiled: bool) -> Ways:
    import torch

    def both(x: Any, gy: Any) -> Any:
        x = x.detach().requires_grad_()
        torch.nn.functional.local_response_norm(x, 5, 5e-4, 0.75, 2.0).backward(gy)
        return x.grad

    return _ways(both, [_image(case), _image(case)], compiled)


def _pooled(x: Any, bias: Any, case: Any) -> Any:
    import torch

    functional = torch.nn.functional
    normal = functional.local_response_norm(functional.relu(x + bias), 5, 5e-4, 0.75, 2.0)
    return functional.max_pool2d(normal, case.window, case.stride)


def _lrn_pool(case: Any, compiled: bool) -> Ways:
    import torch

    bias = torch.randn(case.channels, 1, 1)

    def forward(x: Any) -> Any:
        with torch.no_grad():
            return _pooled(x, bias, case)

    return _ways(forward, [_image(case)], compiled)


def _lrn_pool_step(case: Any, compiled: bool) -> Ways:
    import torch

    bias = torch.randn(case.channels, 1, 1, requires_grad=True)

    def both(x: Any) -> Any:
        x = x.detach().requires_grad_()
        y = _pooled(x, bias, case)
        return torch.autograd.grad(y, (x, bias), y.detach())

    return _ways(both, [_image(case)], compiled)


def _normalise_images(case: Any, compiled: bool) -> Ways:
    import torch

    x = torch.randint(0, 256, (case.batch, case.channels, case.size, case.size), dtype=torch.uint8)
    mean, scale = (torch.randn(case.channels, 1, 1) for _ in range(2))
    shift = torch.randn(case.batch, case.channels, 1, 1)
    return _ways(lambda x: (x + (shift - mean)) * scale, [x], compiled)


def _batch_norm_step(case: Any, compiled: bool) -> Ways:
    import torch

    gamma = torch.ones(case.channels, requires_grad=True)
    beta = torch.zeros(case.channels, requires_grad=True)

    def both(x: Any, gy: Any) -> Any:
        x = x.detach().requires_grad_()
        y = torch.nn.functional.batch_norm(x, None, None, gamma, beta, training=True)
        y.backward(gy)
        return x.grad

    return _ways(both, [_image(case), _image(case)], compiled)


def _softmax(case: Any, compiled: bool) -> Ways:
    import torch

    x = torch.randn(case.batch, case.channels)
    ways: Ways = {"eager": lambda: torch.softmax(x, 1)}
    if compiled:
        fast = torch.compile(torch.softmax)
        ways["compiled"] = lambda: fast(x, 1)
    return ways


def _dense(case: Any, compiled: bool) -> Ways:
    import torch

    x = torch.randn(case.batch, case.channels)
    layer = torch.nn.Linear(case.channels, case.size)

    def forward() -> Any:
        with torch.no_grad():
            return layer(x)

    return {"eager": forward}


def _lenet_step(case: Any, compiled: bool) -> Ways:
    import torch
    from torch import nn

    ways: Ways = {}
    labels = torch.randint(0, 10, (case.batch,))
    for layout in ("contiguous", "channels_last"):
        for mode in ("eager", "compiled") if compiled else ("eager",):
            x = torch.randn(case.batch, 1, 28, 28)
            model = nn.Sequential(
                nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
                nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
            )  # fmt: skip
            if layout == "channels_last":
                model = model.to(memory_format=torch.channels_last)
                x = x.contiguous(memory_format=torch.channels_last)
            optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
            forward = torch.compile(model) if mode == "compiled" else model

            def step(forward: Any = forward, optimiser: Any = optimiser, x: Any = x) -> float:
                optimiser.zero_grad(set_to_none=True)
                loss = nn.functional.cross_entropy(forward(x), labels)
                loss.backward()
                optimiser.step()
                return float(loss.detach())

            ways[f"{layout}, {mode}"] = step
    return ways


TASKS: dict[str, Callable[[Any, bool], Ways]] = {
    "conv2d": _forward,
    "conv2d_input_grad": _input_grad,
    "conv2d_weight_grad": _weight_grad,
    "max_pool2d": _max_pool,
    "max_pool2d_grad": _max_pool_grad,
    "lrn": _lrn,
    "lrn_step": _lrn_step,
    "lrn_pool": _lrn_pool,
    "lrn_pool_step": _lrn_pool_step,
    "normalise_images": _normalise_images,
    "batch_norm_step": _batch_norm_step,
    "softmax": _softmax,
    "dense": _dense,
    "lenet_step": _lenet_step,
}

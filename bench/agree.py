"""Whether gpukit on a device and PyTorch compute the same, before anybody times them.

Both get the same arrays; PyTorch computes in float64 on `torch_device`. A difference counts as
‖ours − theirs‖ / ‖theirs‖; float32 lands far below LIMIT, TF32 above it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bench.cases import Conv, Image
from gpukit import primitives as p
from gpukit.device import get_device, to_host

LIMIT = 5e-5


def tiny(case: Any) -> Any:
    """`case` with the same kernel, stride, padding and kind of groups, but few numbers."""
    if isinstance(case, Conv):
        size = min(case.size, case.kernel + 2 * case.stride + 1)
        if case.groups == case.channels:
            return replace(case, batch=2, size=size, channels=4, outputs=4, groups=4)
        channels = min(case.channels, 3) * case.groups
        # Enough filters for the kernels that first layers have to themselves.
        outputs = 32 if case.channels <= 4 <= case.outputs // 8 else 4 * case.groups
        return replace(case, batch=2, size=size, channels=channels, outputs=outputs)
    size = case.window + 2 * case.stride if case.window > 1 else min(case.size, 7)
    return replace(case, batch=3, size=size, channels=min(case.channels, 11))


def difference(task: str, case: Any, device: str, torch_device: str) -> float:
    """The relative difference of one task; NaN where a result holds one."""
    ours, theirs = (
        _conv(task, case, device, torch_device)
        if isinstance(case, Conv)
        else _image(task, case, device, torch_device)
    )
    got, wanted = to_host(ours).astype(np.float64), theirs.detach().cpu().numpy()
    if got.shape != wanted.shape:
        raise AssertionError(f"{task} {case.name}: {got.shape}, PyTorch's is {wanted.shape}")
    return float(np.linalg.norm(got - wanted) / max(np.linalg.norm(wanted), 1e-30))


def _random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def _torch(array: np.ndarray, device: str) -> Any:
    import torch

    return torch.from_numpy(array).to(device, torch.float64)


def _first(array: Any) -> Any:
    return array.permute(0, 3, 1, 2)  # channels to where PyTorch has them


def _last(array: Any) -> Any:
    return array.permute(0, 2, 3, 1)


def _conv(task: str, case: Conv, device: str, torch_device: str) -> tuple[Any, Any]:
    import torch

    x = _random(1, case.batch, case.size, case.size, case.channels)
    w = _random(2, case.kernel, case.kernel, case.channels // case.groups, case.outputs)
    b = _random(3, case.outputs)
    gy = _random(4, case.batch, case.output_size, case.output_size, case.outputs)
    pad = (case.padding, case.padding)
    conv = p.Conv((case.stride, case.stride), (pad, pad), groups=case.groups)
    place = get_device(device)
    hx, hw, hb, hg = (place.asarray(a) for a in (x, w, b, gy))
    tx, tw, tb, tg = (_torch(a, torch_device) for a in (x, w, b, gy))
    tx, tg, tw = _first(tx), _first(tg), tw.permute(3, 2, 0, 1)
    theirs = {"stride": case.stride, "padding": case.padding, "groups": case.groups}
    if task == "conv2d":
        y = torch.nn.functional.conv2d(tx, tw, tb, **theirs)
        return p.conv2d(hx, hw, hb, conv=conv), _last(y)
    if task == "conv2d_input_grad":
        g = torch.nn.grad.conv2d_input(tx.shape, tw, tg, **theirs)
        return p.conv2d_input_grad(hg, hw, input_shape=x.shape, conv=conv), _last(g)
    g = torch.nn.grad.conv2d_weight(tx, tw.shape, tg, **theirs)
    ours = p.conv2d_weight_grad(hx, hg, kernel_shape=w.shape, conv=conv)
    return ours, g.permute(2, 3, 1, 0)


def _image(task: str, case: Image, device: str, torch_device: str) -> tuple[Any, Any]:
    import torch

    place = get_device(device)
    if task == "softmax":
        x = _random(1, case.batch, case.channels)
        return p.softmax(place.asarray(x)), torch.softmax(_torch(x, torch_device), 1)
    if task == "dense":
        x, w = _random(1, case.batch, case.channels), _random(2, case.channels, case.size)
        b = _random(3, case.size)
        tx, tw, tb = (_torch(a, torch_device) for a in (x, w, b))
        return p.dense(*(place.asarray(a) for a in (x, w, b))), tx @ tw + tb
    if task == "normalise_images":
        return _stored(case, place, torch_device)
    x = _random(1, case.batch, case.size, case.size, case.channels)
    if task.startswith("lrn"):
        return _response(task, case, place, torch_device)
    window = p.Window((case.window, case.window), (case.stride, case.stride))
    tx = _first(_torch(x, torch_device)).requires_grad_()
    y, index = p.max_pool2d(place.asarray(x), window=window)
    ty = torch.nn.functional.max_pool2d(tx, case.window, case.stride)
    if task == "max_pool2d":
        return y, _last(ty)
    gy = _random(4, *to_host(y).shape)
    (gx,) = torch.autograd.grad(ty, tx, _first(_torch(gy, torch_device)))
    return p.max_pool2d_grad(place.asarray(gy), index, input_shape=x.shape, window=window), _last(
        gx
    )


def _response(task: str, case: Image, place: Any, torch_device: str) -> tuple[Any, Any]:
    """Response normalisation, or all that AlexNet has around it: values, or a step's gradient."""
    import torch

    functional = torch.nn.functional
    x = _random(1, case.batch, case.size, case.size, case.channels)
    bias, hx = _random(2, case.channels), place.asarray(x)
    tx = _first(_torch(x, torch_device)).requires_grad_()
    around = task.startswith("lrn_pool")
    settings: dict[str, Any] = {"response": p.Response(size=5, alpha=5e-4, beta=0.75, k=2.0)}
    if around:
        settings |= {
            "relu": True,
            "window": p.Window((case.window, case.window), (case.stride, case.stride)),
        }
    ta = functional.relu(tx + _torch(bias, torch_device)[:, None, None]) if around else tx
    ty = functional.local_response_norm(ta, 5, 5e-4, 0.75, 2.0)
    if around:
        hb = place.asarray(bias)
        y, index = p.bias_relu_lrn_pool(hx, hb, **settings)
        ty = functional.max_pool2d(ty, case.window, case.stride)
    else:
        y = p.lrn(hx, **settings)
    if not task.endswith("_step"):
        return y, _last(ty)
    gy = _random(4, *y.shape)
    (gx,) = torch.autograd.grad(ty, tx, _first(_torch(gy, torch_device)))
    hg = place.asarray(gy)
    if around:
        return p.bias_relu_lrn_pool_grad(hg, hx, hb, index, **settings)[0], _last(gx)
    return p.lrn_grad(hg, hx, **settings), _last(gx)


def _stored(case: Image, place: Any, torch_device: str) -> tuple[Any, Any]:
    """Images normalised on the device."""
    shape = (case.batch, case.size, case.size, case.channels)
    x = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    mean, scale = 100 * _random(2, case.channels), _random(3, case.channels)
    shift = _random(4, case.batch, case.channels)
    ours = p.normalise_images(*(place.asarray(a) for a in (x, mean, scale, shift)), dtype="float32")
    tx, tm, ts, tt = (_torch(a, torch_device) for a in (x, mean, scale, shift))
    return ours, (tx + tt[:, None, None] - tm) * ts

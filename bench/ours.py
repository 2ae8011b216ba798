"""The same tasks with gpukit's primitives, on the default implementation or a named one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.cases import Conv, Image
from gpukit import ops
from gpukit import primitives as p
from gpukit.device import CPU, get_device

Task = Callable[[], Any]
_place = CPU


def use(device: str) -> None:
    """Make the tasks that follow for `device`."""
    global _place
    _place = get_device(device)


def _random(*shape: int) -> Any:
    return _place.asarray(np.random.default_rng(0).standard_normal(shape, dtype=np.float32))


def _conv_arrays(case: Conv) -> tuple[Any, Any, Any]:
    x = _random(case.batch, case.size, case.size, case.channels)
    w = _random(case.kernel, case.kernel, case.channels // case.groups, case.outputs)
    return x, w, _random(case.batch, case.output_size, case.output_size, case.outputs)


def _settings(case: Conv, algo: str | None) -> dict[str, Any]:
    pad = (case.padding, case.padding)
    conv = p.Conv((case.stride, case.stride), (pad, pad), groups=case.groups)
    return {"conv": conv, "algo": algo}


def conv2d(case: Conv, algo: str | None = None) -> Task:
    """Forward pass with bias."""
    x, w, _ = _conv_arrays(case)
    b, settings = _random(case.outputs), _settings(case, algo)
    return lambda: p.conv2d(x, w, b, **settings)


def conv2d_input_grad(case: Conv, algo: str | None = None) -> Task:
    """Gradient by the input."""
    x, w, gy = _conv_arrays(case)
    settings = _settings(case, algo)
    return lambda: p.conv2d_input_grad(gy, w, input_shape=x.shape, **settings)


def conv2d_weight_grad(case: Conv, algo: str | None = None) -> Task:
    """Gradient by the weights."""
    x, w, gy = _conv_arrays(case)
    settings = _settings(case, algo)
    return lambda: p.conv2d_weight_grad(x, gy, kernel_shape=w.shape, **settings)


def _image(case: Image) -> Any:
    return _random(case.batch, case.size, case.size, case.channels)


def _window(case: Image) -> dict[str, Any]:
    return {"window": p.Window((case.window, case.window), (case.stride, case.stride))}


def max_pool2d(case: Image) -> Task:
    """Forward pass with the index that the backward pass needs."""
    x, window = _image(case), _window(case)
    return lambda: p.max_pool2d(x, **window)


def max_pool2d_grad(case: Image) -> Task:
    """Backward pass."""
    x, window = _image(case), _window(case)
    y, index = p.max_pool2d(x, **window)
    return lambda: p.max_pool2d_grad(y, index, input_shape=x.shape, **window)


_LRN = {"response": p.Response(size=5, alpha=5e-4, beta=0.75, k=2.0)}


def lrn(case: Image) -> Task:
    """Forward pass."""
    x = _image(case)
    return lambda: p.lrn(x, **_LRN)


def lrn_step(case: Image) -> Task:
    """Forward and backward pass."""
    x = _image(case)
    return lambda: (p.lrn(x, **_LRN), p.lrn_grad(x, x, **_LRN))


def _pooled(case: Image) -> tuple[Any, Any, dict[str, Any]]:
    return _image(case), _random(case.channels), _LRN | _window(case) | {"relu": True}


def lrn_pool(case: Image) -> Task:
    """Bias, ReLU, response normalisation and max-pooling, forward."""
    x, bias, settings = _pooled(case)
    return lambda: p.bias_relu_lrn_pool(x, bias, **settings)


def lrn_pool_step(case: Image) -> Task:
    """The same, forward and backward."""
    x, bias, settings = _pooled(case)

    def both() -> Any:
        y, index = p.bias_relu_lrn_pool(x, bias, **settings)
        return p.bias_relu_lrn_pool_grad(y, x, bias, index, **settings)

    return both


def normalise_images(case: Image) -> Task:
    """Stored images, uint8, as float32: moved by a shift of each, less the mean, scaled."""
    shape = (case.batch, case.size, case.size, case.channels)
    x = _place.asarray(np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8))
    mean, scale = _random(case.channels), _random(case.channels)
    shift = _random(case.batch, case.channels)
    return lambda: p.normalise_images(x, mean, scale, shift, dtype=np.float32)


def batch_norm_step(case: Image) -> Task:
    """Forward and backward pass with batch statistics."""
    x, gamma, beta = _image(case), _random(case.channels), _random(case.channels)

    def both() -> Any:
        _, mean, variance = p.batch_norm(x, gamma, beta, epsilon=1e-5)
        return p.batch_norm_grad(x, x, gamma, mean, variance, epsilon=1e-5)

    return both


def softmax(case: Image) -> Task:
    """Rows of `channels` values."""
    x = _random(case.batch, case.channels)
    return lambda: p.softmax(x)


def dense(case: Image) -> Task:
    """A fully connected layer from `channels` to `size`."""
    x, w, b = (
        _random(case.batch, case.channels),
        _random(case.channels, case.size),
        _random(case.size),
    )
    return lambda: p.dense(x, w, b)


def training_step(model: Any, optimizer: Any, x: Any, labels: Any) -> float:
    """One step through the public API, from images where the model is; the loss before it."""
    loss = ops.softmax_cross_entropy(model.logits(x, training=True), labels).mean()
    loss.backward()
    optimizer.step(model)
    model.zero_grad()
    return float(loss.item())


def lenet_step(case: Image) -> Task:
    """One training step of LeNet-5: loss, gradients, SGD with momentum."""
    from gpukit.models import lenet5
    from gpukit.optimizers import SGD

    model, optimizer = lenet5(seed=0, device=_place), SGD(0.01, momentum=0.9)
    x = _image(case)
    labels = _place.asarray(np.random.default_rng(0).integers(0, 10, case.batch))
    return lambda: training_step(model, optimizer, x, labels)

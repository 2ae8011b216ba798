"""The same tasks with gpukit's primitives, on the default implementation or a named one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bench.cases import Conv
from gpukit.backends import reference as p

Task = Callable[[], Any]


def _random(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def _conv_arrays(case: Conv) -> tuple[Any, Any, Any]:
    x = _random(case.batch, case.size, case.size, case.channels)
    w = _random(case.kernel, case.kernel, case.channels // case.groups, case.outputs)
    return x, w, _random(case.batch, case.output_size, case.output_size, case.outputs)


def _settings(case: Conv, algo: str | None) -> dict[str, Any]:
    pad = (case.padding, case.padding)
    return {
        "stride": (case.stride, case.stride),
        "padding": (pad, pad),
        "dilation": (1, 1),
        "groups": case.groups,
        "algo": algo,
    }


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

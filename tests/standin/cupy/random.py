"""cupy.random: what benchmarks fill arrays with."""

from __future__ import annotations

from typing import Any

import numpy as np

import cupy


def standard_normal(size: Any = None, dtype: Any = float) -> Any:
    generator = np.random.default_rng(0)
    return cupy.asarray(generator.standard_normal(size or (), np.dtype(dtype).type))  # type: ignore

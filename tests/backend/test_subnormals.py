"""Kernels take subnormal float32 numbers for zeros on a card, and nothing worse comes of it.

CuPy compiles with -ftz=true. So the rule: on a card a subnormal number counts as a zero of its
sign, as an argument and as a result. Copies may keep its bits.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from small_calls import small_call
from test_every_primitive import NAMES, UPDATES, parts

from gpukit.device import get_device, to_host
from gpukit.dispatch.primitive import REFERENCE, registry
from gpukit.emulator import compiler_problem
from gpukit.emulator.run import Emulator

TINY = np.float32(1e-39)
EMU = get_device("emu")
# The host's logarithm, which emu takes, looks at bits; a card's is that of zero, -inf.
BY_BITS = ("log",)
EMULATED = [
    (name, algo)
    for name in NAMES
    if name not in BY_BITS
    for algo in sorted({*registry[name].implementations("emu")} - {REFERENCE})
]

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())


@pytest.fixture
def flushing(monkeypatch):
    monkeypatch.setitem(registry.engines, "emu", Emulator(flush=True))


def with_tiny(value: Any, tiny: np.float32, where: np.random.Generator) -> Any:
    """Every third float is ±`tiny`."""
    if isinstance(value, (list, tuple)):
        return type(value)(with_tiny(v, tiny, where) for v in value)
    if not isinstance(value, np.ndarray) or value.dtype != np.float32:
        return value
    chosen = where.random(value.shape) < 1 / 3
    return np.where(chosen, np.copysign(tiny, value), value)


def flushed(x: np.ndarray) -> np.ndarray:
    small = np.abs(x) < np.finfo(x.dtype).tiny if x.dtype == np.float32 else False
    return np.where(small, np.zeros_like(x), x)


def computed(name: str, algo: str, tiny: np.float32) -> list[np.ndarray]:
    sample = small_call(name, np.float32)
    if name == "power":  # of a root the host's pow, which emu takes, looks at bits, too
        sample = sample._replace(arrays=(sample.arrays[0], np.abs(sample.arrays[1]) + 1))
    arrays = with_tiny(sample.arrays, tiny, np.random.default_rng(5))
    here = [_placed(a) for a in arrays]
    made = registry[name](*here, algo=algo, **sample.settings)
    return [
        flushed(to_host(a)) for a in (here if name in UPDATES else parts(made)) if a is not None
    ]


def _placed(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return type(value)(_placed(v) for v in value)
    return EMU.asarray(value) if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize(("name", "algo"), EMULATED)
def test_subnormals_count_as_zeros(flushing, name, algo):
    zeros, tiny = (computed(name, algo, value) for value in (np.float32(0), TINY))
    for wanted, made in zip(zeros, tiny, strict=True):
        np.testing.assert_array_equal(made, wanted)

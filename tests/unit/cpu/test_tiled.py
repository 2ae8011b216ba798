"""Convolution by tiles: against the definition in float64, at shapes where tiles overlap or end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gpukit import primitives as p
from gpukit.backends.cpu.conv import tiling
from gpukit.backends.cpu.linear import tiled as tiled_dense
from gpukit.backends.cpu.runtime import threads
from gpukit.primitives import Conv

pytestmark = pytest.mark.skipif(not tiling.registers(), reason="tiles need AVX-512")

NONE = ((0, 0), (0, 0))
ONE = ((1, 1), (1, 1))
# N H W C, K R S, stride, padding, groups
CASES: list[tuple[Any, ...]] = [
    ((2, 9, 9, 6), (32, 3, 3), (1, 1), ONE, 1),
    ((3, 13, 11, 32), (64, 3, 3), (1, 1), ONE, 2),
    ((2, 27, 27, 8), (48, 5, 5), (1, 1), ((2, 2), (2, 2)), 1),
    ((1, 35, 35, 3), (96, 11, 11), (4, 4), NONE, 1),
    ((2, 8, 7, 32), (96, 3, 2), (2, 1), ((1, 0), (0, 1)), 2),
    ((2, 5, 5, 16), (16, 1, 1), (1, 1), NONE, 1),
    ((1, 40, 300, 32), (32, 3, 3), (1, 1), ONE, 1),
    ((5, 3, 3, 32), (32, 3, 3), (1, 1), ONE, 1),
    ((33, 15, 1, 16), (112, 4, 1), (3, 1), ((3, 2), (0, 0)), 1),
    ((1, 4, 4, 16), (16, 4, 4), (1, 1), NONE, 1),
]


def make(case: tuple[Any, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
    x_shape, (k, r, s), stride, padding, groups = case
    rng = np.random.default_rng(0)

    def values(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape, dtype=np.float32)

    settings = {"conv": Conv(stride=stride, padding=padding, groups=groups)}
    return values(*x_shape), values(r, s, x_shape[3] // groups, k), values(k), settings


def assert_close(found: np.ndarray, wanted: np.ndarray, tolerance: float = 3e-6) -> None:
    assert found.dtype == np.float32 and found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max()


@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case[0])))
@pytest.mark.parametrize("activation", [None, "relu", "tanh"])
def test_forward(case, activation):
    x, w, b, settings = make(case)
    assert tiling.supports(x, w, b, **settings)
    for bias in (b, None):
        y = tiling.conv2d(x, w, bias, **settings, activation=activation)
        wide = [None if a is None else a.astype(np.float64) for a in (x, w, bias)]
        exact = p.conv2d(*wide, **settings, activation=activation, algo="reference")
        # The sums are some 50 where tanh has its slope: its values are that much less exact.
        assert_close(y, exact, 1e-4 if activation == "tanh" else 3e-6)


@pytest.mark.parametrize("case", CASES, ids=lambda case: "x".join(map(str, case[0])))
def test_gradients(case):
    x, w, b, settings = make(case)
    y = tiling.conv2d(x, w, b, **settings)
    gy = np.random.default_rng(1).standard_normal(y.shape, dtype=np.float32)
    wide = [a.astype(np.float64) for a in (x, gy, w)]
    gw = tiling.weight_grad(x, gy, kernel_shape=w.shape, **settings)
    assert_close(
        gw,
        p.conv2d_weight_grad(*wide[:2], kernel_shape=w.shape, **settings, algo="reference"),
    )
    if tiling.supports_input_grad(gy, w, input_shape=x.shape, **settings):
        gx = tiling.input_grad(gy, w, input_shape=x.shape, **settings)
        assert_close(
            gx, p.conv2d_input_grad(*wide[1:], input_shape=x.shape, **settings, algo="reference")
        )
    else:
        assert settings["conv"].stride != (1, 1) or x.shape[3] // settings["conv"].groups % 16


def test_these_are_the_defaults_of_alexnet():
    x, w, _, settings = make(CASES[1])
    for primitive, arrays, more in (
        (p.conv2d, (x, w), {}),
        (p.conv2d_weight_grad, (x, np.zeros((3, 13, 11, 64), np.float32)),
         {"kernel_shape": w.shape}),
        (p.conv2d_input_grad, (np.zeros((3, 13, 11, 64), np.float32), w),
         {"input_shape": x.shape}),
    ):  # fmt: skip
        from gpukit.device import CPU

        assert primitive.choose(CPU, None, arrays, settings | more).name == "tiled"


def test_bits_do_not_depend_on_the_threads(monkeypatch):
    x, w, b, settings = make(CASES[1])
    found = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "_pool", threads.ThreadPool(count))
        y = tiling.conv2d(x, w, b, **settings)
        gw = tiling.weight_grad(x, y, kernel_shape=w.shape, **settings)
        gx = tiling.input_grad(y, w, input_shape=x.shape, **settings)
        found.append([array.tobytes() for array in (y, gw, gx)])
    assert found[0] == found[1]


@pytest.mark.parametrize("activation", [None, "relu", "sigmoid"])
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(8, 256, 256), (14, 300, 512), (33, 1000, 256), (129, 513, 256), (300, 257, 512)],
)
def test_dense(m, k, n, activation):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((m, k), (k, n)))
    b = rng.standard_normal(n, dtype=np.float32)
    assert tiled_dense.supports(x, w, b)
    for bias in (b, None):
        y = tiled_dense.dense(x, w, bias, activation=activation)
        wide = [None if a is None else a.astype(np.float64) for a in (x, w, bias)]
        exact = p.dense(*wide, activation=activation, algo="reference")
        assert_close(y, exact, 1e-4 if activation == "sigmoid" else 3e-6)


def test_dense_bits_do_not_depend_on_the_threads(monkeypatch):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape, dtype=np.float32) for shape in ((40, 700), (700, 1024)))
    found = []
    for count in (1, 3):
        monkeypatch.setattr(threads, "_pool", threads.ThreadPool(count))
        found.append(tiled_dense.dense(x, w).tobytes())
    assert found[0] == found[1]

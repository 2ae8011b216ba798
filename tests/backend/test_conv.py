"""Convolution and its gradients, every implementation, against naive loops in float64."""

from __future__ import annotations

from functools import cache

import naive
import numpy as np
import pytest
from cases import TIMES, ConvCase, assert_close, assert_sums_close, conv_case, values

from gpukit import primitives as p
from gpukit.primitives import Conv

PASSES = ("conv2d", "conv2d_input_grad", "conv2d_weight_grad", "bias_grad")
CHUNKS, CASES = 4 * TIMES, 15  # naive loops are slow: sixty tiny configurations

PLAIN = {"conv": Conv()}
EDGES = {
    "one pixel": ConvCase(0, (2, 1, 1, 3), (1, 1, 3, 4), PLAIN, True),
    "one pixel, 3x3 padded": ConvCase(
        1, (1, 1, 1, 2), (3, 3, 2, 2), {"conv": Conv(padding=((1, 1), (1, 1)))}, True
    ),
    "empty batch": ConvCase(2, (0, 5, 4, 2), (3, 3, 2, 3), PLAIN, True),
    "stride beyond kernel": ConvCase(
        3, (1, 9, 8, 2), (2, 1, 2, 3), {"conv": Conv(stride=(4, 3))}, False
    ),
    "pixels left over": ConvCase(
        4, (1, 8, 8, 1), (3, 3, 1, 2), {"conv": Conv(stride=(3, 2))}, False
    ),
    "depthwise": ConvCase(5, (2, 5, 5, 6), (3, 3, 1, 6), {"conv": Conv(groups=6)}, True),
    "depthwise, two each": ConvCase(6, (1, 5, 4, 3), (2, 3, 1, 6), {"conv": Conv(groups=3)}, True),
    "one-sided padding": ConvCase(
        7, (1, 4, 5, 2), (3, 2, 2, 2), {"conv": Conv(padding=((2, 0), (0, 3)))}, True
    ),
    "dilated to the edge": ConvCase(
        8, (1, 7, 9, 2), (3, 3, 2, 2), {"conv": Conv(dilation=(3, 4))}, True
    ),
    "padding wider than kernel": ConvCase(
        9, (1, 3, 3, 2), (2, 2, 2, 2), {"conv": Conv(padding=((4, 3), (3, 4)))}, True
    ),
    "one row": ConvCase(10, (3, 1, 11, 2), (1, 5, 2, 3), {"conv": Conv(stride=(1, 2))}, True),
    "images, many filters": ConvCase(
        30,
        (2, 9, 14, 3),
        (5, 3, 3, 24),
        {"conv": Conv(stride=(2, 2), padding=((1, 0), (2, 1)))},
        True,
    ),
    "one grey image, more filters than a tile": ConvCase(
        31, (1, 6, 11, 1), (3, 3, 1, 100), PLAIN, True
    ),
    "first layer of AlexNet, cut": ConvCase(
        11, (1, 19, 15, 3), (11, 11, 3, 2), {"conv": Conv(stride=(4, 4))}, True
    ),
}


@cache
def truth(seed: int, whole: bool, edge: str = "") -> tuple[ConvCase, dict[str, np.ndarray]]:
    """A case with its data (float64 holding float32 values) and the naive results."""
    case = EDGES[edge] if edge else conv_case(seed, most=6)
    data = {
        "x": case.array(case.x, 1, np.float32, whole).astype(np.float64),
        "w": case.array(case.w, 2, np.float32, whole).astype(np.float64),
        "b": case.array(case.w[3:], 3, np.float32, whole).astype(np.float64),
    }
    data["y"] = naive.conv2d(
        data["x"], data["w"], data["b"] if case.bias else None, **case.settings
    )
    data["gy"] = case.array(data["y"].shape, 4, np.float32, whole).astype(np.float64)
    data["gx"] = naive.conv2d_input_grad(data["gy"], data["w"], input_shape=case.x, **case.settings)
    data["gw"] = naive.conv2d_weight_grad(
        data["x"], data["gy"], kernel_shape=case.w, **case.settings
    )
    data["gb"] = data["gy"].reshape(-1, case.w[3]).sum(axis=0)
    return case, data


def run(backend, case: ConvCase, data: dict[str, np.ndarray], dtype) -> dict[str, np.ndarray]:
    """All four passes by `backend`."""
    x, w, b, gy = (data[name].astype(dtype) for name in ("x", "w", "b", "gy"))
    return {
        "y": backend(p.conv2d, x, w, b if case.bias else None, **case.settings),
        "gx": backend(p.conv2d_input_grad, gy, w, input_shape=case.x, **case.settings),
        "gw": backend(p.conv2d_weight_grad, x, gy, kernel_shape=case.w, **case.settings),
        "gb": backend(p.bias_grad, gy),
    }


def lengths(case: ConvCase, data: dict[str, np.ndarray]) -> dict[str, int]:
    """How many products each result adds up at most."""
    r, s, c, k = case.w
    n, rows, columns, _ = data["y"].shape
    places = n * rows * columns
    return {
        "y": r * s * c,
        "gx": r * s * k // case.settings["conv"].groups,
        "gw": places,
        "gb": places,
    }


@pytest.mark.primitives(*PASSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_configurations(backend, chunk, dtype):
    for seed in range(chunk * CASES, (chunk + 1) * CASES):
        case, data = truth(seed, whole=False)
        results, length = run(backend, case, data, dtype), lengths(case, data)
        for name, result in results.items():
            assert result.dtype == dtype, (name, case)
            assert_sums_close(result, data[name], length[name], (name, case))


@pytest.mark.primitives(*PASSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_whole_numbers_are_exact(backend, chunk, dtype):
    for seed in range(chunk * CASES, (chunk + 1) * CASES):
        case, data = truth(seed, whole=True)
        check_whole(backend, case, data, dtype)


@pytest.mark.primitives(*PASSES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("edge", EDGES)
def test_edges(backend, edge, dtype):
    case, data = truth(0, True, edge)
    check_whole(backend, case, data, dtype)


def check_whole(backend, case: ConvCase, data: dict[str, np.ndarray], dtype) -> None:
    for name, result in run(backend, case, data, dtype).items():
        if not backend.exact_on_integers:
            # A transform works on the whole padded image; its error is judged by that.
            assert np.max(np.abs(result - data[name]), initial=0) < 1e-3, (name, case)
            result = np.rint(result)
        np.testing.assert_array_equal(result, data[name], str((name, case)))


@pytest.mark.primitives("conv2d")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ["relu", "sigmoid", "tanh"])
def test_activation_in_passing(backend, activation, dtype):
    applied = {
        "relu": lambda y: np.maximum(y, 0),
        "sigmoid": lambda y: 1 / (1 + np.exp(-y)),
        "tanh": np.tanh,
    }[activation]
    for edge in EDGES:
        case, data = truth(0, True, edge)
        x, w, b = (data[name].astype(dtype) for name in "xwb")
        y = backend(
            p.conv2d, x, w, b if case.bias else None, **case.settings, activation=activation
        )
        assert y.dtype == dtype
        # A transform's rounding grows with the image, and so with all that it takes in.
        assert_close(y, applied(data["y"]), case, ulps=max(16, int(np.prod(case.x[1:]))))


@pytest.mark.primitives(*PASSES)
def test_larger_than_a_panel(backend):
    """Shapes beyond any cache block or tile, whole numbers against the one-line matrix product."""
    settings = {"conv": Conv(padding=((1, 1), (1, 1)))}
    x = values((3, 33, 29, 16), 1, np.float32, whole=True)
    w = values((3, 3, 16, 24), 2, np.float32, whole=True)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))
    y = np.einsum("npqcrs,rsck->npqk", patches, w)
    gy = values(y.shape, 3, np.float32, whole=True)
    gw = np.einsum("npqcrs,npqk->rsck", patches, gy)
    gy_padded = np.pad(gy, ((0, 0), (1, 1), (1, 1), (0, 0)))
    gy_patches = np.lib.stride_tricks.sliding_window_view(gy_padded, (3, 3), (1, 2))
    gx = np.einsum("npqkrs,rsck->npqc", gy_patches, w[::-1, ::-1])
    near = np.testing.assert_array_equal if backend.exact_on_integers else near_whole
    near(backend(p.conv2d, x, w, **settings), y)
    near(backend(p.conv2d_input_grad, gy, w, input_shape=x.shape, **settings), gx)
    near(backend(p.conv2d_weight_grad, x, gy, kernel_shape=w.shape, **settings), gw)
    np.testing.assert_array_equal(backend(p.bias_grad, gy), gy.sum(axis=(0, 1, 2)))


def near_whole(actual: np.ndarray, exact: np.ndarray) -> None:
    np.testing.assert_allclose(actual, exact, rtol=0, atol=1e-5 * np.max(np.abs(exact)))


@pytest.mark.primitives(*PASSES)
def test_arrays_that_are_not_contiguous(backend):
    case = ConvCase(1, (2, 7, 6, 4), (3, 2, 2, 6), {"conv": Conv(stride=(2, 1), groups=2)}, True)
    x = np.swapaxes(values((4, 6, 7, 2), 1, np.float32, whole=True), 0, 3)[:, :, ::-1]
    x = np.ascontiguousarray(x.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
    x = np.swapaxes(x, 1, 2)
    w = values((6, 2, 2, 3), 2, np.float32, whole=True).transpose(3, 1, 2, 0)
    expected = naive.conv2d(x, w, **case.settings)
    y = backend(p.conv2d, x, w, **case.settings)
    gy = values(y.shape[::-1], 3, np.float32, whole=True).transpose()
    gx = backend(p.conv2d_input_grad, gy, w, input_shape=x.shape, **case.settings)
    gw = backend(p.conv2d_weight_grad, x, gy, kernel_shape=w.shape, **case.settings)
    same = np.testing.assert_array_equal if backend.exact_on_integers else near_whole
    same(y, expected)
    same(gx, naive.conv2d_input_grad(gy, w, input_shape=x.shape, **case.settings))
    same(gw, naive.conv2d_weight_grad(x, gy, kernel_shape=w.shape, **case.settings))


def test_bias_gradient_of_a_long_batch_keeps_its_digits():
    """float32 row after row would lose three digits here."""
    gy = np.random.default_rng(0).random((200_000, 3), dtype=np.float32)
    exact = gy.astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(p.bias_grad(gy), exact, rtol=3e-6)
    np.testing.assert_allclose(p.bias_grad(gy, algo="reference"), exact, rtol=1e-7)

"""Every family against PyTorch on the CPU, forward and gradient, in float64: random configurations.

PyTorch is an oracle, never a dependency: without it this file is skipped. Its layouts are NCHW and
KCRS; the transposes below are the whole translation.
"""

from __future__ import annotations

import random
from functools import cache
from typing import Any

import numpy as np
import pytest
from cases import (
    TIMES,
    assert_close,
    assert_sums_close,
    conv_case,
    pool_case,
    values,
)

from gpukit import ops
from gpukit import primitives as p

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no second oracle")
F = torch.nn.functional
torch.set_num_threads(1)

CONV_CHUNKS, CONV_CASES = 6 * TIMES, 50
POOL_CHUNKS, POOL_CASES = 4 * TIMES, 50
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def tensor(array: np.ndarray, *axes: int) -> Any:
    """A float64 leaf tensor that asks for gradients, its axes in the order given."""
    array = np.transpose(array, axes) if axes else array
    return torch.tensor(np.ascontiguousarray(array, dtype=np.float64), requires_grad=True)


def host(t: Any, *axes: int) -> np.ndarray:
    array = t.detach().numpy()
    return np.transpose(array, axes) if axes else array


def both_sides(padding: Any) -> tuple[int, ...]:
    """((top, bottom), (left, right)) in the order of torch's pad."""
    (top, bottom), (left, right) = padding
    return left, right, top, bottom


@cache
def conv_truth(seed: int) -> tuple[Any, dict[str, np.ndarray]]:
    case = conv_case(seed)
    data = {
        "x": case.array(case.x, 1, np.float32),
        "w": case.array(case.w, 2, np.float32),
        "b": case.array(case.w[3:], 3, np.float32),
    }
    x, w, b = tensor(data["x"], 0, 3, 1, 2), tensor(data["w"], 3, 2, 0, 1), tensor(data["b"])
    stride, padding, dilation, groups = case.settings["conv"]
    padded = F.pad(x, both_sides(padding))
    y = F.conv2d(
        padded, w, b if case.bias else None, stride=stride, dilation=dilation, groups=groups
    )
    data["y"] = host(y, 0, 2, 3, 1)
    data["gy"] = case.array(data["y"].shape, 4, np.float32)
    y.backward(torch.tensor(data["gy"].astype(np.float64).transpose(0, 3, 1, 2).copy()))
    data["gx"], data["gw"] = host(x.grad, 0, 2, 3, 1), host(w.grad, 2, 3, 1, 0)
    return case, data


@pytest.mark.primitives("conv2d", "conv2d_input_grad", "conv2d_weight_grad")
@DTYPES
@pytest.mark.parametrize("chunk", range(CONV_CHUNKS))
def test_convolution(backend, chunk, dtype):
    for seed in range(1000 + chunk * CONV_CASES, 1000 + (chunk + 1) * CONV_CASES):
        case, data = conv_truth(seed)
        x, w, b, gy = (data[name].astype(dtype) for name in ("x", "w", "b", "gy"))
        y = backend(p.conv2d, x, w, b if case.bias else None, **case.settings)
        gx = backend(p.conv2d_input_grad, gy, w, input_shape=case.x, **case.settings)
        gw = backend(p.conv2d_weight_grad, x, gy, kernel_shape=case.w, **case.settings)
        r, s, c, k = case.w
        places = y.shape[0] * y.shape[1] * y.shape[2]
        assert_sums_close(y, data["y"], r * s * c, case)
        assert_sums_close(gx, data["gx"], r * s * k // case.settings["conv"].groups, case)
        assert_sums_close(gw, data["gw"], places, case)


@cache
def max_pool_truth(seed: int) -> tuple[Any, dict[str, np.ndarray]]:
    case = pool_case(seed)
    # Few different values, so that ties are common. torch, too, gives ties to the first.
    data = {"x": case.array(case.x, 1, np.float32, whole=True)}
    x = tensor(data["x"], 0, 3, 1, 2)
    window, stride, padding, _ = case.settings["window"]
    padded = F.pad(x, both_sides(padding), value=-np.inf)
    if case.x[0] == 0:  # torch refuses an empty batch here
        return case, data
    y = F.max_pool2d(padded, window, stride)
    data["y"] = host(y, 0, 2, 3, 1)
    data["gy"] = case.array(data["y"].shape, 2, np.float32, whole=True)
    y.backward(torch.tensor(data["gy"].astype(np.float64).transpose(0, 3, 1, 2).copy()))
    data["gx"] = host(x.grad, 0, 2, 3, 1)
    return case, data


@pytest.mark.primitives("max_pool2d", "max_pool2d_grad")
@DTYPES
@pytest.mark.parametrize("chunk", range(POOL_CHUNKS))
def test_max_pool(backend, chunk, dtype):
    for seed in range(chunk * POOL_CASES, (chunk + 1) * POOL_CASES):
        case, data = max_pool_truth(seed)
        y, index = backend(p.max_pool2d, data["x"].astype(dtype), **case.settings)
        if case.x[0] == 0:
            assert y.shape == index.shape
            assert y.shape[0] == 0
            continue
        np.testing.assert_array_equal(y, data["y"], str(case))
        gx = backend(
            p.max_pool2d_grad, data["gy"].astype(dtype), index, input_shape=case.x, **case.settings
        )
        np.testing.assert_array_equal(gx, data["gx"], str(case))


@cache
def avg_pool_truth(seed: int) -> tuple[Any, dict[str, np.ndarray]]:
    """Torch counts no padding only where it is symmetric and at most half a window, so the mean of
    the pixels inside is here the ratio of two of its means over the padded image."""
    case = pool_case(seed)
    data = {"x": case.array(case.x, 1, np.float32)}
    x = tensor(data["x"], 0, 3, 1, 2)
    window, stride, padding, _ = case.settings["window"]

    def mean(image: Any) -> Any:
        return F.avg_pool2d(F.pad(image, both_sides(padding)), window, stride)

    if case.x[0] == 0:
        return case, data
    y = mean(x) / mean(torch.ones_like(x))
    data["y"] = host(y, 0, 2, 3, 1)
    data["gy"] = case.array(data["y"].shape, 2, np.float32)
    y.backward(torch.tensor(data["gy"].astype(np.float64).transpose(0, 3, 1, 2).copy()))
    data["gx"] = host(x.grad, 0, 2, 3, 1)
    return case, data


@pytest.mark.primitives("avg_pool2d", "avg_pool2d_grad")
@DTYPES
@pytest.mark.parametrize("chunk", range(POOL_CHUNKS))
def test_average_pool(backend, chunk, dtype):
    for seed in range(500 + chunk * POOL_CASES, 500 + (chunk + 1) * POOL_CASES):
        case, data = avg_pool_truth(seed)
        y = backend(p.avg_pool2d, data["x"].astype(dtype), **case.settings)
        if case.x[0] == 0:
            assert y.shape[0] == 0
            continue
        assert_close(y, data["y"], case)
        gy = data["gy"].astype(dtype)
        gx = backend(p.avg_pool2d_grad, gy, input_shape=case.x, **case.settings)
        assert_close(gx, data["gx"], case)


ACTIVATIONS = {
    **{name: (getattr(F, name), {}) for name in ops.activation.__all__},
    "leaky_relu": (lambda x: F.leaky_relu(x, 0.3), {"slope": 0.3}),
    "elu": (lambda x: F.elu(x, 1.7), {"alpha": 1.7}),
    "softmax": (lambda x: F.softmax(x, -1), {}),
    "log_softmax": (lambda x: F.log_softmax(x, -1), {}),
}


@pytest.mark.primitives(*ACTIVATIONS, *(f"{name}_grad" for name in ACTIVATIONS))
@DTYPES
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(backend, name, dtype):
    theirs, settings = ACTIVATIONS[name]
    forward, gradient = getattr(p, name), getattr(p, f"{name}_grad")
    for i, shape in enumerate([(5, 7), (1, 1), (2, 3, 4, 5), (0, 3), (3, 1000), (4099, 2)]):
        x = 3 * values(shape, i, np.float32)
        gy = values(shape, 100 + i, np.float32)
        x_theirs = tensor(x)
        y_theirs = theirs(x_theirs)
        y_theirs.backward(torch.tensor(gy.astype(np.float64)))
        x, gy = x.astype(dtype), gy.astype(dtype)
        y = backend(forward, x, **settings)
        gx = backend(gradient, gy, y if "y" in gradient.signature.parameters else x, **settings)
        assert y.dtype == gx.dtype == dtype
        assert_close(y, host(y_theirs), (name, shape))
        assert_close(gx, host(x_theirs.grad), (name, shape), ulps=64)


@pytest.mark.primitives("softmax_cross_entropy", "softmax_cross_entropy_grad")
@DTYPES
@pytest.mark.parametrize("soft", [False, True])
def test_softmax_cross_entropy(backend, soft, dtype):
    for i, (n, k) in enumerate([(1, 1), (3, 10), (64, 10), (5, 1000), (128, 7), (0, 4)]):
        x = 4 * values((n, k), i, np.float32)
        gloss = values((n,), 10 + i, np.float32)
        if soft:
            targets = np.abs(values((n, k), 20 + i, np.float32))
            targets[: n // 2] /= targets[: n // 2].sum(axis=1, keepdims=True)
            theirs_targets = torch.tensor(targets.astype(np.float64))
            targets = targets.astype(dtype)
        else:
            targets = np.random.default_rng(i).integers(0, k, n)
            theirs_targets = torch.tensor(targets)
        x_theirs = tensor(x)
        loss_theirs = F.cross_entropy(x_theirs, theirs_targets, reduction="none")
        loss_theirs.backward(torch.tensor(gloss.astype(np.float64)))
        loss, probabilities = backend(p.softmax_cross_entropy, x.astype(dtype), targets)
        gx = backend(p.softmax_cross_entropy_grad, gloss.astype(dtype), probabilities, targets)
        assert loss.dtype == probabilities.dtype == gx.dtype == dtype
        assert_sums_close(loss, host(loss_theirs), k if soft else 1, (n, k), 16.0)
        assert_close(probabilities, host(F.softmax(x_theirs, 1)), (n, k))
        assert_sums_close(gx, host(x_theirs.grad), k, (n, k))


@pytest.mark.primitives("squared_error", "squared_error_grad")
@DTYPES
def test_squared_error(backend, dtype):
    for i, shape in enumerate([(4,), (3, 5), (2, 3, 4), (1, 1), (0, 3), (2, 5, 6, 7)]):
        y, t = values(shape, i, np.float32), values(shape, 10 + i, np.float32)
        gloss = values(shape[:1], 20 + i, np.float32)
        y_theirs = tensor(y)
        errors = F.mse_loss(y_theirs, torch.tensor(t.astype(np.float64)), reduction="none")
        loss_theirs = errors.reshape(shape[0], -1 if shape[0] else 1).mean(dim=1)
        loss_theirs.backward(torch.tensor(gloss.astype(np.float64)))
        y, t, gloss = y.astype(dtype), t.astype(dtype), gloss.astype(dtype)
        assert_close(backend(p.squared_error, y, t), host(loss_theirs), shape)
        assert_close(backend(p.squared_error_grad, gloss, y, t), host(y_theirs.grad), shape)


@pytest.mark.primitives("batch_norm", "batch_norm_inference", "batch_norm_grad")
@DTYPES
def test_batch_norm(backend, dtype):
    shapes = [(2, 3), (8, 1), (2, 3, 4, 5), (3, 7, 5, 17), (1, 9, 9, 64), (257, 6)]
    for i, shape in enumerate(shapes):
        c = shape[-1]
        x = 2 * values(shape, i, np.float32) + 1
        gamma, beta = values((c,), 10 + i, np.float32), values((c,), 20 + i, np.float32)
        gy = values(shape, 30 + i, np.float32)
        theirs = [tensor(x.reshape(-1, c)), tensor(gamma), tensor(beta)]
        y_theirs = F.batch_norm(theirs[0], None, None, *theirs[1:], training=True, eps=1e-3)
        y_theirs.backward(torch.tensor(gy.reshape(-1, c).astype(np.float64)))
        x, gamma, beta, gy = (a.astype(dtype) for a in (x, gamma, beta, gy))
        y, mean, variance = backend(p.batch_norm, x, gamma, beta, epsilon=1e-3)
        assert_close(y, host(y_theirs).reshape(shape), shape, ulps=64)
        rows = x.reshape(-1, c).astype(np.float64)
        assert_close(mean, rows.mean(axis=0), shape)
        assert_close(variance, rows.var(axis=0), shape)
        again = backend(p.batch_norm_inference, x, gamma, beta, mean, variance, epsilon=1e-3)
        assert_close(again, y.astype(np.float64), shape)
        gx, ggamma, gbeta = backend(p.batch_norm_grad, gy, x, gamma, mean, variance, epsilon=1e-3)
        count = rows.shape[0]
        assert_close(gx, host(theirs[0].grad).reshape(shape), shape, ulps=128)
        assert_sums_close(ggamma, host(theirs[1].grad), count, shape)
        assert_sums_close(gbeta, host(theirs[2].grad), count, shape)


@pytest.mark.primitives("lrn", "lrn_grad")
@DTYPES
def test_local_response_normalisation(backend, dtype):
    pick = random.Random(0)
    for i in range(40 * TIMES):
        groups, size = pick.choice([1, 1, 2, 3]), pick.choice([1, 2, 3, 4, 5, 9])
        channels = groups * pick.choice([1, 2, 5, 8, 16, 33])
        settings = {
            "size": size,
            "alpha": pick.choice([1e-4, 5e-4, 0.5, 2.0]),
            "beta": pick.choice([0.5, 0.75, 1.0, 1.3]),
            "k": pick.choice([1.0, 2.0]),
        }
        shape = (pick.choice([0, 1, 3]), pick.choice([1, 2, 5]), pick.choice([1, 4]), channels)
        x, gy = values(shape, i, np.float32), values(shape, 100 + i, np.float32)
        x_theirs = tensor(x)
        parts = torch.chunk(x_theirs.permute(0, 3, 1, 2), groups, dim=1)
        y_theirs = torch.cat([F.local_response_norm(part, **settings) for part in parts], dim=1)
        y_theirs = y_theirs.permute(0, 2, 3, 1)
        y_theirs.backward(torch.tensor(gy.astype(np.float64)))
        x, gy = x.astype(dtype), gy.astype(dtype)
        response = p.Response(**settings, groups=groups)
        y = backend(p.lrn, x, response=response)
        gx = backend(p.lrn_grad, gy, x, response=response)
        assert_close(y, host(y_theirs), (shape, settings))
        assert_close(gx, host(x_theirs.grad), (shape, settings), ulps=64)


@pytest.mark.primitives("dense", "dense_input_grad", "dense_weight_grad", "bias_grad")
@DTYPES
def test_dense(backend, dtype):
    for i, (n, c, k) in enumerate([(1, 1, 1), (3, 5, 7), (0, 4, 3), (64, 120, 84), (17, 300, 2)]):
        x, w = values((n, c), i, np.float32), values((c, k), 10 + i, np.float32)
        b, gy = values((k,), 20 + i, np.float32), values((n, k), 30 + i, np.float32)
        theirs = [tensor(x), tensor(w, 1, 0), tensor(b)]
        y_theirs = F.linear(*theirs)
        y_theirs.backward(torch.tensor(gy.astype(np.float64)))
        x, w, b, gy = (a.astype(dtype) for a in (x, w, b, gy))
        assert_sums_close(backend(p.dense, x, w, b), host(y_theirs), c, (n, c, k))
        gx, gw = backend(p.dense_input_grad, gy, w), backend(p.dense_weight_grad, x, gy)
        assert_sums_close(gx, host(theirs[0].grad), k, (n, c, k))
        assert_sums_close(gw, host(theirs[1].grad, 1, 0), n, (n, c, k))
        assert_sums_close(backend(p.bias_grad, gy), host(theirs[2].grad), n, (n, c, k))


def optimiser_case(momentum: float, weight_decay: float, dtype: Any) -> tuple[Any, ...]:
    w = values((1003,), 1, np.float32)
    gradients = [values((1003,), 2 + step, np.float32) for step in range(4)]
    return w.astype(dtype), [g.astype(dtype) for g in gradients], torch.nn.Parameter(tensor(w))


def their_steps(optimiser: Any, parameter: Any, gradients: Any) -> np.ndarray:
    for g in gradients:
        parameter.grad = torch.tensor(g.astype(np.float64))
        optimiser.step()
    return parameter.detach().numpy()


@pytest.mark.primitives("sgd_update")
@DTYPES
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("momentum, nesterov", [(0.0, False), (0.9, False), (0.9, True)])
def test_sgd(backend, momentum, nesterov, weight_decay, dtype):
    """At a constant rate torch's lr·v is our -v."""
    w, gradients, parameter = optimiser_case(momentum, weight_decay, dtype)
    settings = {"lr": 0.05, "momentum": momentum, "weight_decay": weight_decay}
    expected = their_steps(
        torch.optim.SGD([parameter], nesterov=nesterov, **settings), parameter, gradients
    )
    v = np.zeros_like(w) if momentum else None
    for g in gradients:
        w, v, _ = backend.update(p.sgd_update, w, v, g, nesterov=nesterov, **settings)
    assert_close(w, expected)


@pytest.mark.primitives("adam_update")
@DTYPES
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam(backend, weight_decay, dtype):
    w, gradients, parameter = optimiser_case(0.0, weight_decay, dtype)
    optimiser = torch.optim.Adam(
        [parameter], lr=0.01, betas=(0.9, 0.99), eps=1e-7, weight_decay=weight_decay
    )
    expected = their_steps(optimiser, parameter, gradients)
    m, v = np.zeros_like(w), np.zeros_like(w)
    settings = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-7}
    for step, g in enumerate(gradients, 1):
        w, m, v, _ = backend.update(
            p.adam_update, w, m, v, g, step=step, weight_decay=weight_decay, **settings
        )
    assert_close(w, expected)


@pytest.mark.primitives("rmsprop_update")
@DTYPES
@pytest.mark.parametrize("momentum, weight_decay", [(0.0, 0.0), (0.9, 0.1)])
def test_rmsprop(backend, momentum, weight_decay, dtype):
    w, gradients, parameter = optimiser_case(momentum, weight_decay, dtype)
    settings = {"lr": 0.01, "momentum": momentum, "weight_decay": weight_decay}
    optimiser = torch.optim.RMSprop([parameter], alpha=0.9, eps=1e-7, **settings)
    expected = their_steps(optimiser, parameter, gradients)
    a, v = np.zeros_like(w), np.zeros_like(w) if momentum else None
    for g in gradients:
        w, a, v, _ = backend.update(p.rmsprop_update, w, a, v, g, rho=0.9, epsilon=1e-7, **settings)
    assert_close(w, expected, ulps=32)


@pytest.mark.primitives("adagrad_update")
@DTYPES
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adagrad(backend, weight_decay, dtype):
    w, gradients, parameter = optimiser_case(0.0, weight_decay, dtype)
    optimiser = torch.optim.Adagrad([parameter], lr=0.1, eps=1e-7, weight_decay=weight_decay)
    expected = their_steps(optimiser, parameter, gradients)
    a = np.zeros_like(w)
    for g in gradients:
        w, a, _ = backend.update(
            p.adagrad_update, w, a, g, lr=0.1, epsilon=1e-7, weight_decay=weight_decay
        )
    assert_close(w, expected)

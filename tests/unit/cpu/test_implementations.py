"""Every CPU implementation against the definition, in float64, on odd shapes."""

import numpy as np
import pytest

from gpukit import ops
from gpukit import primitives as p
from gpukit.primitives import Conv, Response

WAYS = list(p.conv2d.implementations("cpu"))


def _shapes(seed: int):
    """A random convolution: x, w, b and settings; every tenth one is empty or a single pixel."""
    random = np.random.default_rng(seed)
    groups = int(random.integers(1, 4))
    c, k = (groups * int(random.integers(1, 7)) for _ in range(2))
    r, s = map(int, random.integers(1, 5, 2))
    h, w = map(int, random.integers(8, 24, 2))
    n = int(random.integers(1, 5))
    conv = Conv(
        stride=tuple(map(int, random.integers(1, 4, 2))),
        padding=tuple((int(a), int(b)) for a, b in random.integers(0, 4, (2, 2))),
        dilation=tuple(map(int, random.integers(1, 3, 2))),
        groups=groups,
    )
    if seed % 10 == 0:
        n = 0
    if seed % 10 == 1:
        h = w = r = s = 1
    if seed % 10 in (1, 2):
        r = s = 1
        conv = Conv(groups=groups)
    if seed % 10 == 3:
        conv = conv._replace(groups=c)
        k = 2 * c if seed % 20 == 3 else c
    if seed % 10 in (4, 5):
        conv = Conv((1, 1 + seed % 2), conv.padding)
    depth = c // conv.groups
    return (
        random.standard_normal((n, h, w, c)),
        random.standard_normal((r, s, depth, k)),
        random.standard_normal(k),
        {"conv": conv},
    )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("seed", range(40))
def test_convolution_and_its_gradients(way, seed):
    x, w, b, settings = _shapes(seed)
    activation = (None, "relu", "sigmoid", "tanh")[seed % 4]
    y = p.conv2d(x, w, b, activation=activation, algo=way, **settings)
    expected = p.conv2d(x, w, b, activation=activation, algo="reference", **settings)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-9)
    gy = np.random.default_rng(seed).standard_normal(y.shape)
    for primitive, arrays, shape in (
        (p.conv2d_input_grad, (gy, w), {"input_shape": x.shape}),
        (p.conv2d_weight_grad, (x, gy), {"kernel_shape": w.shape}),
    ):
        if way in primitive.implementations("cpu"):
            got = primitive(*arrays, algo=way, **shape, **settings)
            wanted = primitive(*arrays, algo="reference", **shape, **settings)
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize(("channels", "groups"), [(1, 1), (6, 2), (40, 1), (96, 2)])
@pytest.mark.parametrize("beta", [0.75, 0.5])
def test_lrn(size, channels, groups, beta):
    random = np.random.default_rng(size)
    x, gy = random.standard_normal((2, 3, 5, 7, channels))
    settings = {"response": Response(size=size, alpha=0.3, beta=beta, k=2.0, groups=groups)}
    for primitive, arrays in ((p.lrn, (x,)), (p.lrn_grad, (gy, x))):
        np.testing.assert_allclose(
            primitive(*arrays, **settings),
            primitive(*arrays, algo="reference", **settings),
            rtol=1e-10,
            atol=1e-12,
        )


@pytest.mark.parametrize("shape", [(5, 3), (1000, 7), (300, 300), (70, 64, 3)])
def test_column_sums_are_accurate(shape):
    gy = np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 1
    exact = gy.astype(np.float64).sum(axis=tuple(range(gy.ndim - 1)))
    np.testing.assert_allclose(p.bias_grad(gy), exact, rtol=1e-6)


@pytest.mark.parametrize("bad", [10, -11])
def test_a_label_out_of_range_is_an_error_not_a_wild_read(bad):
    labels = np.array([0, bad, 2])
    with pytest.raises(IndexError):
        p.softmax_cross_entropy(np.zeros((3, 10), np.float32), labels)


def test_nan_survives_every_activation():
    x = np.array([np.nan, -1.0, 1.0], np.float32)
    for name in ops.activation.__all__:
        y = getattr(ops, name)(x)
        assert np.isnan(y[0]) and not np.isnan(y[1:]).any()
    for activation in ("relu", "sigmoid", "tanh"):
        y = p.dense(x[:, None], np.ones((1, 4), np.float32), activation=activation)
        assert np.isnan(y[0]).all() and not np.isnan(y[1:]).any()

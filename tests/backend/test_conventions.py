"""The conventions that users' code and files lean on, each by a test named after it.

Those of layers, losses, tape and files are held beside these; here are the ones of primitives.
"""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from cases import values

import gpukit
from gpukit import primitives as p
from gpukit.errors import ShapeError
from gpukit.primitives import Conv, Response, Window, geometry

NONE = ((0, 0), (0, 0))
PLAIN = {"conv": Conv()}


@pytest.mark.primitives("conv2d", "dense")
def test_layout_is_nhwc_and_weights_are_rsck(backend):
    """A weight of 1 at (r, s, c, k) copies channel c, moved up by r and left by s, to channel k."""
    x = values((2, 5, 7, 3), 1, np.float32, whole=True)
    w = np.zeros((2, 3, 3, 4), np.float32)
    w[1, 2, 0, 3] = 1
    y = backend(p.conv2d, x, w, **PLAIN)
    assert y.shape == (2, 4, 5, 4)
    expected = np.zeros_like(y)
    expected[..., 3] = x[:, 1:5, 2:7, 0]
    np.testing.assert_allclose(y, expected, atol=1e-5)
    rows, weights = values((2, 3), 2, np.float32, True), np.zeros((3, 5), np.float32)
    weights[2, 4] = 1
    y = backend(p.dense, rows, weights)
    np.testing.assert_array_equal(y, rows[:, 2:3] * np.eye(5)[4])


@pytest.mark.primitives("conv2d")
def test_layout_of_groups(backend):
    """Weights (R, S, C/groups, K): filters of group g read the channels of group g alone."""
    x = values((1, 3, 3, 4), 1, np.float32, whole=True)
    w = np.ones((1, 1, 2, 6), np.float32)
    y = backend(p.conv2d, x, w, **{"conv": Conv(groups=2)})
    sums = [x[..., :2].sum(axis=-1), x[..., 2:].sum(axis=-1)]
    np.testing.assert_allclose(y, np.stack(sums[:1] * 3 + sums[1:] * 3, axis=-1), atol=1e-5)


@pytest.mark.parametrize(
    "n, f, s, d, padding",
    [
        (5, 3, 1, 1, (1, 1)),  # the notes' (F - 1)/2
        (5, 4, 1, 1, (1, 2)),
        (6, 3, 2, 1, (0, 1)),
        (7, 3, 2, 1, (1, 1)),
        (224, 7, 2, 1, (2, 3)),
        (5, 3, 1, 2, (2, 2)),
        (5, 1, 3, 1, (0, 0)),
        (4, 2, 5, 1, (0, 0)),
    ],
)
def test_padding_same(n, f, s, d, padding):
    """max((⌈n/s⌉ - 1)·s + (f - 1)·d + 1 - n, 0) in all, the odd one at the bottom and right."""
    made = geometry.window((n, n), f, stride=s, dilation=d, padding="same")
    assert made.padding == (padding, padding)
    assert made.output_shape((n, n)) == (math.ceil(n / s),) * 2


def test_padding_valid_and_given():
    assert geometry.window((8, 8), 3, padding="valid").padding == NONE
    assert geometry.window((8, 8), 3, padding=2).padding == ((2, 2), (2, 2))
    assert geometry.window((8, 8), 3, padding=((1, 2), (3, 4))).padding == ((1, 2), (3, 4))


@pytest.mark.primitives("conv2d")
def test_output_size_is_floor(backend):
    """7, F 3, S 3 is 2.33: two windows, the last pixel unread; strict refuses."""
    x = values((1, 7, 7, 1), 1, np.float32)
    y = backend(p.conv2d, x, np.ones((3, 3, 1, 1), np.float32), **{"conv": Conv(stride=(3, 3))})
    assert y.shape == (1, 2, 2, 1)
    with pytest.raises(ShapeError, match=r"= 2\.33 does not fit; use stride 1, 2, 4"):
        geometry.window((7, 7), 3, stride=3, strict=True)
    with gpukit.strict(), pytest.raises(ShapeError, match=r"2\.33"):
        geometry.pool_window((7, 7), 3)


@pytest.mark.primitives("max_pool2d")
def test_max_pool_ties_go_to_the_first_in_row_major_order(backend):
    x = np.array([[1, 5], [5, 5]], np.float32).reshape(1, 2, 2, 1)
    y, index = backend(p.max_pool2d, x, window=Window((2, 2), stride=(2, 2)))
    assert (y.item(), index.item()) == (5, 1)
    same = np.zeros((1, 2, 2, 1), np.float32)
    _, index = backend(p.max_pool2d, same, window=Window((2, 2), stride=(2, 2)))
    assert index.item() == 0


@pytest.mark.primitives("max_pool2d")
def test_max_pool_nan_wins(backend):
    x = np.array([[np.inf, np.nan], [9, np.nan]], np.float32).reshape(1, 2, 2, 1)
    y, index = backend(p.max_pool2d, x, window=Window((2, 2), stride=(2, 2)))
    assert np.isnan(y.item())
    assert index.item() == 1


@pytest.mark.primitives("max_pool2d")
@pytest.mark.parametrize("window, dtype", [((16, 16), np.uint8), ((1, 257), np.uint16)])
def test_max_pool_index_is_uint8_up_to_256_cells(backend, window, dtype):
    x = np.zeros((1, *window, 1), np.float32)
    _, index = backend(p.max_pool2d, x, window=Window(window))
    assert index.dtype == dtype


@pytest.mark.primitives("max_pool2d")
def test_max_pool_padding_never_wins(backend):
    x = np.full((1, 2, 2, 1), -7, np.float32)
    settings = {"window": Window((2, 2), padding=((1, 1), (1, 1)))}
    y, index = backend(p.max_pool2d, x, **settings)
    np.testing.assert_array_equal(y, np.full((1, 3, 3, 1), -7))
    assert index[0, :, :, 0].tolist() == [[3, 2, 2], [1, 0, 0], [1, 0, 0]]


@pytest.mark.primitives("avg_pool2d")
def test_average_pool_padding_is_not_counted(backend):
    x = np.full((1, 3, 3, 2), 6, np.float32)
    settings = {"window": Window((2, 2), padding=((1, 1), (1, 1)))}
    np.testing.assert_array_equal(backend(p.avg_pool2d, x, **settings), np.full((1, 4, 4, 2), 6))


@pytest.mark.primitives("lrn")
def test_lrn_divides_alpha_by_n_and_stays_in_its_group(backend):
    x = np.ones((1, 1, 1, 6), np.float32)
    response = Response(size=3, alpha=0.3, beta=1.0, k=1.0)
    y = backend(p.lrn, x, response=response).reshape(-1)
    np.testing.assert_allclose(1 / y, [1.2, 1.3, 1.3, 1.3, 1.3, 1.2], rtol=1e-6)
    y = backend(p.lrn, x, response=response._replace(groups=2)).reshape(-1)
    np.testing.assert_allclose(1 / y, [1.2, 1.3, 1.2, 1.2, 1.3, 1.2], rtol=1e-6)


@pytest.mark.primitives("batch_norm")
def test_batch_norm_variance_is_biased(backend):
    x = np.array([[1.0], [3.0]], np.float32)
    ones = np.ones(1, np.float32)
    y, mean, variance = backend(p.batch_norm, x, ones, 0 * ones, epsilon=0.0)
    assert (mean.item(), variance.item()) == (2, 1)
    np.testing.assert_allclose(y, [[-1], [1]], rtol=1e-6)


@pytest.mark.primitives("dropout")
def test_dropout_inverted_and_classic(backend):
    x, settings = np.ones(10_000, np.float32), {"rate": 0.75, "seed": 1, "layer": 0, "step": 0}
    inverted = backend(p.dropout, x, scale=1 / (1 - 0.75), **settings)
    classic = backend(p.dropout, x, scale=1.0, **settings)
    assert set(np.unique(inverted)) == {0, 4}
    assert set(np.unique(classic)) == {0, 1}
    assert abs(inverted.mean() - 1) < 0.1


@pytest.mark.primitives("philox", "dropout")
def test_random_numbers_depend_on_seed_layer_step_and_element_only(backend):
    """Not on the shape, the dtype, the values, or how much is asked for."""
    place = {"seed": 2**40 + 7, "layer": 3, "step": 9}
    words = backend(p.philox, np.ones(2), shape=(6, 7), **place).reshape(-1)
    assert words.tolist() == naive.words(42, **place)
    longer = backend(p.philox, np.zeros((3, 1), np.float32), shape=(1000,), **place)
    np.testing.assert_array_equal(longer[:42], words)
    for dtype in (np.float32, np.float64):
        y = backend(p.dropout, np.ones((3, 14), dtype), rate=0.5, scale=1.0, **place)
        np.testing.assert_array_equal(y.reshape(-1) != 0, words >= 2**31)


@pytest.mark.primitives("softmax_cross_entropy", "squared_error")
def test_losses_are_one_number_an_example(backend):
    """The mean over the batch is taken above; from logits it is log(K) where all are equal."""
    logits, labels = np.zeros((4, 10), np.float32), np.arange(4)
    loss, probabilities = backend(p.softmax_cross_entropy, logits, labels)
    np.testing.assert_allclose(loss, np.full(4, math.log(10)), rtol=1e-6)
    np.testing.assert_allclose(probabilities, np.full((4, 10), 0.1), rtol=1e-6)
    error = backend(
        p.squared_error, np.full((3, 2, 2), 2, np.float32), np.ones((3, 2, 2), np.float32)
    )
    np.testing.assert_array_equal(error, np.ones(3))


@pytest.mark.primitives("sgd_update")
def test_sgd_formula(backend):
    """v ← μv - lr·(g + wd·w); w ← w + v. Nesterov: w ← w + μv - lr·(g + wd·w), the new v."""
    w, v, g = (np.array([a], np.float64) for a in (2.0, 0.5, 3.0))
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.01}
    v_new = 0.9 * 0.5 - 0.1 * (3 + 0.01 * 2)
    plain = backend.update(p.sgd_update, w, v, g, nesterov=False, **settings)
    np.testing.assert_allclose(plain[0], 2 + v_new, rtol=1e-15)
    np.testing.assert_allclose(plain[1], v_new, rtol=1e-15)
    nesterov = backend.update(p.sgd_update, w, v, g, nesterov=True, **settings)
    np.testing.assert_allclose(nesterov[0], 2 + 0.9 * v_new - 0.1 * 3.02, rtol=1e-15)


@pytest.mark.primitives("add", "subtract", "multiply", "divide", "power", "maximum", "minimum")
@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "power", "maximum"])
def test_scalars_never_promote(backend, name):
    """float32·np.sqrt(2) stays float32, whichever side the scalar is on."""
    x = np.ones((2, 3), np.float32)
    for scalar in (2, 2.5, np.sqrt(2.0), np.float32(2), np.int64(2)):
        assert backend(getattr(p, name), x, scalar).dtype == np.float32
        assert backend(getattr(p, name), scalar, x).dtype == np.float32


@pytest.mark.primitives("reduce_sum", "bias_grad", "batch_norm", "global_avg_pool2d")
def test_long_float32_sums_are_blocked_or_pairwise(backend):
    """More than 2²⁴ ones: there a running float32 sum stops."""
    count = 5 << 22
    ones = np.ones((count, 1), np.float32)
    assert backend(p.reduce_sum, ones, axis=0, keepdims=False).item() == count
    assert backend(p.bias_grad, ones).item() == count
    image = ones.reshape(1, 1 << 12, -1, 1)
    assert backend(p.global_avg_pool2d, image).item() == 1
    one = np.ones(1, np.float32)
    _, mean, variance = backend(p.batch_norm, image, one, one, epsilon=1e-3)
    assert (mean.item(), variance.item()) == (1, 0)


@pytest.mark.parametrize("name", ["matmul", "dense"])
def test_half_types_accumulate_in_float32(name):
    """4096 products of 1: a float16 sum stops at 2048."""
    a, b = np.ones((1, 4096), np.float16), np.ones((4096, 1), np.float16)
    y = getattr(p, name)(a, b, algo="reference")
    assert y.dtype == np.float16
    assert y.item() == 4096
    x, w = a.reshape(1, 64, 64, 1), b.reshape(64, 64, 1, 1)
    assert p.conv2d(x, w, algo="reference", **PLAIN).item() == 4096
    assert p.reduce_sum(a, axis=None, keepdims=False, algo="reference").item() == 4096

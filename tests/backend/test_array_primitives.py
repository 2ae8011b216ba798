"""Elementwise, reduction and shape primitives against what NumPy and Python say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from cases import values
from hypothesis import given, settings
from hypothesis import strategies as st

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
BINARY = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "power": lambda a, b: a**b,
    "maximum": max,
    "minimum": min,
}
UNARY = {
    "negative": lambda a: -a,
    "exp": math.exp,
    "log": math.log,
    "sqrt": math.sqrt,
    "square": lambda a: a * a,
    "absolute": abs,
    "sign": lambda a: math.copysign(1.0, a),
}


def positive(shape, seed, dtype) -> np.ndarray:
    return np.asarray(np.abs(values(shape, seed, dtype)) + 0.5, dtype)


@pytest.mark.primitives(*BINARY)
@DTYPES
@pytest.mark.parametrize("name", BINARY)
def test_binary_with_broadcasting(backend, name, dtype):
    for i, (a, b) in enumerate(
        [
            ((3, 4), (3, 4)),
            ((3, 4), (4,)),
            ((3, 1, 2), (5, 1)),
            ((0, 3), (3,)),
            ((), ()),
            ((2,), ()),
        ]
    ):
        x = positive(a, i, dtype)
        y = positive(b, 10 + i, dtype)
        z = backend(getattr(p, name), x, y)
        wide = np.broadcast_arrays(x.astype(np.float64), y.astype(np.float64))
        exact = [BINARY[name](float(u), float(v)) for u, v in zip(*(w.reshape(-1) for w in wide))]
        assert z.dtype == dtype
        assert z.shape == np.broadcast_shapes(a, b)
        relative = 1e-14 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(z.reshape(-1), exact, rtol=relative, atol=relative)


@pytest.mark.primitives("add")
def test_broadcasting_along_every_other_axis(backend):
    x = values((2, 1, 3, 1, 2, 1), 1, np.float32, whole=True)
    y = values((1, 2, 1, 4, 1, 3), 2, np.float32, whole=True)
    np.testing.assert_array_equal(backend(p.add, x, y), x + y)


@pytest.mark.primitives(*UNARY)
@DTYPES
@pytest.mark.parametrize("name", UNARY)
def test_unary(backend, name, dtype):
    for i, shape in enumerate([(3, 4), (1,), (0, 2), (), (2, 3, 4, 5)]):
        x = (positive if name in ("log", "sqrt") else values)(shape, i, dtype)
        y = backend(getattr(p, name), x)
        exact = [UNARY[name](float(v)) for v in x.reshape(-1)]
        assert y.dtype == dtype
        assert y.shape == shape
        relative = 1e-14 if dtype == np.float64 else 1e-6
        np.testing.assert_allclose(y.reshape(-1), exact, rtol=relative, atol=relative / 10)


@pytest.mark.primitives("maximum", "minimum", "sign")
def test_nan_is_never_lost(backend):
    x, y = np.array([np.nan, 1.0, 0.0], np.float32), np.array([1.0, np.nan, -0.0], np.float32)
    for name in ("maximum", "minimum"):
        assert np.isnan(backend(getattr(p, name), x, y)).tolist() == [True, True, False]
    np.testing.assert_array_equal(backend(p.sign, x), [np.nan, 1.0, 0.0])


AXES = [None, 0, -1, (0,), (1, 2), (0, 2), (-1, 0), (0, 1, 2)]


@pytest.mark.primitives("reduce_sum", "reduce_mean", "reduce_max")
@DTYPES
@pytest.mark.parametrize("axis", AXES, ids=str)
def test_reductions(backend, axis, dtype):
    x = values((3, 4, 5), 1, dtype)
    wide = x.astype(np.float64)
    relative = 1e-13 if dtype == np.float64 else 1e-6
    for keepdims in (False, True):
        same = {"axis": axis, "keepdims": keepdims}
        for primitive, exact in [
            (p.reduce_sum, wide.sum(**same)),
            (p.reduce_mean, wide.mean(**same)),
            (p.reduce_max, wide.max(**same)),
        ]:
            y = backend(primitive, x, **same)
            assert y.dtype == dtype
            assert y.shape == exact.shape
            np.testing.assert_allclose(y, exact, rtol=relative, atol=relative)


@pytest.mark.primitives("reduce_sum", "reduce_mean")
@pytest.mark.parametrize(
    "axis, shape", [(0, (1_000_003, 2)), (1, (2, 1_000_003)), (None, (999, 1001))]
)
def test_long_float32_sums_keep_their_digits(backend, axis, shape):
    """A running float32 sum of a million values in [0, 1) is wrong in the fourth digit."""
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    exact = x.astype(np.float64).sum(axis=axis)
    total = backend(p.reduce_sum, x, axis=axis, keepdims=False)
    np.testing.assert_allclose(total, exact, rtol=3e-6)
    mean = backend(p.reduce_mean, x, axis=axis, keepdims=False)
    np.testing.assert_allclose(mean, exact * (total.size / x.size), rtol=3e-6)


@pytest.mark.primitives("reduce_sum", "reduce_mean")
def test_sums_of_nothing_are_zero(backend):
    x = np.zeros((0, 3), np.float32)
    for primitive in (p.reduce_sum, p.reduce_mean):
        np.testing.assert_array_equal(backend(primitive, x, axis=0, keepdims=False), np.zeros(3))
        assert backend(primitive, x, axis=1, keepdims=False).shape == (0,)


@pytest.mark.primitives("argmax")
def test_argmax_takes_the_first_and_nan(backend):
    x = np.array([[1, 3, 3], [2, np.nan, np.nan], [0, 0, 0]], np.float32)
    y = backend(p.argmax, x, axis=1)
    assert y.dtype == np.int64
    assert y.tolist() == [1, 1, 0]
    assert backend(p.argmax, x[[0, 2]], axis=0).tolist() == [0, 0, 0]


FAMILY = ("reshape", "transpose", "concat", "split", "pad", "index", "index_grad", "broadcast_to")


@pytest.mark.primitives(*FAMILY)
@DTYPES
def test_shapes(backend, dtype):
    x = values((2, 3, 4), 1, dtype)
    same = np.testing.assert_array_equal
    same(backend(p.reshape, x, shape=(4, -1)), x.reshape(4, 6))
    same(backend(p.transpose, x, axes=(2, 0, 1)), np.moveaxis(x, 2, 0))
    parts = backend(p.split, x, sections=(1, 0, 3), axis=2)
    assert [part.shape for part in parts] == [(2, 3, 1), (2, 3, 0), (2, 3, 3)]
    same(backend(p.concat, parts, axis=2), x)
    same(backend(p.concat, list(parts), axis=-1), x)
    padded = backend(p.pad, x, widths=((0, 1), (2, 0), (0, 0)), value=-1.5)
    same(padded[:2, 2:], x)
    assert padded.shape == (3, 5, 4)
    assert padded.dtype == dtype
    assert set(np.unique(padded[2])) == set(np.unique(padded[:, :2])) == {-1.5}
    same(backend(p.broadcast_to, x[:1], shape=(5, 3, 4)), np.repeat(x[:1], 5, axis=0))
    for result in (padded, parts[0], backend(p.broadcast_to, x, shape=(1, 2, 3, 4))):
        assert result.dtype == dtype


KEYS = [
    0,
    (0, 1, 2),
    slice(1, None),
    (slice(None, None, -1), Ellipsis, 2),
    (None, 1),
    ([0, 1, 0], 2),
    (slice(None), [2, 2, 2]),
    Ellipsis,
]


@pytest.mark.primitives(*FAMILY)
def test_strides_of_every_kind(backend):
    """Arrays that are views: backwards, with gaps, turned; and a result of 0 axes."""
    x = values((6, 40, 33), 1, np.float32)[::-2, 1:, ::3]
    same = np.testing.assert_array_equal
    same(backend(p.transpose, x, axes=(2, 1, 0)), x.T)
    same(backend(p.transpose, x.T, axes=(2, 1, 0)), x)
    same(backend(p.reshape, x, shape=(-1, 3)), x.reshape(-1, 3))
    same(backend(p.concat, [x, x[:, :, ::-1]], axis=1), np.concatenate([x, x[:, :, ::-1]], axis=1))
    same(backend(p.pad, x, widths=((1, 0), (0, 2), (3, 0)), value=7.0)[1:, :-2, 3:], x)
    same(backend(p.index, x.T, key=(slice(None, None, -3), [5, 0], 1)), x.T[::-3, [5, 0], 1])
    assert backend(p.transpose, values((), 1, np.float32), axes=()).shape == ()


@pytest.mark.primitives("transpose", "concat", "pad", "index", "broadcast_to")
@pytest.mark.parametrize("kind", [np.uint8, np.bool_, np.int16, np.int32, np.int64])
def test_whole_numbers_are_moved_too(backend, kind):
    x = (np.arange(20 * 18).reshape(20, 18) % 2).astype(kind)
    same = np.testing.assert_array_equal
    for result, expected in [
        (backend(p.transpose, x, axes=(1, 0)), x.T),
        (backend(p.concat, [x, x], axis=1), np.tile(x, 2)),
        (
            backend(p.pad, x, widths=((0, 1), (1, 0)), value=1),
            np.pad(x, ((0, 1), (1, 0)), constant_values=1),
        ),
        (backend(p.index, x, key=(slice(None), [3, 0])), x[:, [3, 0]]),
        (backend(p.broadcast_to, x, shape=(2, 20, 18)), np.stack([x, x])),
    ]:
        assert result.dtype == kind
        same(result, expected)


@pytest.mark.primitives("index", "index_grad")
def test_masks_and_places_out_of_range(backend):
    x = values((3, 4), 1, np.float32)
    mask = x > 0
    np.testing.assert_array_equal(backend(p.index, x, key=mask), x[mask])
    gx = backend(p.index_grad, np.ones(mask.sum(), np.float32), key=mask, input_shape=(3, 4))
    np.testing.assert_array_equal(gx, mask)
    with pytest.raises(IndexError, match="out of bounds"):
        backend(p.index, x, key=([0, 3],))


@pytest.mark.primitives("argmax")
@DTYPES
def test_argmax_along_long_axes(backend, dtype):
    for shape, axis in [((40_000,), 0), ((3, 20_000, 2), 1), ((50_000, 3), 0), ((7, 40), -1)]:
        x = np.random.default_rng(1).integers(0, 50, shape).astype(dtype)  # many are equal
        np.testing.assert_array_equal(backend(p.argmax, x, axis=axis), np.argmax(x, axis=axis))
        x.reshape(-1)[x.size // 2 :] = np.nan
        np.testing.assert_array_equal(backend(p.argmax, x, axis=axis), np.argmax(x, axis=axis))


@pytest.mark.primitives("all_finite")
@DTYPES
def test_one_number_that_is_not_finite_is_found(backend, dtype):
    for size in (0, 1, 5, 4096, 300_001):
        x = values((size,), 1, dtype)
        assert backend(p.all_finite, x) == np.True_
        for at in {0, size // 2, size - 1} if size else ():
            for odd in (np.nan, np.inf, -np.inf):
                wrong = x.copy()
                wrong[at] = odd
                assert backend(p.all_finite, wrong) == np.False_
    largest = np.full(10, np.finfo(dtype).max)
    assert backend(p.all_finite, largest).shape == ()
    assert backend(p.all_finite, largest) == np.True_


@pytest.mark.primitives("index", "index_grad")
@DTYPES
@pytest.mark.parametrize("key", KEYS, ids=str)
def test_indexing(backend, key, dtype):
    x = values((2, 3, 4), 1, dtype)
    y = backend(p.index, x, key=key)
    np.testing.assert_array_equal(y, x[key])
    gy = values(y.shape, 2, dtype, whole=True)
    gx = backend(p.index_grad, gy, key=key, input_shape=x.shape)
    # Every element of x counted once for each time that the key picks it.
    numbers = np.arange(x.size).reshape(x.shape)[key]
    exact = np.zeros(x.size)
    for number, g in zip(np.ravel(numbers), np.ravel(gy)):
        exact[number] += g
    assert gx.dtype == dtype
    np.testing.assert_array_equal(gx, exact.reshape(x.shape))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 2), st.data())
def test_split_undoes_concat(sections, axis, data):
    shape = [data.draw(st.integers(0, 3)) for _ in range(3)]
    shape[axis] = sum(sections)
    x = values(shape, 1, np.float32)
    parts = p.split(x, sections=tuple(sections), axis=axis)
    assert [part.shape[axis] for part in parts] == sections
    np.testing.assert_array_equal(p.concat(parts, axis=axis), x)

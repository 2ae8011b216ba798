"""Primitives that move elements, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
from cases import values
from hypothesis import given, settings
from hypothesis import strategies as st

from gpukit import primitives as p

DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
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

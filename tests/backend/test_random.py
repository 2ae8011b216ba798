"""Philox: published vectors, one counter a block, and dropout masks that depend on nothing else."""

from __future__ import annotations

import naive
import numpy as np
import pytest

from gpukit import primitives as p
from gpukit.primitives.random import philox4x32

# Known answers for philox4x32-10, from Random123 1.14 (kat_vectors): counter, key, result.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]
PLACES = [
    {"seed": 0, "layer": 0, "step": 0},
    {"seed": 0x299F31D0A4093822, "layer": 7, "step": 123456},
    {"seed": 2**64 - 1, "layer": 2**32 - 1, "step": 2**32 - 1},
]
SHAPES = [(1,), (4,), (5,), (3, 7), (2, 3, 5, 7), (0, 3), (), (1025,)]


@pytest.mark.parametrize("counter, key, expected", KNOWN)
def test_published_vectors(counter, key, expected):
    assert naive.philox4x32(counter, key) == expected
    words = philox4x32(tuple(np.array([c], np.uint64) for c in counter), key)
    assert tuple(int(w[0]) for w in words) == expected


def test_published_vector_through_the_primitive():
    """Seed 0, layer 0, step 0: the first block is the vector of zeros."""
    words = p.philox(np.zeros(1, np.float32), shape=(4,), seed=0, layer=0, step=0)
    assert tuple(int(w) for w in words) == KNOWN[0][2]


@pytest.mark.primitives("philox")
@pytest.mark.parametrize("place", PLACES, ids=["zero", "middle", "largest"])
def test_words_follow_the_counter(backend, place):
    for shape in SHAPES:
        words = backend(p.philox, np.zeros(1, np.float32), shape=shape, **place)
        assert words.dtype == np.uint32
        assert words.shape == shape
        assert words.reshape(-1).tolist() == naive.words(words.size, **place)


@pytest.mark.primitives("dropout")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.999, 1.0])
def test_dropout_keeps_by_the_word(backend, rate, dtype):
    for place in PLACES:
        for shape in SHAPES:
            x = np.arange(1, 1 + np.prod(shape, dtype=int)).astype(dtype).reshape(shape)
            y = backend(p.dropout, x, rate=rate, scale=2.0, **place)
            words = np.array(naive.words(x.size, **place), np.uint64).reshape(shape)
            assert y.dtype == dtype
            np.testing.assert_array_equal(y, np.where(words >= round(rate * 2**32), 2 * x, 0))


@pytest.mark.primitives("dropout")
def test_threshold_itself_is_kept(backend):
    """A word of exactly round(rate·2³²) is kept, one less is dropped."""
    word = naive.words(1, **PLACES[1])[0]
    for threshold, kept in [(word, 1), (word + 1, 0)]:
        x = np.ones(1, np.float32)
        y = backend(p.dropout, x, rate=threshold / 2**32, scale=1.0, **PLACES[1])
        assert y.item() == kept


@pytest.mark.primitives("dropout")
def test_dropped_elements_are_zero_whatever_they_were(backend):
    x = np.full((1000,), np.nan, np.float32)
    y = backend(p.dropout, x, rate=0.5, seed=3, layer=0, step=0, scale=2.0)
    assert set(np.unique(y[~np.isnan(y)])) == {0.0}
    assert 400 < np.isnan(y).sum() < 600


@pytest.mark.primitives("dropout", "philox")
def test_masks_are_the_definitions_bit_for_bit(backend):
    """Long enough to be split among threads, and not a whole number of blocks."""
    x = np.ones((301, 1001), np.float32)
    settings = {"seed": 11, "layer": 2, "step": 5}
    y = backend(p.dropout, x, rate=0.3, scale=1.0, **settings)
    expected = p.dropout(x, rate=0.3, scale=1.0, algo="reference", **settings)
    np.testing.assert_array_equal(y, expected)
    assert abs(y.mean() - 0.7) < 0.005
    words = backend(p.philox, x, shape=x.shape, **settings)
    expected = p.philox(x, shape=x.shape, algo="reference", **settings)
    np.testing.assert_array_equal(words, expected)


def test_another_seed_layer_or_step_is_another_mask():
    x = np.ones(4096, np.float32)
    base = {"seed": 1, "layer": 2, "step": 3}
    masks = [
        p.dropout(x, rate=0.5, scale=1.0, **base | change)
        for change in ({}, {"seed": 2}, {"layer": 3}, {"step": 4}, {"seed": 1 + 2**32})
    ]
    for i, a in enumerate(masks):
        for b in masks[:i]:
            assert 0.45 < np.mean(a == b) < 0.55

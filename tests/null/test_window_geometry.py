"""Windows over images: sizes, padding, and errors that name the numbers and what fits."""

from __future__ import annotations

import re

import naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gpukit
from gpukit.errors import SettingError, ShapeError
from gpukit.primitives import geometry

small = st.integers(1, 12)
pads = st.tuples(st.integers(0, 5), st.integers(0, 5))


@given(st.integers(1, 40), small, small, pads, st.integers(1, 4))
def test_output_size_counts_the_places(n, f, s, padding, d):
    assert geometry.conv_output_size(n, f, s, padding, d) == naive.size_out(n, f, s, padding, d)


@given(st.integers(1, 60), small, small, st.integers(1, 4))
def test_same_padding_gives_one_output_a_stride(n, f, s, d):
    before, after = geometry.same_padding(n, f, s, d)
    assert geometry.conv_output_size(n, f, s, (before, after), d) == -(-n // s)
    assert after - before in (0, 1)


@given(st.integers(1, 60), small, small, pads, st.integers(1, 3))
def test_what_is_suggested_fits(n, f, s, padding, d):
    found = geometry.fit_suggestions(n, f, s, padding, d)
    for value in found["stride"]:
        assert geometry.fits(n, f, value, padding, d)
    for value in found["padding"]:
        assert geometry.fits(n, f, s, (0, value), d)
    for value in found["size"]:
        assert geometry.fits(value, f, s, padding, d)
    assert found["size"]


def test_notes_example_that_does_not_fit():
    """Seeds 000, 001, 003: 7, F 3, S 3 gives 2.33."""
    assert geometry.window((7, 7), 3, stride=3).output_shape((7, 7)) == (2, 2)
    with pytest.raises(ShapeError) as caught:
        geometry.window((7, 7), 3, stride=3, strict=True, where="Conv2D 'c1'")
    assert str(caught.value) == (
        "Conv2D 'c1': height 7, filter 3, stride 3, padding 0 + 0: (7 - 3 + 0)/3 + 1 = 2.33 does "
        "not fit; use stride 1, 2, 4, or total padding 2, or input height 3, 6, 9"
    )


def test_strict_is_also_a_global_setting():
    with gpukit.strict():
        with pytest.raises(ShapeError, match=r"2\.33"):
            geometry.window((7, 7), 3, stride=3)
        assert geometry.window((7, 7), 3, stride=3, strict=False).output_shape((7, 7)) == (2, 2)
        assert geometry.window((7, 7), 3, stride=2).output_shape((7, 7)) == (3, 3)
        assert geometry.window((227, 227), 11, stride=4).output_shape((227, 227)) == (55, 55)


@pytest.mark.parametrize(
    "padding, expected",
    [
        ("valid", ((0, 0), (0, 0))),
        ("same", ((0, 1), (1, 1))),
        ("SAME", ((0, 1), (1, 1))),
        (2, ((2, 2), (2, 2))),
        (np.int64(2), ((2, 2), (2, 2))),
        ((1, 2), ((1, 1), (2, 2))),
        ([[0, 1], [2, 3]], ((0, 1), (2, 3))),
        (np.array([[0, 1], [2, 3]]), ((0, 1), (2, 3))),
    ],
)
def test_padding_in_all_its_forms(padding, expected):
    made = geometry.window((8, 9), (2, 3), padding=padding)
    assert made.padding == expected
    assert all(type(v) is int for side in made.padding for v in side)


WRONG = [
    0,
    -1,
    True,
    2.0,
    float("nan"),
    np.float32(1),
    np.bool_(True),
    "2",
    None,
    (1, 2, 3),
    (1, 0),
]


@pytest.mark.parametrize("value", WRONG, ids=repr)
@pytest.mark.parametrize("name", ["size", "stride", "dilation"])
def test_settings_that_are_no_counts(name, value):
    settings = {"size": 2} | {name: value}
    with pytest.raises(SettingError) as caught:
        geometry.window((8, 8), settings.pop("size"), where="Conv2D 'x'", **settings)
    message = str(caught.value)
    assert re.match(rf"Conv2D 'x': .*{name} ", message)
    assert "use a whole number of at least 1" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "value",
    [-1, True, 2.0, float("nan"), "full", None, ((1, 2),), ((1, 2), (3,)), (1, -2)],
    ids=repr,
)
def test_paddings_that_are_none(value):
    with pytest.raises(SettingError, match=r'padding .*: use "same", "valid"'):
        geometry.window((8, 8), 2, padding=value)


@pytest.mark.parametrize(
    "image, size, settings, message",
    [
        (
            (3, 9),
            5,
            {},
            "filter height 5 is larger than the input's height 3; use a filter of at most 3 or "
            'padding "same" or an input of at least 5',
        ),
        (
            (9, 3),
            3,
            {"dilation": 3, "padding": 1},
            "filter width 3 (dilation 3: it spans 7) is larger than the input's width 3 + padding "
            '2 = 5; use a filter of at most 2 or padding "same" or an input of at least 5',
        ),
        ((0, 4), 1, {"padding": 3}, "the input's height is 0; use an input of at least 1"),
    ],
)
def test_filter_larger_than_its_input(image, size, settings, message):
    with pytest.raises(ShapeError) as caught:
        geometry.window(image, size, where="Conv2D 'c'", **settings)
    assert str(caught.value) == f"Conv2D 'c': {message}"


def test_pool_window_strides_by_its_size_and_always_sees_a_pixel():
    assert geometry.pool_window((8, 8), 2).stride == (2, 2)
    assert geometry.pool_window((8, 8), 3, stride=2).output_shape((8, 8)) == (3, 3)
    with pytest.raises(SettingError, match=r"nothing but padding; use at most 1"):
        geometry.pool_window((8, 8), 2, padding=2)
    with pytest.raises(ShapeError, match="pool window height 9 is larger"):
        geometry.pool_window((8, 8), 9)


def test_groups_must_divide_both_sides():
    assert geometry.check_groups(96, 256, np.int32(2)) == 2
    with pytest.raises(ShapeError) as caught:
        geometry.check_groups(96, 256, 5, "Conv2D 'conv2'")
    assert str(caught.value) == (
        "Conv2D 'conv2': 96 input channels do not divide into groups=5; use 1, 2, 4, 8, 16, 32"
    )
    for groups in (0, -1, True, 1.0, None):
        with pytest.raises(SettingError, match="groups="):
            geometry.check_groups(4, 4, groups)

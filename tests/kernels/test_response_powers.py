"""d^-3/4 and d^-7/4 of response normalisation, over all float32 numbers and what is none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gpukit import primitives as p
from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.primitives import Response, Window
from gpukit.verify.compare import ELEMENTWISE, ROUNDOFF

needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

RESPONSE = Response(size=5, alpha=5.0, beta=0.75, k=0.0)  # d is the sum of squares
POOL = {"window": Window((3, 3), stride=(2, 2))}


def images(numbers) -> np.ndarray:
    """(N, 3, 3, 4): a number alone in the first of four channels, everywhere in its image."""
    x = np.zeros((len(numbers), 3, 3, 4), np.float32)
    x[..., 0] = np.asarray(numbers, np.float32)[:, None, None]
    return x


def on_emu(primitive, *arrays, **settings):
    device = get_device("emu")
    result = primitive(*[a if a is None else device.asarray(a) for a in arrays], **settings)
    return [to_host(a) for a in (result if isinstance(result, tuple) else (result,))]


@needs_compiler
def test_numbers_of_every_size():
    """Squares between the smallest normal number and the largest: no other d is a power's fault."""
    numbers = np.exp2(np.linspace(-63, 63.9, 400)).astype(np.float32)
    x = images(numbers)
    exact = np.abs(numbers.astype(np.float64)) ** -0.5
    for y in (
        on_emu(p.lrn, x, response=RESPONSE)[0][:, 0, 0, 0],
        on_emu(p.bias_relu_lrn_pool, x, None, relu=True, response=RESPONSE, **POOL)[0][:, 0, 0, 0],
    ):
        np.testing.assert_allclose(y, exact, rtol=ELEMENTWISE * ROUNDOFF)


@needs_compiler
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid", "ignore:divide")
def test_zeros_infinities_and_what_is_no_number():
    """As the definition has it in float32: an infinite d gives 0, and NaN comes of NaN alone."""
    numbers = [0.0, 1e30, -1e30, np.inf, np.nan, 3e38, 1.0]
    for k in (0.0, 2.0):
        settings = {"response": RESPONSE._replace(k=k)}
        x = images(numbers)
        exact = p.lrn.reference(x, **settings)
        (y,) = on_emu(p.lrn, x, **settings)
        np.testing.assert_allclose(y, exact, rtol=ELEMENTWISE * ROUNDOFF)
        gy = np.ones_like(x)
        exact = p.lrn_grad.reference(gy, x, **settings)
        (gx,) = on_emu(p.lrn_grad, gy, x, **settings)
        np.testing.assert_allclose(gx, exact, rtol=2 * ELEMENTWISE * ROUNDOFF, atol=1e-6)
        y, index = on_emu(p.bias_relu_lrn_pool, x, None, relu=True, **settings, **POOL)
        exact, cells = p.bias_relu_lrn_pool.reference(x, None, relu=True, **settings, **POOL)
        np.testing.assert_allclose(y, exact, rtol=ELEMENTWISE * ROUNDOFF)
        np.testing.assert_array_equal(index, cells)


def test_a_card_may_be_as_far_off_as_its_manual_says():
    """The steps of lrn.cuh with reciprocal roots that err by 2^-22.9, rounding included."""
    d = np.exp2(np.linspace(-70, 70, 20_001)).astype(np.float32)
    wide, worst, worst_next = d.astype(np.float64), 0.0, 0.0
    for first_error, second_error in itertools.product((-1, 0, 1), repeat=2):
        r = root_off_by(d, first_error)
        first = r * (r * root_off_by(r, second_error))
        assert first.dtype == np.float32
        worst = max(worst, np.abs(first * wide**0.75 - 1).max())
        worst_next = max(worst_next, np.abs(first * (r * r) * wide**1.75 - 1).max())
    assert worst < 3.7 * 2**-23 and worst_next < 6.9 * 2**-23 < ELEMENTWISE * ROUNDOFF
    assert worst > 2.5 * 2**-23  # else the errors were not there


def root_off_by(x: np.ndarray, sign: int) -> np.ndarray:
    exact = 1 / np.sqrt(x.astype(np.float64))
    return (exact * (1 + sign * (2**-22.9 - 2**-24))).astype(np.float32)

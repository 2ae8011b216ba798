"""Bounds belong to the implementation: TF32's hold TF32 and nothing worse, and only its."""

from __future__ import annotations

import numpy as np
import pytest

from gpukit import primitives as p
from gpukit.device import CPU, device_of, to_host
from gpukit.dispatch.precision import FULL, PRECISIONS, precision
from gpukit.dispatch.preference import FallbackWarning, no_fallbacks, prefer
from gpukit.errors import SettingError
from gpukit.race import contest
from gpukit.race.peaks import Ceilings
from gpukit.race.problems import problem as race_problem
from gpukit.race.proof import Proof
from gpukit.verify import compare, run_case
from gpukit.verify.cases import supported
from gpukit.verify.coverage import Target

LENGTHS = (1, 2, 9, 100, 1000, 4096)
BITS = {name: made.bits for name, made in PRECISIONS.items() if made.bits}


def rounded(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 with so many bits of significand, ties away from zero."""
    mantissa, exponent = np.frexp(np.asarray(x, np.float64))
    whole = np.trunc(mantissa * 2.0**bits + np.copysign(0.5, mantissa))
    return np.ldexp(whole, exponent - bits).astype(np.float32)


def cut(x: np.ndarray, bits: int) -> np.ndarray:
    """float32 without its other bits: what tensor cores do with factors nobody rounded."""
    mask = np.uint32(0xFFFFFFFF << (24 - bits) & 0xFFFFFFFF)
    return (x.view(np.uint32) & mask).view(np.float32)


def factors(length: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(length)
    return tuple(rng.standard_normal(s, dtype=np.float32) for s in ((64, length), (length, 64)))


def found(a: np.ndarray, b: np.ndarray, result: np.ndarray, which: str) -> str:
    """What the bounds of precision `which` say of a result for a·b."""
    exact = a.astype(np.float64) @ b.astype(np.float64)
    return compare.problem("it", result, exact, False, a.shape[1], 1.0, precision(which))


def test_rounding_is_what_it_says():
    x = np.array([1, 1 + 2**-11, 1 + 3 * 2**-11, -(1 + 2**-11), 0, 3e-20], np.float32)
    assert rounded(x, 11).tolist()[:5] == [1, 1 + 2**-10, 1 + 2**-9, -(1 + 2**-10), 0]
    assert abs(rounded(x, 11)[5] / x[5] - 1) <= PRECISIONS["tf32"].roundoff == 2**-11


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("which", BITS)
def test_rounded_factors_are_within_their_bounds_and_outside_of_float32s(which, length):
    a, b = factors(length)
    for lose in (rounded, cut):
        y = lose(a, BITS[which]) @ lose(b, BITS[which])
        assert found(a, b, y, which) == ""
        assert "allowed" in found(a, b, y, "full")
    assert found(a, b, a @ b, "full") == ""


@pytest.mark.parametrize("length", LENGTHS[1:])
@pytest.mark.parametrize("which", BITS)
def test_a_lost_product_is_outside(which, length):
    a, b = factors(length)
    y = rounded(a[:, 1:], BITS[which]) @ rounded(b[1:], BITS[which])
    assert "allowed" in found(a, b, y, which)


@pytest.mark.parametrize("length", [1000, 4096])
def test_sums_in_half_precision_are_outside(length):
    a, b = factors(length)
    y = np.zeros((64, 64), np.float16)
    for k in range(length):
        y += np.outer(rounded(a[:, k], 11), rounded(b[k], 11)).astype(np.float16)
    assert "allowed" in found(a, b, y.astype(np.float32), "tf32")


def test_the_next_worse_precision_is_outside():
    a, b = factors(4096)
    assert "allowed" in found(a, b, rounded(a, 8) @ rounded(b, 8), "tf32")


def test_float64_has_one_bound():
    one = np.ones(1)
    for made in PRECISIONS.values():
        assert compare.problem("it", one + 1e-10, one, False, 1000, 1.0, made) == ""
        assert compare.problem("it", one + 3e-10, one, False, 1000, 1.0, made) != ""


@pytest.fixture
def register():
    """Registers a matmul; undone afterwards."""
    made = []

    def enter(kind, function, **settings):
        p.matmul.on(kind, name="rounding", **settings)(function)
        made.append(p.matmul.implementations(kind)["rounding"])
        return made[-1]

    yield enter
    for impl in made:
        p.matmul.remove(impl)


def by_rounding(a, b):
    """A product by TF32's factors, on the device of its arrays."""
    left, right = to_host(a), to_host(b)
    if a.dtype == np.float32:
        left, right = rounded(left, 11), rounded(right, 11)
    return device_of(a).asarray(left @ right)


def test_a_check_takes_the_bounds_that_were_declared(register):
    impl = register("cuda", by_rounding, precision="tf32")
    assert impl.precision is PRECISIONS["tf32"]
    target = Target("matmul", "rounding")
    assert [run_case.run(target, 3, n) for n in range(24)] == [""] * 24
    p.matmul.remove(impl)
    assert register("cuda", by_rounding).precision is FULL
    assert any("allowed" in run_case.run(target, 3, n) for n in range(24))


def test_a_race_takes_the_bounds_that_were_declared(register):
    register("cpu", by_rounding, precision="tf32")

    def call(a, b):
        return p.matmul(a, b, algo="rounding")

    problem = race_problem("matmul", (48, 40, 32))
    for which, right in (("tf32", True), ("full", False)):
        proof = Proof(problem, CPU)
        proof.fill()
        assert (proof.check(call, precision(which)) == "") == right


def test_a_row_of_a_race_says_what_was_rounded(register):
    register("cpu", by_rounding, precision="tf32")

    class Clock:
        def seconds(self, task, before=lambda: None):
            before()
            task()
            return 0.3

    outcome = contest.Outcome(Ceilings(1e6, 1e6, 1e6, 1e6, cache=0))
    problem = race_problem("matmul", (48, 40, 32))
    contest.run(contest.Race([problem], CPU, Clock(), algos=["rounding"]), outcome)
    assert outcome.refused == []
    by_name = {row.name: row.precision for row in outcome.rows}
    assert by_name.pop("rounding") == "tf32"
    assert set(by_name.values()) == {"full"}


def test_another_precision_is_refused():
    with pytest.raises(SettingError, match="precision='tf64': use full, tf32, fp16, bf16"):
        p.matmul.on("cuda", name="wide", precision="tf64")


def test_the_library_says_what_it_rounds():
    ways = p.dense.implementations("cuda")
    assert (ways["cublas"].precision.name, ways["cublas_tf32"].precision.name) == ("full", "tf32")
    assert {w.precision for w in ways.values()} == {FULL, PRECISIONS["tf32"]}


def test_cases_that_are_not_taken_are_drawn_again():
    """cublas_tf32 takes float32 only, half of all cases are float64."""
    for name in ("dense", "matmul", "conv2d"):
        made = [supported(Target(name, "cublas_tf32"), 0, number) for number in range(20)]
        assert {one.arrays[0].dtype for one in made} == {np.dtype(np.float32)}
        assert {one.exact for one in made} == {True, False}


def test_nothing_is_proven_under_anothers_name(register):
    seen = []

    def narrow(a, b):
        seen.append(a.dtype)
        return by_rounding(a, b)

    register(
        "cuda", narrow, precision="tf32", supports=lambda a, b: a.dtype == np.float32 and a.size
    )
    for number in range(8):
        assert run_case.run(Target("matmul", "rounding"), 3, number) == ""
    assert seen == [np.dtype(np.float32)] * 8


def test_who_proves_gets_an_error_and_no_fallback(register):
    register("cpu", by_rounding, supports=lambda a, b: False)
    a = np.ones((2, 2), np.float32)
    with no_fallbacks(), pytest.raises(SettingError, match="rounding does not take float32"):
        p.matmul(a, a, algo="rounding")
    with prefer({}), pytest.warns(FallbackWarning, match="gemm computes it"):
        assert p.matmul(a, a, algo="rounding")[0, 0] == 2

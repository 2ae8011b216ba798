"""Entrants that remember, that leave, that give back another kind: none of them gets a row."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
from small_calls import RACED, small
from stand_ins import CEILINGS, FakeClock, implementation, race

from gpukit import primitives as p
from gpukit.device import get_device
from gpukit.dispatch.primitive import registry
from gpukit.race import proof as proof_module
from gpukit.race import report
from gpukit.race.on_host import HostClock
from gpukit.race.problems import problem
from gpukit.race.proof import Proof

RELU = (2, 8, 8, 3)


def refused(function, primitive="relu", sizes=RELU, clock=None):
    """Why `function` is refused, which must be alone in that."""
    with implementation(primitive, "liar", function):
        outcome = race(primitive, *sizes, algos=["liar"], clock=clock)
    (note,) = outcome.refused
    assert note.name == "liar"
    assert "liar" not in [row.name for row in outcome.rows]
    return note.why


class Memory:
    """Knows an argument again by its place and its first numbers."""

    def __init__(self):
        self.known = {}

    def of(self, x, compute):
        key = (x.ctypes.data, x.reshape(-1)[:3].tobytes())
        if key not in self.known:
            self.known[key] = compute()
        return self.known[key]


@pytest.mark.parametrize("clock", [FakeClock(1.0), HostClock()], ids=["one run", "two runs"])
def test_copies_of_remembered_results_are_seen(clock, monkeypatch):
    monkeypatch.setattr("gpukit.race.contest.SECONDS", 1e-9)
    memory = Memory()
    why = refused(lambda x: memory.of(x, lambda: np.maximum(x, 0)).copy(), clock=clock)
    assert "runs result 0 differs" in why


def remembered_mean(memory):
    return lambda x, *, axis, keepdims: memory.of(x, lambda: x.mean(axis)).copy()


def remembered_flag(memory):
    return lambda x: np.array(memory.of(x, lambda: np.isfinite(x).all()))


def remembered_dense(memory):
    """Weights that are prepared once, as if they never changed."""
    return lambda x, w, b, *, activation=None: x @ memory.of(w, w.copy) + b


def remembered_index(memory):
    def back(gy, index, *, input_shape, window):
        known = memory.of(index, index.copy)
        return p.max_pool2d_grad.reference(gy, known, input_shape=input_shape, window=window)

    return back


def remembered_step(memory):
    def draw(like, *, shape, seed, layer, step):
        made = p.philox.reference(like, shape=shape, seed=seed, layer=layer, step=step)
        return memory.known.setdefault("first", made).copy()

    return draw


@pytest.mark.parametrize(
    ("primitive", "sizes", "liar"),
    [
        ("reduce_mean", (4, 4000, 1), remembered_mean),
        ("all_finite", RELU, remembered_flag),
        ("dense", (4, 16, 8), remembered_dense),
        ("max_pool2d_grad", (2, 9, 9, 6, 3, 3, 2, 1), remembered_index),
        ("philox", RELU, remembered_step),
    ],
)
def test_what_was_remembered_of_any_argument_is_seen(primitive, sizes, liar):
    function = liar(Memory())
    function.__signature__ = registry[primitive].signature
    assert "differs at" in refused(function, primitive, sizes)


def test_a_result_in_the_memory_of_the_last_one_is_refused():
    kept = np.empty(RELU, np.float32)
    why = refused(lambda x: np.maximum(x, 0, out=kept))
    assert "after 5 runs its result lies in the memory of the one before" in why


@pytest.mark.parametrize("primitive", RACED)
def test_numbers_change_in_a_stretch_and_come_back(primitive):
    proof = Proof(problem(primitive, small(primitive)), get_device("cpu"))
    proof.fill()
    before = [a.copy() for a in proof.arrays]
    differ = []
    for _ in range(3):
        proof.change()
        differ.append([a != b for a, b in zip(proof.arrays, before)])
    for i, array in enumerate(proof.arrays):
        places = [d[i] for d in differ]
        assert any(p.any() for p in places) == (array.size > 1 and len(np.unique(array)) > 1)
        assert max(p.sum() for p in places) <= max(array.size // 8, array.shape[-1])
    proof._put()
    assert all(np.array_equal(a, b) for a, b in zip(proof.arrays, before))


def test_the_index_of_a_pooling_never_names_padding():
    made = problem("max_pool2d_grad", (2, 5, 5, 4, 3, 3, 2, 1))
    proof = Proof(made, get_device("cpu"))
    proof.fill()
    corner = {0, 1, 2, 3, 6}  # of the first window, its first row and column
    for _ in range(50):
        proof.change()
        assert not corner & set(proof.arrays[1][:, 0, 0].reshape(-1).tolist())


# Who leaves


def test_one_that_ends_the_process_in_the_proof_is_refused():
    assert refused(lambda x: sys.exit(0)) == "SystemExit: 0"


def test_one_that_ends_the_process_in_its_turn_is_refused():
    calls = []

    def leaving(x):
        calls.append(1)
        if len(calls) > 3:
            sys.exit(0)
        return np.maximum(x, 0)

    assert refused(leaving) == "SystemExit: 0"


def test_who_runs_is_said_before_it_runs():
    from gpukit.race.contest import Outcome, Race, run

    said = []

    def stuck(x):
        raise KeyboardInterrupt  # as Ctrl-C ends one that hangs

    outcome = Outcome(CEILINGS)
    with implementation("relu", "stuck", stuck):
        planned = Race([problem("relu", RELU)], get_device("cpu"), FakeClock(1.0), ["stuck"])
        with pytest.raises(KeyboardInterrupt):
            run(planned, outcome, lambda amount, what: said.append(what))
    assert said[-1] == outcome.now == "stuck on 2,8,8,3 (relu): proof"


# What another kind of result is


class Lazy(np.ndarray):
    """Computes nothing before it is looked at."""


KINDS = {
    "float64": (lambda x: np.maximum(x, 0).astype(np.float64), "result 0 is float64"),
    "float16": (lambda x: np.maximum(x, 0).astype(np.float16), "result 0 is float16"),
    "list": (lambda x: [np.maximum(x, 0)], "result 0 is a list, by definition ndarray"),
    "tuple": (lambda x: (np.maximum(x, 0),), "a tuple of one result"),
    "two": (lambda x: (np.maximum(x, 0), x.copy()), "2 results, by definition 1"),
    "subclass": (lambda x: np.maximum(x, 0).view(Lazy), "Lazy, by definition ndarray"),
    "flat": (lambda x: np.maximum(x, 0).reshape(-1), "result 0 has shape (384,)"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_another_kind_of_result_is_refused(kind):
    function, words = KINDS[kind]
    assert words in refused(function)


def test_results_of_a_call_in_place_are_none():
    def talking(w, v, g, *, lr, momentum, weight_decay, nesterov):
        p.sgd_update.reference(
            w, v, g, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )
        return w

    assert "returned a numpy.ndarray, not None" in refused(talking, "sgd_update", (50,))


def test_a_result_on_another_device_is_refused():
    proof = Proof(problem("relu", RELU), get_device("emu"))
    proof.fill()
    assert "numpy.ndarray, by definition DeviceArray" in proof.check(
        lambda x: np.maximum(x.data, 0)
    )
    elsewhere = get_device("emu:1")
    assert "on emu:1, its arguments on emu:0" in proof.check(
        lambda x: elsewhere.asarray(np.maximum(x.data, 0))
    )


@pytest.mark.parametrize("primitive", RACED)
def test_the_definition_gives_the_dtypes_that_are_asked_for(primitive):
    made = problem(primitive, small(primitive))
    if made.in_place:
        return
    proof = Proof(made, get_device("cpu"))
    proof.fill()
    results = registry[primitive].reference(
        *made.passed(made.arrays(proof_module.SEEDS[1])), **made.settings
    )
    listed = [np.asarray(r) for r in proof_module.as_list(results)]
    assert proof.compare(listed) == ""
    assert isinstance(results, tuple) == (len(listed) > 1)


def test_large_results_are_compared_in_pieces(monkeypatch):
    monkeypatch.setattr(proof_module, "_PIECE", 100)

    def wrong(x):
        y = np.maximum(x, 0)
        y.reshape(-1)[250] = 7
        return y

    assert "result 0, flat from element 200 differs at 1 of 100 places, first at (50,)" in refused(
        wrong
    )


def test_a_gradient_of_batch_norm_without_its_mean_is_refused():
    def meanless(gy, x, gamma, mean, variance, *, epsilon):
        gx, *sums = p.batch_norm_grad.reference(gy, x, gamma, mean, variance, epsilon=epsilon)
        return gx + gamma / np.sqrt(variance + np.float32(epsilon)) * gy.mean((0, 1, 2)), *sums

    assert "result 0 differs" in refused(meanless, "batch_norm_grad", (4, 112, 112, 2))


# Speed within the caches

CACHED = replace(CEILINGS, cached_gbps=50, cache=1 << 20)


def test_the_cache_has_a_speed_too():
    made = problem("relu", RELU)
    fast = made.bytes / 50e9
    assert CACHED.in_cache(made)
    assert race("relu", *RELU, algos=[], clock=FakeClock(fast / 1.2), ceilings=CACHED).ok
    outcome = race("relu", *RELU, algos=[], clock=FakeClock(fast / 1.3), ceilings=CACHED)
    assert "impossible: 65 GB/s" in outcome.refused[0].why
    assert "to move 50 within its caches" in outcome.refused[0].why


def test_the_floor_of_cached_data_is_at_the_caches_speed():
    made = problem("relu", RELU)
    assert CACHED.floor(made) == pytest.approx(made.bytes / 50e9)
    assert replace(CACHED, cache=100).floor(made) == pytest.approx(made.bytes / 10e9)
    about = {"machine": "test machine", "date": "2026-01-01"}
    assert report.headline(about, CACHED).endswith("cache 1 MiB, warm, at most 50 GB/s within")
    assert CACHED.highest(replace(CACHED, cached_gbps=60)).cached_gbps == 60

"""Who is refused: wrong results, and times in which nobody can have done the work."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_calls import RACED, small
from stand_ins import CEILINGS, FakeClock, implementation, race

from gpukit import primitives as p
from gpukit.device import get_device
from gpukit.dispatch.primitive import registry
from gpukit.errors import DeviceError, SettingError
from gpukit.race import proof as proof_module
from gpukit.race.contest import Outcome, Race, run
from gpukit.race.problems import problem
from gpukit.race.proof import Proof, definition

CONV = (2, 6, 6, 3, 4, 3, 3, 1, 1, 1)
RELU = (2, 4, 4, 3)


def honest(x):
    return np.maximum(x, 0)


def zeros(x):
    return np.zeros_like(x)


def part(x):
    y = np.maximum(x, 0)
    y.reshape(-1)[-1] = 7
    return y


def mutating(x):
    np.maximum(x, 0, out=x)
    return x.copy()


def failing(x):
    raise RuntimeError("illegal address")


def missing(x):
    return None


class Remembering:
    """Gives back what it computed first for the same memory."""

    def __init__(self):
        self.known = {}

    def __call__(self, x):
        return self.known.setdefault(x.ctypes.data, np.maximum(x, 0))


class Tiring:
    """Right for so many calls only."""

    def __init__(self, calls):
        self.left = calls

    def __call__(self, x):
        self.left -= 1
        return np.maximum(x, 0) if self.left >= 0 else np.zeros_like(x)


def named(function):
    """`function` with the parameters of relu, as registration wants them."""
    return lambda x: function(x)


LIARS = {
    "zeros": (zeros, "differs at"),
    "part": (part, "differs at 1 of 96"),
    "mutating": (mutating, "wrote to argument 0"),
    "failing": (failing, "RuntimeError: illegal address"),
    "missing": (missing, "a NoneType, by definition ndarray"),
    "remembering": (Remembering(), "differs at"),
}


@pytest.mark.parametrize("name", LIARS)
def test_a_wrong_implementation_is_named_and_not_timed(name):
    function, words = LIARS[name]
    clock = FakeClock(1.0)
    with implementation("relu", name, named(function)):
        outcome = race("relu", *RELU, algos=[name, "numba"], clock=clock)
    (note,) = outcome.refused
    assert (note.name, note.primitive) == (name, "relu")
    assert words in note.why
    assert not outcome.ok
    assert [row.name for row in outcome.rows] == ["numba"]
    assert clock.runs == outcome.rows[0].rounds + 2  # the last two are held to the definition


def idle(w, v, g, *, lr, momentum, weight_decay, nesterov):
    return None


def forgetful(w, v, g, *, lr, momentum, weight_decay, nesterov):
    w[...] = w + np.float32(momentum) * v - np.float32(lr) * (g + np.float32(weight_decay) * w)


def spoiling(w, v, g, *, lr, momentum, weight_decay, nesterov):
    p.sgd_update.reference(
        w, v, g, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
    )
    g[0] = 0


def blind(x):
    return np.array(True)


def corner(x, bias, *, relu, response, window):
    settings = {"relu": relu, "response": response, "window": window}
    y, index = p.bias_relu_lrn_pool.reference(x, bias, **settings)
    index[0, 0, 0, 0] = (index[0, 0, 0, 0] + 1) % 9
    return y, index


# Of other primitives: their sizes, and what they are told.
MORE_LIARS = {
    idle: ("sgd_update", (50,), "result 0 differs"),
    forgetful: ("sgd_update", (50,), "result 1 differs"),
    spoiling: ("sgd_update", (50,), "wrote to argument 2"),
    blind: ("all_finite", RELU, "result 0 differs"),
    corner: ("bias_relu_lrn_pool", (2, 9, 9, 6, 3, 3, 2), "result 1 differs at 1 of"),
}


@pytest.mark.parametrize("liar", MORE_LIARS)
def test_other_primitives_have_their_own_lies(liar):
    primitive, sizes, words = MORE_LIARS[liar]
    with implementation(primitive, "liar", liar):
        outcome = race(primitive, *sizes, algos=["liar"])
    (note,) = outcome.refused
    assert note.name == "liar"
    assert words in note.why
    assert [row.default for row in outcome.rows] == [True]


def test_a_call_in_place_is_proven_on_the_numbers_of_each_entrant():
    def another(w, v, g, *, lr, momentum, weight_decay, nesterov):
        p.sgd_update.reference(
            w, v, g, lr=lr, momentum=momentum, weight_decay=weight_decay, nesterov=nesterov
        )

    with implementation("sgd_update", "another", another):
        outcome = race("sgd_update", 50, algos=["another", "reference"])
    assert outcome.ok
    assert [row.name for row in outcome.rows] == ["numba", "another", "reference"]


def test_an_honest_one_is_timed():
    with implementation("relu", "honest", honest):
        outcome = race("relu", *RELU, algos=["honest"])
    assert outcome.ok
    assert [row.name for row in outcome.rows] == ["numba", "honest"]


def test_one_that_stops_working_while_it_is_timed_is_refused():
    with implementation("relu", "tiring", named(Tiring(4))):
        outcome = race("relu", *RELU, algos=["tiring"])
    (note,) = outcome.refused
    assert note.name == "tiring"
    assert "after 5 runs" in note.why


def test_one_that_fails_while_it_is_timed_is_refused_and_the_others_go_on():
    class Breaking(Tiring):
        def __call__(self, x):
            if self.left == 0:
                raise RuntimeError("lost")
            return super().__call__(x)

    with implementation("relu", "breaking", named(Breaking(3))):
        outcome = race("relu", *RELU, algos=["breaking"])
    assert "lost" in outcome.refused[0].why
    assert [row.name for row in outcome.rows] == ["numba"]


def test_a_wrong_convolution_is_refused():
    def wrong(x, w, b=None, *, conv, activation=None):
        w = w.copy()
        w[0, 0, 0, 0] = 0  # one product of each sum left out
        return p.conv2d.reference(x, w, b, conv=conv)

    with implementation("conv2d", "wrong", wrong):
        outcome = race("conv2d", *CONV, algos=["wrong"])
    assert [note.name for note in outcome.refused] == ["wrong"]


# Speed: the fake ceilings are 100 GFLOP/s, 10 GB/s of copy, 20 GB/s at most, a cache of 1 KiB.


def test_more_operations_than_the_device_can_do_is_an_error():
    made = problem("conv2d", CONV)
    fast = made.least_flop / (CEILINGS.most_gflops * 1e9)
    assert race("conv2d", *CONV, algos=[], clock=FakeClock(fast / 1.2)).ok
    outcome = race("conv2d", *CONV, algos=[], clock=FakeClock(fast / 1.3))
    assert not outcome.ok
    assert outcome.rows == []
    assert "impossible: 130 GFLOP/s" in outcome.refused[0].why
    assert "measured to do 100: a kernel that does not do the work" in outcome.refused[0].why


def test_more_bytes_than_the_device_can_move_is_an_error():
    sizes = (8, 16, 16, 8)
    made = problem("relu", sizes)
    fast = (made.bytes - CEILINGS.cache) / (CEILINGS.most_gbps * 1e9)
    assert race("relu", *sizes, algos=[], clock=FakeClock(fast / 1.2)).ok
    outcome = race("relu", *sizes, algos=[], clock=FakeClock(fast / 1.3))
    assert not outcome.ok
    assert "impossible: 26 GB/s for the 0.13 MB that no cache holds" in outcome.refused[0].why


def test_data_in_the_cache_may_move_faster():
    sizes = (1, 4, 4, 2)
    outcome = race("relu", *sizes, algos=[], clock=FakeClock(1e-9))
    assert outcome.ok
    assert outcome.rows[0].in_cache


def test_on_a_card_the_cache_is_empty_before_each_run():
    made = problem("relu", (1, 4, 4, 2))
    card = replace(CEILINGS, flushed=True)
    assert card.impossible(made, "mine", 1e-9).startswith("128 GB/s for the 0.000128 MB")
    assert card.impossible(made, "mine", 1e-8) == ""
    assert not card.in_cache(made)


def test_no_time_at_all_is_impossible():
    outcome = race("relu", *RELU, algos=[], clock=FakeClock(0.0))
    assert "infinitely many" in outcome.refused[0].why


def test_fewer_operations_are_believed_only_where_the_name_says_so():
    made = problem("conv2d", CONV)
    seconds = made.least_flop / (CEILINGS.most_gflops * 1e9) / 4
    roomy = replace(CEILINGS, cache=1 << 30)
    assert "winograd in its name" in roomy.impossible(made, "mine", seconds)
    assert roomy.impossible(made, "winograd_mine", seconds) == ""
    assert roomy.impossible(made, "fft", seconds / 4) != ""  # a 3×3 kernel saves ninefold at most
    pointwise = problem("conv2d", (2, 6, 6, 3, 4, 1, 1))
    limit = pointwise.flop / (CEILINGS.most_gflops * 1e9)
    assert roomy.impossible(pointwise, "winograd", limit / 1.3) != ""


def test_the_accused_may_be_right_and_the_measurement_wrong():
    made = problem("conv2d", CONV)
    seconds = made.least_flop / (CEILINGS.most_gflops * 1e9) / 2
    again = replace(CEILINGS, gflops=400, most_gflops=400, gbps=5)
    outcome = race("conv2d", *CONV, algos=[], clock=FakeClock(seconds), again=again)
    assert outcome.ok
    assert (outcome.ceilings.gflops, outcome.ceilings.gbps) == (400, 10)
    row = outcome.rows[0]
    assert row.share_of_gflops == pytest.approx(row.gflops / 400)


# Who takes part


def test_who_does_not_take_a_call_is_left_out_visibly():
    def never(*arrays, **settings):
        return False

    with implementation("relu", "picky", honest, supports=never):
        outcome = race("relu", *RELU)
    assert outcome.ok
    assert [(note.name, note.why) for note in outcome.left_out] == [
        ("picky", "it does not take such a call")
    ]


def test_unknown_names_are_refused():
    with pytest.raises(SettingError, match="no implementation 'mine' on cpu; use "):
        race("relu", *RELU, algos=["mine"])


def test_emu_refuses_and_says_why():
    with pytest.raises(DeviceError, match=r"emu:0 has no speed.*gpukit kernels check"):
        Race([problem("relu", RELU)], get_device("emu"), FakeClock(1.0))


class FakeRival:
    """Solves relu, rightly or not."""

    def __init__(self, results, seconds=2.0):
        self.results, self.took = results, seconds

    def prepare(self, problem):
        self.problem = problem

    def result(self):
        from gpukit.race.proof import SEEDS

        return self.results(*self.problem.arrays(SEEDS[1]))

    def fastest(self):
        return "plain"

    def seconds(self):
        return self.took


def test_a_rival_takes_its_turns_and_is_compared():
    rivals = {"theirs": FakeRival(lambda x: [honest(x)])}
    outcome = race("relu", *RELU, algos=[], clock=FakeClock(1.0), rivals=rivals)
    ours, theirs = outcome.rows
    assert (ours.ratio_to_rival, theirs.ratio_to_default) == (0.5, 2.0)
    assert (theirs.rival, theirs.variant, ours.rival) == (True, "plain", False)


def test_a_wrong_rival_is_refused_too():
    rivals = {"theirs": FakeRival(lambda x: [x])}
    outcome = race("relu", *RELU, algos=[], rivals=rivals)
    assert [note.name for note in outcome.refused] == ["theirs"]
    assert [row.name for row in outcome.rows] == ["numba"]


# The definition, and every implementation on small problems


@pytest.mark.parametrize(
    "primitive",
    ["conv2d", "conv2d_input_grad", "conv2d_weight_grad", "max_pool2d", "max_pool2d_grad",
     "avg_pool2d", "avg_pool2d_grad", "lrn", "lrn_grad", "sgd_update", "adam_update"],
)  # fmt: skip
def test_the_definition_image_by_image_is_the_definition(primitive, monkeypatch):

    sizes = (5, *small(primitive)[1:])
    made = problem(primitive, sizes)
    arrays = made.arrays(1)
    whole = definition(made, arrays)
    monkeypatch.setattr(proof_module, "_MOST_BYTES", made.bytes * 2 // 5 * 2)
    parts = definition(made, arrays)
    for one, other in zip(whole, parts, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
    if primitive != "max_pool2d":
        assert whole[0].dtype == np.float64


# Of these the definition, which is all that the CPU has, gives a view.
VIEWS = ("transpose", "split", "broadcast_to")


@pytest.mark.parametrize("primitive", VIEWS)
def test_a_view_is_not_timed_and_a_copy_is(primitive):
    definition_of = registry[primitive].reference

    def copied(x, **settings):
        made = definition_of(x, **settings)
        return tuple(a.copy() for a in made) if isinstance(made, tuple) else made.copy()

    copied.__signature__ = registry[primitive].signature
    with implementation(primitive, "copied", copied):
        outcome = race(primitive, 3, 4, 5, 6, algos=["copied", "reference"])
    assert outcome.refused == []
    assert [row.name for row in outcome.rows] == ["copied"]
    assert {(note.name, note.why) for note in outcome.left_out} == {
        ("reference", "its result is a view of its argument: nothing moves")
    }


@pytest.mark.parametrize("primitive", RACED)
def test_every_implementation_proves_right_on_a_small_problem(primitive):
    outcome = Outcome(CEILINGS)
    made = problem(primitive, small(primitive))
    device = get_device("cpu")
    run(Race([made], device, FakeClock(1.0)), outcome)
    assert outcome.refused == []
    assert outcome.rows or primitive in VIEWS
    names = {row.name for row in outcome.rows} | {note.name for note in outcome.left_out}
    assert names | {"reference"} == set(registry[primitive].implementations("cpu")) | {"reference"}


def test_results_left_uncompared_do_not_count():
    proof = Proof(problem("max_pool2d", (1, 4, 4, 2, 2, 2, 2)), get_device("cpu"))
    proof.fill()
    y, _ = p.max_pool2d.reference(*proof.arrays, **proof.problem.settings)
    assert proof.compare([y, None]) == ""
    assert "1 results, by definition 2" in proof.compare([y])


def test_how_often_the_ceilings_are_measured_again():
    made = problem("conv2d", CONV)
    at_ceiling = made.least_flop / (CEILINGS.most_gflops * 1e9)
    for share, measurements in ((0.9, 0), (1.1, 1), (1.4, 5)):
        asked = []

        def measure(device, asked=asked):
            asked.append(device)
            return CEILINGS

        race("conv2d", *CONV, algos=[], clock=FakeClock(at_ceiling / share), measure=measure)
        assert len(asked) == measurements

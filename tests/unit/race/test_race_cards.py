"""The kernels of cards, on emu: what a race on a card asks of them, they pass."""

from __future__ import annotations

import pytest
from small_calls import RACED, small
from stand_ins import FakeClock

from gpukit.device import get_device
from gpukit.dispatch.primitive import REFERENCE, registry
from gpukit.emulator import compiler_problem
from gpukit.race.problems import problem
from gpukit.race.proof import Proof


@pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
@pytest.mark.parametrize("primitive", RACED)
def test_every_kernel_passes_the_proof(primitive):
    proof = Proof(problem(primitive, small(primitive)), get_device("emu"))
    arrays = proof.problem.passed(proof.arrays)
    implementations = {
        name: implementation
        for name, implementation in registry[primitive].implementations("emu").items()
        if name != REFERENCE and implementation.takes(arrays, proof.problem.settings)
    }
    assert implementations
    calls = {name: called(primitive, name, proof.problem) for name in implementations}
    assert {name: proof.check(call) for name, call in calls.items()} == dict.fromkeys(calls, "")
    assert not proof.viewed  # unlike NumPy's, a card's results are copies
    proof.fill()
    assert {name: proof.check(call) for name, call in calls.items()} == dict.fromkeys(calls, "")
    proof.settle()
    clock = FakeClock(1.0)
    last = {name: proof.last(call, clock) for name, call in calls.items()}
    assert last == dict.fromkeys(calls, "")


def called(primitive, name, made):
    return lambda *arrays, **settings: registry[primitive](
        *made.passed(arrays), algo=name, **settings
    )

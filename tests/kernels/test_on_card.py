"""Cases on a card, where there is none: emu stands in for it, CuPy's streams are stood in for, too.

A stream there is a list of what is still to be done. What is launched on emu is done at once, as if
it had not waited for the current stream; so where the copies are still to be done, it is too early.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from gpukit.cli.app import app
from gpukit.device import DeviceArray, cuda_count, get_device, to_host
from gpukit.dispatch.primitive import registry
from gpukit.emulator import compiler_problem
from gpukit.verify import card, run_case
from gpukit.verify.cases import supported
from gpukit.verify.coverage import Target, targets

needs_compiler = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
no_card = pytest.mark.skipif(bool(cuda_count()), reason="this machine has a card")


@pytest.fixture(params=["in order", "too early"])
def order(request, monkeypatch):
    """Whether copies on the current stream are done before, or after, what is launched there."""
    late = request.param == "too early"
    ahead = []

    def copyto(to: DeviceArray, source: DeviceArray) -> None:
        ahead.append(lambda: np.copyto(to_host(to), to_host(source)))
        if not late:
            ahead.pop()()

    wait = lambda *launch: None  # noqa: E731
    cupy = SimpleNamespace(
        RawKernel=lambda text, name: wait,
        copyto=copyto,
        cuda=SimpleNamespace(Stream=lambda non_blocking: nullcontext()),
    )
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setattr(card, "CARD", "emu")
    return request.param


NAMES = ("relu:cuda", "sgd_update:cuda", "concat:cuda", "max_pool2d:cuda", "softmax_grad:cuda")


@needs_compiler
@pytest.mark.parametrize("name", NAMES)
def test_late_arguments(order, name):
    (target,) = targets(name)
    found = [card.run(target, 5, number) for number in range(6)]
    if order == "in order":
        assert found == [""] * 6
    else:
        wrong = [text for text in found if text]
        assert len(wrong) >= 3  # zeros are right for some
        for text in wrong:
            assert text.startswith("works on another stream than the current one: ")


@needs_compiler
@pytest.mark.parametrize("order", ["in order"], indirect=True)
def test_an_error_of_a_launcher_is_a_finding(order, monkeypatch):
    def fails(*arrays, **settings):
        raise RuntimeError("out of luck")

    way = registry["relu"].implementations("cuda")["cuda"]
    monkeypatch.setattr(run_case, "on_device", lambda *arguments: "")
    monkeypatch.setattr(way, "function", fails)
    assert card.run(Target("relu", "cuda"), 0, 0).startswith("RuntimeError: out of luck [")


def test_arguments_keep_their_strides():
    emu = get_device("emu")
    shapes = {(3,): np.arange(6.0)[::2], (2, 3): np.asfortranarray(np.arange(6.0).reshape(2, 3))}
    for shape, array in shapes.items():
        (there,) = run_case.placed([array], emu)
        assert (there.shape, there.flags.c_contiguous) == (shape, False)
        np.testing.assert_array_equal(to_host(there), array)
        there[...] = 0
        assert array.any()  # it was a copy
    assert run_case.placed([None, [3]], emu) == [None, [3]]


@no_card
@pytest.mark.parametrize("what", [["relu"], ["--all"]])
def test_without_a_card_it_says_so(what):
    result = CliRunner().invoke(app, ["kernels", "check", *what, "--mode", "card"])
    assert result.exit_code == 1
    assert "--mode card: CuPy" in str(result.exception)
    result = CliRunner().invoke(app, ["kernels", "check", "relu:cuda", "--case", "1"])
    assert "not checked: on a card, which alone shows what runs on which stream: " in result.stdout


def test_a_library_s_implementations_are_for_cards_only():
    assert supported(Target("dense", "cublas"), 0, 0)
    with_one = {str(t) for t in targets() if not t.emulated and not t.simulated}
    assert bool(with_one) == bool(cuda_count())

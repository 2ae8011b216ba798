"""Every cheat in cheats/ is refused with its own words, and an honest kernel is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpukit.backends.emulator import compiler_problem
from gpukit.backends.nvrtc import version
from gpukit.backends.plugins import load_kernel
from gpukit.device import cuda_count
from gpukit.errors import GpukitError
from gpukit.kernel_checks import cheats
from gpukit.kernel_checks.coverage import Target
from gpukit.kernel_checks.fuzz import CHEATS
from gpukit.kernel_checks.plugins import PluginOutcome, check_plugin
from gpukit.kernel_checks.streams import on_another_stream

PLUGIN = Path(__file__).parent / "cheats" / "cheats.py"

WORDS = {
    "zeros": "writes zeros whatever its input is",
    "constant": "writes the constant",
    "part": "writes only part: 2 of ",
    "mutates": "mutates its input",
    "uninitialised": "depends on uninitialised memory",
    "shared": "as shared memory is on emu until it is written",
    "by_shape": "returns an earlier result: the same for other data of the same shapes",
    "by_array": "returns an earlier result: the same for other data in the same arrays",
    "same_memory": "returns an earlier result's memory",
}


def missing() -> str:
    try:
        version()
    except GpukitError as error:
        return str(error)
    return compiler_problem()


@pytest.fixture(scope="module")
def outcome() -> PluginOutcome:
    if reason := missing():
        pytest.skip(reason)
    return check_plugin(PLUGIN, architectures=[80], modes=[CHEATS], cases=1, limit=300)


@pytest.mark.parametrize("name", WORDS)
def test_every_cheat_is_refused(outcome, name):
    (found,) = (f for f in outcome.findings if f.target == f"relu:{name}")
    assert found.check == CHEATS
    assert WORDS[name] in found.text
    assert f"gpukit kernels check {PLUGIN} " in found.again


def test_the_others_are_not(outcome):
    refused = {f.target.partition(":")[2] for f in outcome.findings}
    registered = {target.partition(":")[2] for target in outcome.look.targets}
    assert refused == set(WORDS)
    assert registered - refused == {"honest", "stream"}


@pytest.mark.gpu
@pytest.mark.skipif(not cuda_count(), reason="streams are a card's")
def test_work_on_another_stream_is_refused_on_a_card():
    load_kernel(PLUGIN)
    assert on_another_stream(Target("relu", "honest")) == ""
    found = on_another_stream(Target("relu", "stream"))
    assert found.startswith("works on another stream than the current one")


def test_what_cannot_be_seen_here_is_said(outcome):
    assert outcome.not_seen == (cheats.STREAMS,)

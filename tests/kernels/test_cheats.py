"""Every cheat in cheats/ is refused with its own words, and an honest kernel is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpukit.device import cuda_count
from gpukit.emulator import compiler_problem
from gpukit.errors import GpukitError
from gpukit.launch.nvrtc import version
from gpukit.plugins import load_kernel
from gpukit.verify import card
from gpukit.verify.check import Outcome
from gpukit.verify.coverage import Target
from gpukit.verify.fuzz import CHEATS
from gpukit.verify.plugins import check_plugin
from gpukit.verify.streams import mentions

PLUGIN = Path(__file__).parent / "cheats" / "cheats.py"

WORDS = {
    "zeros": "writes zeros whatever its input is",
    "constant": "writes the constant",
    "part": "writes only part: 2 of ",
    "mutates": "mutates its input",
    "uninitialised": "depends on uninitialised memory",
    "shared": "as shared memory is on emu until it is written",
    "by_shape": "returns an earlier result: the same for other data of the same shapes",
    "by_array": "returns an earlier result, or a part of one: all data changed in place",
    "keeps_a_copy": "returns an earlier result, or a part of one: all data changed in place",
    "by_some": "returns an earlier result, or a part of one: one number of array 0 changed",
    "by_sum": "returns an earlier result, or a part of one: two numbers exchanged",
    "same_memory": "returns an earlier result's memory",
    "capped": "does not reach every element of a large array",
    "by_numpy": "launches none of its kernels",
    "supports_writes": "supports of relu:supports_writes writes to its arguments",
    "tiny": "no case within its limits (supports) has a result of 6 numbers",
    "stream": "works on another stream than the current one: cheats.py:158: cupy.cuda.Stream",
}


def missing() -> str:
    try:
        version()
    except GpukitError as error:
        return str(error)
    return compiler_problem()


@pytest.fixture(scope="module")
def outcome() -> Outcome:
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
    registered = {target.partition(":")[2] for target in outcome.targets}
    assert refused == set(WORDS)
    assert registered - refused == {"honest"}


@pytest.mark.gpu
@pytest.mark.skipif(not cuda_count(), reason="streams are a card's")
def test_work_on_another_stream_is_refused_on_a_card():
    load_kernel(PLUGIN)
    assert card.run(Target("relu", "honest"), 0, 0) == ""
    found = card.run(Target("relu", "stream"), 0, 0)
    # A card shows it by its time, tests/standin by the rule that it breaks.
    assert "works on another stream than the current one" in found or "does not wait for" in found


@pytest.mark.skipif(bool(cuda_count()), reason="here it is seen")
def test_what_cannot_be_seen_here_is_said(outcome):
    (line,) = outcome.not_seen
    assert line.startswith("on a card, which alone shows what runs on which stream: ")


SOURCES = {
    "in a function": ("import cupy as c\ndef f():\n    return c.cuda.Stream()\n", [(3, {2})]),
    "in a function's function": (
        "def f():\n    from cupy.cuda import Stream as S\n    def g():\n        S()\n",
        [(4, {1, 3})],
    ),
    "outside functions": ("from cupy.cuda import ExternalStream as E\ns = E(1)\n", [(2, set())]),
    "the null stream": ("import cupy\nwith cupy.cuda.Stream.null:\n    pass\n", [(2, set())]),
    "Numba's": ("from numba import cuda\nkernel[1, 1, cuda.stream()](2)\n", [(2, set())]),
    "behind a decorator": (
        "import torch\n@late\ndef f():\n    torch.cuda.default_stream()\n",
        [(4, {2})],
    ),
    "all names": ("from cupy.cuda import *\n", [(1, set())]),
    "the current one": ("import cupy\ncupy.cuda.get_current_stream()\n", []),
    "a file's": ("import io\nfor stream in files:\n    io.stream(stream.Stream)\n", []),
}


@pytest.mark.parametrize("name", SOURCES)
def test_mentions_of_streams(tmp_path, name):
    text, wanted = SOURCES[name]
    file = tmp_path / "mine.py"
    file.write_text(text)
    assert [(m.line, m.owners) for m in mentions(str(file))] == wanted

r"""What a usual call of a kernel's implementation launches, and what it asks memory for.

    python -m gpukit.verify.launches \
        '{"targets": ["relu:cuda"], "plugins": [], "blocks": 4, "dtype": "float32"}'

runs it on emu's build "trace", in a worker process, which may die without harm; a reply
(core/process.py) a launch.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gpukit.core import caches, process
from gpukit.core.process import Heard, WorkerProcess
from gpukit.device import get_device
from gpukit.dispatch.preference import no_fallbacks
from gpukit.dispatch.primitive import registry
from gpukit.emulator.build import compiler_problem
from gpukit.emulator.check import environment
from gpukit.emulator.run import Emulator, some_blocks
from gpukit.emulator.trace import Access, from_json
from gpukit.errors import GpukitError
from gpukit.plugins import load_any
from gpukit.verify.cases import usual
from gpukit.verify.coverage import Target, emulated, targets
from gpukit.verify.run_case import describe, placed
from gpukit.verify.worker import left_by

BLOCKS = 4  # of the middle of a grid, that are traced
TIME_LIMIT = 300.0  # seconds
WORKER = "gpukit.verify.launches"


@dataclass(frozen=True)
class Launch:
    """A kernel's launch by `target`: where it stands, its instance, sizes; accesses in some blocks.

    `call` says with which arguments the primitive was called, `source` is the kernel's whole text,
    `traced` counts the blocks that ran.
    """

    target: str
    call: str
    file: str
    line: int
    kernel: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared: int
    traced: int
    accesses: tuple[Access, ...]

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.block[0] * self.block[1] * self.block[2]

    @property
    def blocks(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


def launches(
    names: Sequence[str],
    plugins: Sequence[str] = (),
    blocks: int = BLOCKS,
    dtype: str = "float32",
    heard: Heard = lambda lines: None,
) -> list[Launch]:
    """Every launch of a usual call of the targets `names`, `blocks` blocks of its middle traced.

    No names stand for all that `plugins` (files, or names of installed ones) register.
    `heard(lines)` gets the last lines that were printed.
    Raises GpukitError with what went wrong, or without a compiler.
    """
    caches.prepare()
    if compiler_problem():
        raise GpukitError(compiler_problem())
    order = {"targets": [*names], "plugins": [*plugins], "blocks": blocks, "dtype": dtype}
    called = ", ".join([*(plugins or names)][:3])
    found: list[dict[str, Any]] = []
    variables = environment("trace")
    with WorkerProcess(WORKER, order, variables=variables, limit=TIME_LIMIT) as tracer:
        said: dict[str, Any] = {}
        for said in tracer.replies():
            if "launch" in said:
                found.append(said["launch"])
        heard(tracer.printed())
        if "done" not in said:
            if tracer.hung:
                raise GpukitError(f"{called}: the trace took more than {TIME_LIMIT:g} s")
            last = tracer.text().strip().splitlines()[-1:] if tracer.code else []
            why = said.get("error") or "".join(last) or "the call ended the process without a word"
            raise GpukitError(f"{called} cannot be traced: {why}")
    return [
        Launch(
            **{
                **one,
                "grid": tuple(one["grid"]),
                "block": tuple(one["block"]),
                "accesses": tuple(from_json(one["accesses"])),
            }
        )
        for one in found
    ]


def main(order: dict[str, Any], reply: process.Reply) -> int:
    """Run the call of `order`; its replies are each `launch`, then `done` or an `error`."""
    loaded = [plugin for name in order["plugins"] for plugin in load_any(name)]
    names = order["targets"] or [name for plugin in loaded for name in emulated(plugin)]
    wanted = [t for name in names for t in targets(name) if t.emulated]
    try:
        for target in wanted:
            for launch in _run(target, order["blocks"], order["dtype"]):
                reply(launch=asdict(launch))
    except GpukitError as error:
        reply(error=str(error))
        return 1
    except (SystemExit, KeyboardInterrupt) as error:
        reply(error=left_by(error, target))
        return 1
    reply(done=True)
    return 0


def _run(target: Target, blocks: int, dtype: str) -> list[Launch]:
    made = usual(target, dtype)
    device = get_device("emu")
    engine = registry.engine(device.kind)
    assert isinstance(engine, Emulator)
    engine.launches.clear()
    with some_blocks(None, blocks), no_fallbacks():
        registry[target.primitive](*placed(made.arrays, device), algo=target.algo, **made.settings)
    return [
        Launch(
            str(target),
            describe(made),
            one.bound.source.file,
            one.bound.declaration.line,
            one.bound.expression,
            one.bound.source.text,
            one.grid,
            one.block,
            one.shared,
            min(blocks, one.grid[0] * one.grid[1] * one.grid[2]),
            tuple(one.accesses),
        )
        for one in engine.launches
    ]


if __name__ == "__main__":
    sys.exit(process.work(main))

"""Cases on a card: the right result, and on the current stream.

A launcher that works on another stream than the caller's is right most of the time. Here the
current stream is kept busy before it fills the arguments, so that work on any other stream, also on
the null stream, reads them before they are there. Emu has no streams; there, only a launcher's
source can be looked at (streams.py).
"""

from __future__ import annotations

import numpy as np

from gpukit.device import Device, cuda_count, cuda_problem, get_device
from gpukit.dispatch.dice import Case
from gpukit.dispatch.primitive import registry
from gpukit.verify import run_case
from gpukit.verify.cases import flat, mapped
from gpukit.verify.coverage import Target

CARD = "cuda:0"
BUSY = 20_000_000  # clock cycles, some ten milliseconds: longer than a host takes to launch

_WAIT = """
extern "C" __global__ void wait(long long cycles) {
    const long long begin = clock64();
    while (clock64() - begin < cycles) {}
}
"""


def not_seen() -> tuple[str, ...]:
    """What checks leave out here; nothing where there is a card."""
    if cuda_count():
        return ()
    return (f"on a card, which alone shows what runs on which stream: {cuda_problem()}",)


def run(target: Target, seed: int, number: int) -> str:
    """What is wrong with case `number` on the first card; empty if nothing is."""
    return run_case.run(target, seed, number, _on_card)


def _on_card(target: Target, made: Case) -> str:
    return run_case.on_device(target, made, CARD) or _late(target, made, get_device(CARD))


def _late(target: Target, made: Case, card: Device) -> str:
    """What is wrong where the arguments come late on the current stream."""
    import cupy

    primitive = registry[target.primitive]
    full = run_case.placed(made.arrays, card)
    late = run_case.placed(mapped(np.zeros_like, made.arrays), card)
    wait = cupy.RawKernel(_WAIT, "wait")
    wait((1,), (1,), (np.int64(1),))  # compiled before it counts
    card.synchronize()
    with cupy.cuda.Stream(non_blocking=True):
        wait((1,), (1,), (np.int64(BUSY),))
        for to, source in zip(flat(late), flat(full)):
            if hasattr(to, "shape"):
                cupy.copyto(to, source)
        ours = run_case.call(primitive, target.algo, made, late)
    card.synchronize()
    found = run_case.mismatch(target, made, ours)
    return f"works on another stream than the current one: {found}" if found else ""

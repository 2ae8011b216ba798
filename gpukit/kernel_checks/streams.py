"""Whether an implementation works on the current stream: a card shows it, emu has no streams.

    python -m gpukit.kernel_checks.streams mine.py        # on a machine with a card

The current stream is kept busy before it fills the arguments, so that work on any other stream, the
null stream included, reads them before they are there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from gpukit.backends.plugins import load_any
from gpukit.backends.primitive import registry
from gpukit.device import get_device, to_host
from gpukit.kernel_checks import emulate
from gpukit.kernel_checks.compare import problem
from gpukit.kernel_checks.coverage import Target
from gpukit.kernel_checks.limits import drawn

BUSY = 200_000_000  # clock cycles, about a tenth of a second

_WAIT = """
extern "C" __global__ void wait(long long cycles) {
    const long long begin = clock64();
    while (clock64() - begin < cycles) {}
}
"""


def on_another_stream(target: Target, seed: int = 0, number: int = 0) -> str:
    """What is wrong with a case whose arguments come late on the current stream; needs a card."""
    import cupy

    made = drawn(target, seed, number)
    if made is None:
        return ""
    primitive = registry[target.primitive]
    card = get_device("cuda:0")

    def put(value: Any, fill: bool) -> Any:
        if isinstance(value, list):
            return [put(v, fill) for v in value]
        if not isinstance(value, np.ndarray):
            return value
        return card.asarray(np.ascontiguousarray(value if fill else np.zeros_like(value)))

    # Once before, so that nothing is compiled while the stream is busy.
    primitive(*put(made.arrays, True), algo=target.algo, **made.settings)
    wait = cupy.RawKernel(_WAIT, "wait")
    wait((1,), (1,), (np.int64(1),))
    full, late = put(made.arrays, True), put(made.arrays, False)
    card.synchronize()
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        wait((1,), (1,), (np.int64(BUSY),))
        for to, source in zip(emulate.flat(late), emulate.flat(full)):
            if hasattr(to, "shape"):
                cupy.copyto(to, source)
        results = primitive(*late, algo=target.algo, **made.settings)
        if results is None:
            results = tuple(a for a in emulate.flat(late) if hasattr(a, "shape"))
        ours = [to_host(r) for r in (results if isinstance(results, tuple) else (results,))]
    card.synchronize()
    for i, (mine, wanted) in enumerate(zip(ours, emulate.by_definition(primitive, made))):
        found = problem(f"result {i}", mine, wanted, made.exact, made.length, made.scale)
        if found:
            return f"works on another stream than the current one: {found}"
    return ""


def main(names: Sequence[str]) -> int:
    """Look at every implementation of these plug-ins; 1 where one is found."""
    found = 0
    for name in names:
        for plugin in load_any(name):
            for primitive, way in plugin.ways:
                if way.kind == "cuda":
                    target = Target(primitive.name, way.name)
                    text = on_another_stream(target) or "works on the current stream"
                    found += text.startswith("works on another")
                    print(f"{target}: {text}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

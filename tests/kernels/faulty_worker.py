"""verify.worker with faulty kernels for relu, one a fault: what a checker must not let pass.

Run as the worker is; the implementations are called wrong, overrun, race, crash and deaf;
unchanged is one for Numba's simulator.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from gpukit import primitives as p
from gpukit.core import process
from gpukit.device import device_of
from gpukit.launch.kernel import Kernel
from gpukit.verify import worker

FILE = Path(__file__).with_name("faulty_relu.cu")


def enter(name: str, kernel: str) -> None:
    made = Kernel(FILE, kernel)

    @p.relu.on("cuda", name=name)
    def _(x):
        y = device_of(x).empty(x.shape, x.dtype)
        if x.size:
            made.launch(1, 64, x.copy(), y, x.size, T=x.dtype)
        return y


for fault in ("wrong", "overrun", "race"):
    enter(fault, fault)


@p.relu.on("cuda", name="crash")
def _(x):
    os.abort()


@p.relu.on("cuda", name="deaf")
def _(x):
    raise RuntimeError("no such luck")


@p.relu.on("cuda", name="unchanged", emulated=False)
def _(x):
    return x.copy()


if __name__ == "__main__":
    sys.exit(process.work(worker.main))

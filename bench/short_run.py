"""A short run of every kernel at small sizes, held to the definitions: for sanitizers.

    compute-sanitizer python -m bench.short_run --device cuda

Each implementation of each primitive on the device gets a few random cases; then LeNet-5 takes two
steps. On cards, memory comes without CuPy's pool, so that memcheck sees where arrays end.
--plant runs one kernel with a bug instead: overrun for memcheck, race for racecheck. Exits with 1
for a wrong result. (`gpukit kernels check --mode asan` does the like for emu.)
"""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path

import numpy as np

from gpukit.device import get_device
from gpukit.launch.kernel import Kernel
from gpukit.launch.numba import card_problem as numba_problem
from gpukit.verify import run_case
from gpukit.verify.coverage import targets

PLANTED = Path(__file__).parents[1] / "tests" / "kernels" / "planted"
SEED = 11


def use_plain_memory(device: str) -> None:
    """On a card, take every array from the driver and give it back at once."""
    if not get_device(device).in_host_memory:
        import cupy

        cupy.cuda.set_allocator(None)


def lenet_step(device: str) -> str:
    """Two steps of LeNet-5 on eight images."""
    from gpukit.models import lenet5
    from gpukit.optimizers import SGD

    rng = np.random.default_rng(0)
    x = rng.standard_normal((8, 28, 28, 1), dtype=np.float32)
    losses = {}
    for where in ("cpu", device):
        model = lenet5(seed=0, device=where)
        model.compile(SGD(0.01, momentum=0.9), "sparse_categorical_crossentropy")
        labels = np.arange(8) % 10
        losses[where] = [float(np.ravel(model.train_on_batch(x, labels))[0]) for _ in range(2)]
    close = np.allclose(losses["cpu"], losses[device], rtol=1e-5)
    return "" if close else f"losses {losses}"


def plant(which: str, device: str) -> None:
    """Launch a kernel with a bug: a sanitizer that stays silent here is worth nothing."""
    place = get_device(device)
    x = place.asarray(np.ones(256, np.float32))
    y = place.empty((256,))
    if which == "overrun":  # far past the end of both
        Kernel(PLANTED / "memory.cu", "global_overrun").launch(4, 256, x, y, 1023, BUG=True)
    else:
        Kernel(PLANTED / "races.cu", "missing_barrier_before").launch(1, 128, x, y, BUG=True)
    place.synchronize()


def main() -> int:
    """Run and print one line for each implementation with a problem."""
    parser = argparse.ArgumentParser(prog="python -m bench.short_run")
    parser.add_argument("--device", default="cuda", help="cuda or emu (cuda)")
    parser.add_argument("--cases", type=int, default=2, help="for each implementation (2)")
    parser.add_argument("--only", default="", help="primitives, with commas between")
    parser.add_argument("--no-cublas", action="store_true", help="leave the library's products out")
    parser.add_argument("--no-lenet", action="store_true", help="leave LeNet-5 out")
    parser.add_argument("--plant", choices=("overrun", "race"), help="only a kernel with a bug")
    options = parser.parse_args()
    use_plain_memory(options.device)
    if options.plant:
        plant(options.plant, options.device)
        return 0
    only = set(filter(None, options.only.split(",")))
    bad = done = 0
    check = partial(run_case.on_device, device=options.device)
    on_card = not get_device(options.device).in_host_memory
    for target in targets():
        if only and target.primitive not in only:
            continue
        if not target.emulated and (not on_card or (target.simulated and numba_problem())):
            continue
        if options.no_cublas and not target.emulated and not target.simulated:
            continue
        for number in range(options.cases):
            found = run_case.run(target, SEED, number, check)
            done += 1
            if found:
                bad += 1
                print(f"{target} case {number}: {found}", flush=True)
    if not options.no_lenet:
        found = lenet_step(options.device)
        done += 1
        if found:
            bad += 1
            print(f"LeNet-5: {found}")
    print(f"{done} runs on {options.device}, {bad} wrong")
    return 1 if bad or not done else 0


if __name__ == "__main__":
    sys.exit(main())

"""gpukit's kernels against PyTorch with cuDNN on one card: python -m bench.cuda_race [--record]

Each case is first held to PyTorch in float64; only then the two alternate, round by round. CUDA
events on the one default stream that both use; before each turn the L2 cache is flushed, then the
card waits long enough for the host to be ahead, so that launches do not count. A training step is
timed by the host's clock instead, from one synchronisation to the next: launches are part of it.
Random normal data. The rival computes in float32 as gpukit does (TF32 off), with cuDNN's
benchmarking on, and is the faster of contiguous and channels_last. Medians; the spread is the
interquartile range over the median; above 20 % a case is void.

--device emu times nothing: it says whether both sides run and agree, at tiny sizes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from bench import agree, cases, ours, torch_tasks
from bench.__main__ import RESULTS, merged, row, summary
from bench.duel import VOID_SPREAD, Result, spread
from gpukit.device import get_device
from gpukit.errors import DeviceError, GpukitError

GROUPS: dict[str, list[tuple[str, list[Any]]]] = {
    "conv": [
        ("conv2d", cases.CONVS),
        ("conv2d_input_grad", cases.CONVS),
        ("conv2d_weight_grad", cases.CONVS),
    ],
    "pool": [("max_pool2d", cases.POOLS), ("max_pool2d_grad", cases.POOLS)],
    "lrn": [
        ("lrn", cases.RESPONSES),
        ("lrn_step", cases.RESPONSES),
        ("lrn_pool", cases.LRN_POOLS),
        ("lrn_pool_step", cases.LRN_POOLS),
    ],
    "images": [("normalise_images", cases.STORED)],
    "softmax": [("softmax", cases.SOFTMAXES)],
    "dense": [("dense", cases.DENSES)],
    "lenet": [("lenet_step", cases.LENETS)],
}
# What matters most comes first, should the time run out.
ORDER = ("lenet", "lrn", "dense", "softmax", "images", "pool", "conv")
HOST_TIMED = {"lenet_step"}
ROUNDS = (9, 41)
CASE_S = 0.4  # of device time on each side, within the rounds
AHEAD_CYCLES = 2_000_000  # about a millisecond, more than the host needs to launch a task

Task = Callable[[], Any]


class Clock:
    """Times tasks on the card that PyTorch and CuPy share."""

    def __init__(self) -> None:
        import cupy
        import torch

        if cupy.cuda.get_current_stream().ptr or torch.cuda.current_stream().cuda_stream:
            raise DeviceError("gpukit and PyTorch use different streams here; events mean nothing")
        self._torch = torch
        l2 = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 << 20
        self.flush_bytes = 4 * l2
        self._buffer = torch.empty(self.flush_bytes // 4, dtype=torch.float32, device="cuda")

    def on_card(self, task: Task) -> float:
        """Seconds between two events around a task."""
        events = self._torch.cuda.Event
        start, end = events(enable_timing=True), events(enable_timing=True)
        self._buffer.normal_()
        self._torch.cuda._sleep(AHEAD_CYCLES)
        start.record()
        task()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3

    def on_host(self, task: Task) -> float:
        """Seconds of a task by the host's clock, from an idle card to an idle card."""
        self._buffer.normal_()
        self._torch.cuda.synchronize()
        start = time.perf_counter()
        task()
        self._torch.cuda.synchronize()
        return time.perf_counter() - start


def race(group: str, case: Any, mine: Task, ways: dict[str, Task], clock: Clock) -> Result:
    """Alternate with the fastest of PyTorch's ways."""
    measure = clock.on_host if group in HOST_TIMED else clock.on_card
    best: dict[str, float] = {}
    for name, theirs in ways.items():
        for _ in range(3):  # cuDNN tries its algorithms in the first
            theirs()
        best[name] = min(measure(theirs) for _ in range(3))
    way = min(best, key=lambda name: best[name])
    for _ in range(3):
        mine()
    us: list[float] = []
    them: list[float] = []
    while len(us) < ROUNDS[0] or (len(us) < ROUNDS[1] and sum(us) + sum(them) < 2 * CASE_S):
        them.append(measure(ways[way]))
        us.append(measure(mine))
    ours_s, theirs_s = statistics.median(us), statistics.median(them)
    return Result(
        group=group,
        name=case.name,
        ours_ms=ours_s * 1e3,
        theirs_ms=theirs_s * 1e3,
        ratio=ours_s / theirs_s,
        spread=max(spread(us), spread(them)),
        rounds=len(us),
        way=way,
        gflop=getattr(case, "gflop", None),
    )


def chosen(groups: list[str], match: str) -> list[tuple[str, Any]]:
    """Tasks with their cases."""
    return [
        (task, case)
        for group in ORDER
        if group in groups
        for task, shapes in GROUPS[group]
        for case in shapes
        if match in case.name
    ]


def agreement(task: str, case: Any, device: str, torch_device: str) -> str:
    """Why the two sides must not be compared; empty if they agree."""
    if task == "lenet_step":
        loss = float(np.ravel(ours.lenet_step(case)())[0])
        return "" if math.isfinite(loss) and loss < 10 else f"the loss of a step is {loss}"
    found = agree.difference(task, case, device, torch_device)
    # NaN is no agreement either.
    return "" if found <= agree.LIMIT else f"differs by {found:.2g}, {agree.LIMIT:g} allowed"


def rehearse(device: str, wanted: list[tuple[str, Any]]) -> int:
    """Run both sides at tiny sizes, PyTorch on the CPU, and time nothing."""
    import torch

    torch.set_num_threads(1)
    ours.use(device)
    bad = 0
    for task, big in wanted:
        case = big if task == "lenet_step" else agree.tiny(big)
        try:
            problem = agreement(task, case, device, "cpu")
            getattr(ours, task)(case)()
            for theirs in torch_tasks.prepare(task, case, False).values():
                theirs()
        except (GpukitError, AssertionError, RuntimeError) as error:
            problem = f"{type(error).__name__}: {error}"
        bad += bool(problem)
        if problem:
            print(f"{task} {case.name}: {problem}")
    print(f"{len(wanted)} cases rehearsed on {device}, {bad} wrong; nothing timed, it has no speed")
    return 1 if bad or not wanted else 0


def environment(clock: Clock) -> dict[str, Any]:
    """What the figures depend on."""
    import cupy
    import torch

    import gpukit

    card = torch.cuda.get_device_properties(0)
    return {
        "date": datetime.date.today().isoformat(),
        "card": card.name,
        "arch": f"sm_{card.major}{card.minor}",
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "runtime": cupy.cuda.runtime.runtimeGetVersion(),
        "nvrtc": list(cupy.cuda.nvrtc.getVersion()),
        "cupy": cupy.__version__,
        "python": platform.python_version(),
        "gpukit": gpukit.__version__,
        "flush_bytes": clock.flush_bytes,
        "rival": {
            "torch": torch.__version__,
            "cudnn": torch.backends.cudnn.version(),
            "tf32": False,
            "cudnn_benchmark": True,
        },
    }


def compete(options: argparse.Namespace, wanted: list[tuple[str, Any]]) -> int:
    """Verify, time, print and write."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    begun = time.monotonic()
    clock = Clock()
    torch.set_default_device("cuda")
    ours.use(options.device)
    results: list[Result] = []
    problems: list[str] = []
    left_out: list[str] = []
    print(f"{'median ms; ratio < 1: gpukit is faster':47} {'gpukit':>9} {'PyTorch':>9}  ratio")
    for task, case in wanted:
        label = f"{task} {case.name}"
        if time.monotonic() - begun > options.seconds:
            left_out.append(label)
            continue
        try:
            torch.backends.cudnn.benchmark = False  # no search for the fastest float64
            problem = agreement(task, case, options.device, "cuda")
            torch.backends.cudnn.benchmark = True
            if not problem:
                ways = torch_tasks.prepare(task, case, False)
                results.append(race(task, case, getattr(ours, task)(case), ways, clock))
                print(row(results[-1]), flush=True)
        except (GpukitError, AssertionError, RuntimeError) as error:
            problem = f"{type(error).__name__}: {error}"
        if problem:
            problems.append(f"{label}: {problem}")
            print(problems[-1], flush=True)
    print(*summary(results), sep="\n")
    print(f"A case is void when the interquartile range passes {VOID_SPREAD:.0%} of the median.")
    if left_out:
        print(f"left out after {options.seconds:g} s: {', '.join(left_out)}")
    report = environment(clock)
    report |= {
        "problems": problems,
        "left_out": left_out,
        "results": [r.as_dict() for r in results],
    }
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.record:
        RESULTS.mkdir(exist_ok=True)
        name = re.sub(r"[^a-z0-9]+", "-", str(report["card"]).lower()).strip("-")
        path = RESULTS / f"{name}.json"
        report["results"] = merged(path, report["results"])
        path.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written to {path}")
    return 1 if problems or not results else 0


def main() -> int:
    """Race on a card, rehearse elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m bench.cuda_race")
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(GROUPS))
    parser.add_argument("--device", default="cuda", help="cuda, or emu to rehearse (cuda)")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--seconds", type=float, default=170, help="start no case after that (170)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--record", action="store_true", help=f"write them to {RESULTS.name}/")
    options = parser.parse_args()
    unknown = set(options.groups) - set(GROUPS)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; use {', '.join(GROUPS)}")
    try:
        device = get_device(options.device)
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 2
    wanted = chosen(options.groups or list(GROUPS), options.match)
    if device.kind == "cuda":
        return compete(options, wanted)
    if options.json or options.record:
        parser.error(f"{device} has no speed: --json and --record need a card")
    return rehearse(device.name, wanted)


if __name__ == "__main__":
    sys.exit(main())

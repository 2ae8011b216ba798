"""gpukit's kernels against PyTorch with cuDNN on one card: python -m bench.cuda_race [--record]

Each case is first held to PyTorch in float64; only then the two alternate, round by round. CUDA
events on the one default stream that both use; before each turn the L2 cache is flushed, then the
card waits long enough for the host to be ahead, so that launches do not count. A network's training
step, or its predictions, are timed by the host's clock instead, from one synchronisation to the
next: launches are part of it. AlexNet's two sides begin with the same weights and images; what must
agree there are the losses of two steps without dropout, or of the predictions. Random normal data.
The rival computes in float32 as gpukit does (TF32 off), with cuDNN's benchmarking on, and is the
faster of contiguous and channels_last. Medians; the spread is the interquartile range over the
median; above 20 % a case is void.

--device emu times nothing: it says whether both sides run and agree, at tiny sizes.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import agree, alexnet_on_card, cases, ours, torch_tasks
from bench.__main__ import RESULTS, merged, row, summary
from bench.alexnet import BATCHES
from bench.duel import VOID_SPREAD, Result, spread
from gpukit.device import get_device
from gpukit.errors import DeviceError

*SMALLER, ALEXNET = BATCHES  # Krizhevsky's batch of 128 comes first
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
    "alexnet": [("alexnet_step", [ALEXNET, *SMALLER]), ("alexnet_inference", [ALEXNET])],
}
# What matters most comes first, should the time run out.
ORDER = ("lenet", "alexnet", "lrn", "dense", "softmax", "images", "pool", "conv")
HOST_TIMED = {"lenet_step", *alexnet_on_card.SIDES}
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


def contenders(
    task: str, case: Any, device: str, torch_device: str
) -> tuple[Task, dict[str, Task]]:
    """gpukit's task and PyTorch's ways, once they agree; AssertionError where they do not."""
    if task in alexnet_on_card.SIDES:
        return alexnet_on_card.contenders(task, case, device, torch_device)
    if task == "lenet_step":
        loss = ours.lenet_step(case)()
        if not loss < 10:
            raise AssertionError(f"the loss of a step is {loss}")
    else:
        found = agree.difference(task, case, device, torch_device)
        if not found <= agree.LIMIT:  # NaN is no agreement either
            raise AssertionError(f"differs by {found:.2g}, {agree.LIMIT:g} allowed")
    return getattr(ours, task)(case), torch_tasks.prepare(task, case, False)


def tiny(task: str, case: Any) -> Any:
    """What stands for `case` in a rehearsal."""
    if task in alexnet_on_card.SIDES:
        return alexnet_on_card.TINY
    return case if task == "lenet_step" else agree.tiny(case)


def rehearse(device: str, wanted: list[tuple[str, Any]]) -> int:
    """Run both sides at tiny sizes, PyTorch on the CPU, and time nothing."""
    import torch

    torch.set_num_threads(1)
    ours.use(device)
    small = list(dict.fromkeys((task, tiny(task, case)) for task, case in wanted))
    bad = 0
    for task, case in small:
        try:
            mine, ways = contenders(task, case, device, "cpu")
            for run in (mine, *ways.values()):
                run()
        except Exception as error:  # whatever it is, the other cases are to be seen
            bad += 1
            print(f"{task} {case.name}: {type(error).__name__}: {error}")
    print(f"{len(small)} cases rehearsed on {device}, {bad} wrong; nothing timed, it has no speed")
    return 1 if bad or not small else 0


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


def measured(task: str, case: Any, device: str, clock: Clock) -> Result:
    """How one case does, once both sides agree."""
    import torch

    network = task in alexnet_on_card.SIDES
    if network:
        alexnet_on_card.free()
    torch.backends.cudnn.benchmark = False  # no search for the fastest float64
    mine, ways = contenders(task, case, device, "cuda")
    torch.backends.cudnn.benchmark = True
    result = race(task, case, mine, ways, clock)
    if not network:
        return result
    theirs = ways[result.way]
    ways.clear()  # the other way's network takes memory, too
    our_mb, their_mb = alexnet_on_card.peaks(mine, theirs, clock.flush_bytes)
    return replace(result, ours_mb=round(our_mb), theirs_mb=round(their_mb))


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
            results.append(measured(task, case, options.device, clock))
            print(row(results[-1]), flush=True)
        except Exception as error:  # whatever it is, the other cases are worth their time
            problems.append(f"{label}: {type(error).__name__}: {error}")
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
    parser.add_argument("--rehearse", action="store_true", help="time nothing on cuda, either")
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
    if device.kind == "cuda" and not options.rehearse:
        return compete(options, wanted)
    if options.json or options.record:
        parser.error(f"a rehearsal on {device} has no speed: --json and --record need a card")
    return rehearse(device.name, wanted)


if __name__ == "__main__":
    sys.exit(main())

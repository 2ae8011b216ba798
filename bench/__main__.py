"""python -m bench [group …] [--match TEXT] [--compiled] [--json FILE] [--record]: see README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import platform
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np  # before gpukit and with no environment set: that is how users come

from bench import alexnet, cases, launch, loading, ours
from bench.duel import VOID_SPREAD, Result, duel
from bench.rival import Rival

# group: (function of ours, task of the rival, cases)
GROUPS: dict[str, list[tuple[str, list[Any]]]] = {
    "conv": [
        ("conv2d", cases.CONVS),
        ("conv2d_input_grad", cases.CONVS),
        ("conv2d_weight_grad", cases.CONVS),
    ],
    "pool": [("max_pool2d", cases.POOLS), ("max_pool2d_grad", cases.POOLS)],
    "lrn": [("lrn", cases.RESPONSES), ("lrn_step", cases.RESPONSES)],
    "norm": [("batch_norm_step", cases.BATCH_NORMS)],
    "softmax": [("softmax", cases.SOFTMAXES)],
    "dense": [("dense", cases.DENSES)],
    "lenet": [("lenet_step", cases.LENETS)],
}
# Whole networks, which take minutes: run where they are named.
NETWORKS = {"alexnet": alexnet.training, "alexnet-inference": alexnet.inference}
RESULTS = Path(__file__).parent / "results"


def cpu_name() -> str:
    """The CPU's model name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def import_times(rounds: int = 5) -> dict[str, float]:
    """Milliseconds of a new process that only imports, best of some; `nothing` is Python itself."""
    best: dict[str, float] = {}
    for name, code in (("nothing", "pass"), ("gpukit", "import gpukit"), ("torch", "import torch")):
        for _ in range(rounds):
            start = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            elapsed = (time.perf_counter() - start) * 1e3
            best[name] = min(best.get(name, math.inf), elapsed)
    return best


def environment(rival: Rival) -> dict[str, Any]:
    """What the figures depend on."""
    import numba

    import gpukit
    from gpukit.backends.cpu.runtime import blas
    from gpukit.core import settings

    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "threads": settings.threads(),
        "blas": f"{blas.version()} ({blas.core_type()})",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "gpukit": gpukit.__version__,
        "rival": rival.describe(),
    }


def row(result: Result) -> str:
    """One line of the table."""
    speed = f"{result.gflop / result.ours_ms * 1e3:7.0f}" if result.gflop else " " * 7
    note = f"void: spread {result.spread:.0%}" if result.void else result.way
    if result.ours_mb is not None:
        note += f"; peak {result.ours_mb:.0f} and {result.theirs_mb:.0f} MB"
    return (
        f"{result.group:20} {result.name:26} {result.ours_ms:9.3f} {result.theirs_ms:9.3f} "
        f"{result.ratio:6.2f} {result.spread:6.0%} {speed}  {note}"
    )


def summary(results: list[Result]) -> list[str]:
    """Geometric mean of the ratios by group, void ones left out."""
    lines = []
    for group in dict.fromkeys(r.group for r in results):
        ratios = [math.log(r.ratio) for r in results if r.group == group and not r.void]
        count = sum(r.group == group for r in results)
        mean = f"{math.exp(sum(ratios) / len(ratios)):.2f}" if ratios else "void"
        lines.append(f"{group:20} geometric mean {mean} of {len(ratios)} of {count} cases")
    return lines


def merged(path: Path, results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`results` over those recorded before; a void one does not replace one that is not."""
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    if path.exists():
        kept = {(r["group"], r["name"]): r for r in json.loads(path.read_text())["results"]}
    today = datetime.date.today().isoformat()
    for result in results:
        before = kept.get((result["group"], result["name"]))
        if before is None or before["void"] or not result["void"]:
            kept[result["group"], result["name"]] = {**result, "date": today}
    return list(kept.values())


def main(arguments: list[str] | None = None) -> None:
    """Run the groups asked for, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = [*GROUPS, *NETWORKS, "loading", "launch", "import"]
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(known))
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--compiled", action="store_true", help="let PyTorch compile, too")
    parser.add_argument("--dry", action="store_true", help="networks: tiny, only to see them run")
    parser.add_argument("--retries", type=int, default=1, help="more tries for a void case (1)")
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--record", action="store_true", help=f"write them to {RESULTS.name}/")
    options = parser.parse_args(arguments)
    groups = options.groups or [*GROUPS, "loading", "launch", "import"]
    unknown = set(groups) - set(known)
    if unknown:
        parser.error(f"no group {', '.join(sorted(unknown))}; use {', '.join(known)}")
    if options.dry and options.record:
        parser.error("--dry measures nothing that is worth recording; leave out --record")
    results: list[Result] = []
    with Rival() as rival:
        print(f"{'':47} {'gpukit':>9} {'PyTorch':>9} {'ratio':>6} spread GFLOP/s")
        print(f"{'median ms; ratio < 1: gpukit is faster':47}")
        for group in groups:
            if group in NETWORKS:
                for result in NETWORKS[group](options.match, options.dry):
                    results.append(result)
                    print(row(result), flush=True)
            for task, shapes in GROUPS.get(group, []):
                for case in shapes:
                    if options.match not in case.name:
                        continue
                    mine = getattr(ours, task)(case)
                    flop = getattr(case, "gflop", None)
                    tries: list[Result] = []
                    while not tries or (tries[-1].void and len(tries) <= options.retries):
                        tries.append(
                            duel(task, case.name, mine, rival, task, case, options.compiled, flop)
                        )
                    results.append(min(tries, key=lambda result: result.spread))
                    print(row(results[-1]), flush=True)
        about = environment(rival)
    if "loading" in groups:
        for result in loading.race():
            results.append(result)
            print(row(result), flush=True)
    print(*summary(results), sep="\n")
    print(f"A case is void when the interquartile range passes {VOID_SPREAD:.0%} of the median.")
    report: dict[str, Any] = {**about, "results": [r.as_dict() for r in results]}
    if "launch" in groups:
        report["launch"] = launch.measure()
        print(*launch.lines(report["launch"]), sep="\n")
    if "import" in groups:
        report["import_ms"] = import_times()
        print("import, ms:", ", ".join(f"{k} {v:.0f}" for k, v in report["import_ms"].items()))
    machine = re.sub(r"[^a-z0-9]+", "-", f"{about['cpu']} {about['threads']} threads".lower())
    targets = [options.json] if options.json else []
    if options.record:
        RESULTS.mkdir(exist_ok=True)
        targets.append(RESULTS / f"{machine.strip('-')}.json")
        report["results"] = merged(targets[-1], report["results"])
    for target in targets:
        target.write_text(json.dumps(report, indent=1) + "\n")
        print(f"written to {target}")


if __name__ == "__main__":
    main()

"""Time gpukit against its rivals, group by group; see bench/README.md."""

from __future__ import annotations

import argparse
import datetime
import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np  # noqa: F401  (before gpukit, no environment set: that is how users come)

from bench import launch, loading, networks
from bench.contest import Result
from gpukit.cli.race import hold
from gpukit.device import Device, get_device
from gpukit.errors import DeviceError
from gpukit.race import report
from gpukit.race.ceilings import side
from gpukit.race.contest import VOID_SPREAD, Outcome
from gpukit.race.problems import ALL, suite

# Raced by gpukit's own harness: every pass of these primitives in the suites' layers.
PRIMITIVES = {
    "conv": ["conv2d"],
    "pool": ["max_pool2d"],
    "lrn": ["lrn", "bias_relu_lrn_pool"],
    "images": ["normalise_images"],
    "norm": ["batch_norm"],
    "softmax": ["softmax"],
    "dense": ["dense"],
}
RESULTS = Path(__file__).parent / "results"
HEAD = f"{'median ms; ratio < 1: gpukit is faster':47} {'gpukit':>9} {'rival':>9}  ratio spread"


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


def row(result: Result) -> str:
    """One line of the table."""
    note = f"void: spread {result.spread:.0%}" if result.void else result.variant
    if result.ours_mb is not None:
        note += f"; peak {result.ours_mb:.0f} and {result.theirs_mb:.0f} MB"
    return (
        f"{result.group:20} {result.name:26} {result.ours_ms:9.3f} {result.theirs_ms:9.3f} "
        f"{result.ratio:6.2f} {result.spread:6.0%}  {note}"
    )


def raced(outcome: Outcome) -> list[Result]:
    """gpukit's default against the fastest rival, layer by layer, as the other groups have it."""
    found = []
    rivals = {(r.primitive, r.sizes): r for r in outcome.rows if r.ratio_to_rival == 1 and r.rival}
    for mine in outcome.rows:
        theirs = rivals.get((mine.primitive, mine.sizes))
        if theirs is None or not mine.default:
            continue
        found.append(
            Result(
                group=mine.primitive,
                name=f"{mine.layer}-batch-{mine.sizes.partition(',')[0]}",
                ours_ms=mine.ms,
                theirs_ms=theirs.ms,
                ratio=mine.ms / theirs.ms,
                spread=max(mine.spread, theirs.spread),
                rounds=min(mine.rounds, theirs.rounds),
                variant=f"{theirs.name}, {theirs.variant}",
                gflop=mine.gflops * mine.ms / 1e3,
            )
        )
    return found


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


def compete(groups: list[str], device: Device, options: argparse.Namespace) -> dict[str, Any]:
    """Run the groups, print what comes of them; what is to be written."""
    begun = time.monotonic()
    results: list[Result] = []
    found: dict[str, Any] = {**report.machine(device), "problems": [], "left_out": []}
    for name in [n for n in (*networks.GROUPS, "loading") if n in groups]:
        if time.monotonic() - begun > options.seconds:
            found["left_out"].append(name)
            continue
        try:
            settings = options.match, options.dry, options.compiled
            is_network = name in networks.GROUPS
            race = networks.race(name, device, *settings) if is_network else loading.race()
            for result in race:
                if not results:
                    print(HEAD)
                results.append(result)
                print(row(result), flush=True)
        except Exception as error:  # whatever it is, the other groups are worth their time
            found["problems"].append(f"{name}: {type(error).__name__}: {error}")
            print(found["problems"][-1], flush=True)
    if results:
        print(
            f"A case is void when the interquartile range passes {VOID_SPREAD:.0%} of the median."
        )
    if primitives := [p for group in groups for p in PRIMITIVES.get(group, ())]:
        problems = suite(ALL, side(device).BATCH, primitives)
        problems = [p for p in problems if options.match in p.layer]
        if problems:
            rivals = ["torch", "torch-compiled"] if options.compiled else ["torch"]
            left = options.seconds - (time.monotonic() - begun)
            outcome, about = hold(problems, device, [], rivals, seconds=left)
            found |= {"race": report.as_dict(outcome, about)}
            found["problems"] += [f"{n.primitive} {n.layer}: {n.why}" for n in outcome.refused]
            results += raced(outcome)
    if "launch" in groups:
        found["launch"] = launch.measure()
        print(*launch.lines(found["launch"]), sep="\n")
    if "import" in groups:
        found["import_ms"] = import_times()
        print("import, ms:", ", ".join(f"{k} {v:.0f}" for k, v in found["import_ms"].items()))
    if found["left_out"]:
        print(f"left out after {options.seconds:g} s: {', '.join(found['left_out'])}")
    return {**found, "results": [r.as_dict() for r in results]}


def write(found: dict[str, Any], json_file: Path | None, record: bool) -> None:
    """Write what was found to a file, and merged into the machine's."""
    targets = [json_file] if json_file else []
    if record:
        RESULTS.mkdir(exist_ok=True)
        threads = f" {found['threads']} threads" if "threads" in found else ""
        machine = re.sub(r"[^a-z0-9]+", "-", f"{found['machine']}{threads}".lower()).strip("-")
        targets.append(RESULTS / f"{machine}.json")
    for target in targets:
        results = found["results"]
        if target.parent == RESULTS:
            results = merged(target, results)
        target.write_text(json.dumps({**found, "results": results}, indent=1) + "\n")
        print(f"written to {target}")


def main(arguments: list[str] | None = None) -> int:
    """Run the groups asked for, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    known = [*networks.GROUPS, "loading", *PRIMITIVES, "launch", "import"]
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(known))
    parser.add_argument("--device", default="cpu", help="cpu (the default), or a card")
    parser.add_argument("--match", default="", help="only cases whose name contains this")
    parser.add_argument("--compiled", action="store_true", help="race torch.compile, too")
    parser.add_argument("--dry", action="store_true", help="tiny networks, to see them run")
    parser.add_argument(
        "--rehearse", action="store_true", help="run tiny networks, and time nothing"
    )
    parser.add_argument(
        "--seconds", type=float, default=math.inf, help="begin nothing after that time"
    )
    parser.add_argument("--json", type=Path, help="write the results to this file")
    parser.add_argument("--record", action="store_true", help=f"merge them into {RESULTS.name}/")
    options = parser.parse_args(arguments)
    try:
        device = get_device(options.device)
    except DeviceError as error:
        print(error, file=sys.stderr)
        return 2
    # Whole networks, which take minutes: AlexNet runs where it is named.
    usual = ["lenet", *PRIMITIVES, *(["loading", "launch", "import"] * (device.kind == "cpu"))]
    groups = options.groups or usual
    if unknown := set(groups) - set(known):
        parser.error(f"no group {', '.join(sorted(unknown))}; use {', '.join(known)}")
    rehearsed = options.rehearse or device.kind == "emu"
    if (rehearsed or options.dry) and options.record:
        parser.error("a rehearsal measures nothing that is worth recording; leave out --record")
    if rehearsed:
        return 1 if networks.rehearse([g for g in groups if g in networks.GROUPS], device) else 0
    found = compete(groups, device, options)
    write(found, options.json, options.record)
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())

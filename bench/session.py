"""Helpers of gpu_session.sh: what is installed, losses side by side, the summary.

python bench/session.py missing                     # wheels that must be brought along
python bench/session.py environment                 # the card and versions, as JSON
python bench/session.py losses FOLDER FOLDER       # two runs' losses, epoch by epoch
python bench/session.py summary STEPS.jsonl PARTS OUT   # OUT/session.json; 1 for a failure
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

# Module, and the distribution that brings it. The first ones are needed, the others only missed.
NEEDED = {
    "numpy": "numpy",
    "numba": "numba",
    "scipy_openblas32": "scipy-openblas32",
    "platformdirs": "platformdirs",
    "rich": "rich",
    "click": "click",
    "safetensors": "safetensors",
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "pytest": "pytest",
    "xdist": "pytest-xdist",
    "hypothesis": "hypothesis",
    "torch": "torch",
}
ON_A_CARD = {"cupy": "cupy-cuda13x", "setuptools": "setuptools>=77"}
# Relative difference of training losses that rounding explains: first epoch, later ones.
FIRST_EPOCH, LATER = 1e-3, 5e-2


def missing(card: bool) -> list[str]:
    """Distributions that the session needs and this Python does not have."""
    wanted = NEEDED | ON_A_CARD if card else NEEDED
    absent = [name for module, name in wanted.items() if importlib.util.find_spec(module) is None]
    old = "setuptools>=77"
    if card and old not in absent and int(metadata.version("setuptools").split(".")[0]) < 77:
        absent.append(old)
    return absent


def environment() -> dict[str, Any]:
    """The card, its driver, and versions."""
    versions: dict[str, str | None] = {}
    for name in [
        "setuptools",
        *NEEDED.values(),
        "cupy-cuda13x",
        "cupy-cuda12x",
        "nvidia-cuda-nvrtc",
        "numba-cuda",
    ]:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    query = "--query-gpu=name,driver_version,memory.total,compute_cap"
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "card": _output("nvidia-smi", query, "--format=csv,noheader"),
        "compute_sanitizer": _output("compute-sanitizer", "--version"),
        "gxx": _output("g++", "--version"),
        "commit": _output("git", "rev-parse", "HEAD"),
        "versions": versions,
        "numba_cuda": _numba(),
    }


def _numba() -> str:
    """Whether Numba's kernels take part: numba-cuda there is not yet numba-cuda that compiles."""
    command = "from gpukit.launch.numba import card_problem; print(card_problem())"
    found = _output(sys.executable, "-c", command)
    return "cannot be asked" if found is None else found or "ready"


def _output(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().partition("\n\n")[0] if done.returncode == 0 else None


def losses(one: Path, other: Path) -> tuple[list[dict[str, float]], bool]:
    """Epochs with the training losses of both runs, and whether rounding explains the rest."""
    epochs = []
    good = True
    runs = [_history(folder) for folder in (one, other)]
    for number, (a, b) in enumerate(zip(*runs)):
        difference = abs(a - b) / max(abs(b), 1e-12)
        good &= difference <= (LATER if number else FIRST_EPOCH)
        epochs.append({"loss": a, "other": b, "difference": difference})
    return epochs, good and len(runs[0]) == len(runs[1]) > 0


def _history(folder: Path) -> list[float]:
    lines = (folder / "history.jsonl").read_text().splitlines()
    return [float(row["loss"]) for row in map(json.loads, lines) if "loss" in row]


def summary(steps: Path, parts: Path, out: Path) -> int:
    """Put the steps and what they wrote into PARTS (the race: into OUT) into OUT/session.json."""
    rows = [json.loads(line) for line in steps.read_text().splitlines()]
    report: dict[str, Any] = {"ok": all(r["state"] != "failed" for r in rows), "steps": rows}
    for path in (*sorted(parts.glob("*.json")), out / "race.json"):
        if path.exists():
            try:
                report[path.stem] = json.loads(path.read_text())
            except ValueError:
                report[path.stem] = None
                report["ok"] = False
    (out / "session.json").write_text(json.dumps(report, indent=1) + "\n")
    for r in rows:
        print(f"{r['seconds']:4d} s  {r['state']:8} {r['name']}{': ' * bool(r['note'])}{r['note']}")
    return 0 if report["ok"] and rows else 1


def main(arguments: list[str]) -> int:
    """One of the commands above."""
    match arguments:
        case ["missing", *rest]:
            print(*missing("--card" in rest))
        case ["environment"]:
            print(json.dumps(environment(), indent=1))
        case ["losses", one, other]:
            epochs, good = losses(Path(one), Path(other))
            print(json.dumps({"epochs": epochs, "ok": good}, indent=1))
            return 0 if good else 1
        case ["summary", steps, parts, out]:
            return summary(Path(steps), Path(parts), Path(out))
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

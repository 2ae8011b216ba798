"""Hold the emulator's stand-ins for inline PTX to a card: python -m bench.confirm_standins

Every piece of kernels/ptx.cuh runs in a tiny kernel (standins.cu) on the card, on emu, and by a
NumPy definition; all three must agree to the bit, on whole numbers where sums are formed. A piece
is confirmed only by a run on a card; with --device emu the stand-ins are held to the definition
alone. Beside that, facts about the card are recorded which nothing relies on. Exits with 1 where
two disagree or something cannot run.
"""

from __future__ import annotations

import argparse
import datetime
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.device import get_device, to_host
from gpukit.emulator import compiler_problem
from gpukit.errors import GpukitError
from gpukit.launch.kernel import Kernel
from gpukit.race import on_card

SOURCE = Path(__file__).parent / "standins.cu"
_rng = np.random.default_rng(3)


@dataclass(frozen=True)
class Probe:
    """A kernel with its inputs; `expected` is the output by definition."""

    piece: str
    name: str
    needs: int
    inputs: tuple[np.ndarray, ...]
    expected: np.ndarray
    template: dict[str, Any]
    count: bool = False  # the last argument is the number of elements
    proves: int = 80  # older cards run it without the instruction

    def run(self, device: str) -> np.ndarray:
        """The output on `device`, which is NaN where nothing was written."""
        place = get_device(device)
        y = place.asarray(np.full_like(self.expected, _poison(self.expected.dtype)))
        arrays = [place.asarray(a) for a in self.inputs]
        last = (self.expected.size,) if self.count else ()
        kernel = Kernel(SOURCE, self.name, min_arch=self.needs)
        kernel.launch(1, 32, *arrays, y, *last, **self.template)
        place.synchronize()
        return to_host(y)


def _poison(dtype: np.dtype) -> Any:
    return np.nan if dtype.kind == "f" else np.iinfo(dtype).max


def _words(n: int) -> np.ndarray:
    return _rng.integers(0, 2**32, n, dtype=np.uint32)


def _copy(size: int) -> Probe:
    words = size // 4
    x = _words(32 * words).reshape(32, words)
    given = (np.arange(32) % (words + 1) * 4).astype(np.uint32)
    kept = np.arange(words) * 4 < given[:, None]
    expected = np.where(kept, x, 0).astype(np.uint32).reshape(-1)
    template = {"BYTES": size}
    return Probe("copy_async", "copy_bytes", 75, (x.reshape(-1), given), expected, template)


def _groups() -> Probe:
    x = _words(64)
    expected = np.concatenate([x[31::-1], x[:31:-1]])
    return Probe("copy_commit, copy_wait", "copy_groups", 75, (x,), expected, {})


def _matrices(transposed: bool) -> Probe:
    x = _rng.permutation(65536)[:256].astype(np.uint16).reshape(4, 8, 8)
    m = x.swapaxes(1, 2) if transposed else x
    lanes = np.arange(32)
    g, t = lanes // 4, lanes % 4
    low, high = m[:, g, 2 * t].astype(np.uint32), m[:, g, 2 * t + 1].astype(np.uint32)
    expected = np.ascontiguousarray((low | high << 16).T).reshape(-1)
    template = {"TRANSPOSED": transposed}
    inputs = (x.reshape(-1),)
    return Probe("load_matrix", "load_matrices", 75, inputs, expected, template, proves=75)


def tf32(x: np.ndarray) -> np.ndarray:
    """`x` rounded to 10 bits of mantissa, ties away from zero; NaN and infinities only cut."""
    bits = x.view(np.uint32)
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    rounded = np.where(special, bits, bits + np.uint32(0x1000))
    return (rounded & np.uint32(0xFFFFE000)).view(np.float32)


def bf16_bits(x: np.ndarray) -> np.ndarray:
    """Upper halves of float32; exact for numbers of at most 8 bits."""
    return (x.view(np.uint32) >> 16).astype(np.uint16)


def f16_bits(x: np.ndarray) -> np.ndarray:
    """The bits of `x` as half."""
    return x.astype(np.float16).view(np.uint16)


def _round() -> Probe:
    x = _rng.standard_normal(1024).astype(np.float32)
    ties = (x.view(np.uint32) & np.uint32(0xFFFFE000) | np.uint32(0x1000)).view(np.float32)
    numbers = [0.0, -0.0, np.inf, -np.inf, 65504.0, 1e38, -1e-37, 1e-40, 1.1e-38, 3.4028235e38]
    nan = [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF801FFF, 0x7F802000]
    edges = np.array(numbers, np.float32), np.array(nan, np.uint32).view(np.float32)
    x = np.concatenate([x, ties, *edges])
    return Probe("to_tf32", "round_tf32", 80, (x,), tf32(x), {}, count=True)


def _product(piece: str, name: str, depth: int, bits: Callable[..., Any], **template: Any) -> Probe:
    a, b, c = (
        _rng.integers(-8, 9, shape).astype(np.float32)
        for shape in ((16, depth), (depth, 8), (16, 8))
    )
    return Probe(piece, name, 80, (bits(a), bits(b), c), c + a @ b, template)


def _root() -> Probe:
    """What kernels lean on to the bit; how far others are off is a fact."""
    x = np.array([0.0, 1.0, np.inf], np.float32)
    expected = x[::-1].copy()
    return Probe("quick_rsqrt", "reciprocal_root", 75, (x,), expected, {}, count=True, proves=75)


def _same(x: np.ndarray) -> np.ndarray:
    return x


def probes() -> list[Probe]:
    """One or more for each piece."""
    return [
        *(_copy(size) for size in (4, 8, 16)),
        _groups(),
        *(_matrices(transposed) for transposed in (False, True)),
        _root(),
        _round(),
        _product("mma_tf32", "product_tf32", 8, _same),
        _product("mma_bf16", "product_16", 16, bf16_bits, BFLOAT=True),
        _product("mma_f16", "product_16", 16, f16_bits, BFLOAT=False),
    ]


def facts(device: str) -> dict[str, Any]:
    """What a device does where nothing in gpukit relies on either answer."""
    a, b = (_rng.standard_normal(s).astype(np.float32) for s in ((16, 8), (8, 8)))
    zeros = np.zeros((16, 8), np.float32)
    y = Probe("", "product_tf32", 80, (a, b, zeros), zeros, {}).run(device)
    cut = [(v.view(np.uint32) & np.uint32(0xFFFFE000)).view(np.float32) for v in (a, b)]
    candidates = {"cut": cut, "rounded": [tf32(a), tf32(b)], "whole": [a, b]}
    errors = {
        reading: float(np.abs(y - p.astype(np.float64) @ q).max())
        for reading, (p, q) in candidates.items()
    }
    x = np.exp2(_rng.uniform(-126, 127, 4096)).astype(np.float32)
    root = Probe("", "reciprocal_root", 75, (x,), x, {}, count=True).run(device)
    return {
        "quick_rsqrt relative error": float(np.abs(root * np.sqrt(x.astype(np.float64)) - 1).max()),
        "mma_tf32 of unrounded operands takes them": min(errors, key=lambda r: errors[r]),
        "mma_tf32 error by reading": errors,
    }


def _compared(probe: Probe, device: str) -> tuple[str, str]:
    """Whether the output on a device agrees, differs, or failed, and what is wrong with it."""
    label = f"{probe.name}{list(probe.template.values()) or ''} on {device}"
    try:
        got = probe.run(device)
    except GpukitError as error:
        return "failed", f"{label}: {error}"
    if got.tobytes() == probe.expected.tobytes():  # by bits, so that -0 is not 0
        return "agrees", ""
    wrong = int((got != probe.expected).sum())
    return "differs", f"{label} differs from the definition at {wrong} of {got.size}"


def confirm(device: str) -> dict[str, Any]:
    """The report: pieces with what agrees with what, and facts."""
    place = get_device(device)
    is_card = not place.in_host_memory
    missing = compiler_problem()
    arch = on_card.arch(place) if is_card else 0
    pieces: dict[str, dict[str, Any]] = {}
    for probe in probes():
        entry = pieces.setdefault(
            probe.piece, {"probes": 0, "emulator": "agrees", "card": "agrees", "problems": []}
        )
        entry["probes"] += 1
        needed = f"needs sm_{probe.proves}" if is_card else "no card"
        for side, where, absent in (
            ("emulator", "emu", missing),
            ("card", device, "" if arch >= probe.proves else f"not run: {needed}"),
        ):
            state, problem = (absent, "") if absent else _compared(probe, where)
            if state != "agrees":
                entry[side] = state
            entry["problems"] += [problem] if problem else []
    for entry in pieces.values():
        entry["confirmed"] = entry["card"] == entry["emulator"] == "agrees"
    found: dict[str, Any] = {}
    for side in [device] if missing else dict.fromkeys([device, "emu"]):
        try:
            found[side] = facts(side)
        except GpukitError as error:
            found[side] = str(error)
    return {
        "date": datetime.date.today().isoformat(),
        "device": device,
        "card": on_card.name(place) if is_card else None,
        "arch": arch or None,
        "pieces": pieces,
        "facts": found,
    }


def main() -> int:
    """Run, print a table, write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.confirm_standins")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or emu (cuda)")
    parser.add_argument("--json", type=Path, help="write the report to this file")
    options = parser.parse_args()
    try:
        report = confirm(options.device)
    except GpukitError as error:
        print(error, file=sys.stderr)
        return 2
    for name, entry in report["pieces"].items():
        print(f"{name:24} emulator {entry['emulator']:10} card {entry['card']}")
        for problem in entry["problems"]:
            print(f"    {problem}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 1 if any(entry["problems"] for entry in report["pieces"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())

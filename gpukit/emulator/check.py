"""Runs one launch in a worker process under a chosen checker.

The caller survives whatever the kernel does: a crash, a sanitizer's report, an endless loop.

| build | finds |
|---|---|
| plain | divergent barriers, deadlock, lanes missing from a mask, canaries overwritten |
| asan | overruns of shared and global memory; of inner dimensions, misaligned vectors (UBSan) |
| tsan | races: only barriers and __syncwarp order memory |
| trace | nothing, but counts memory accesses by line, see trace.py |
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.core.process import WorkerProcess
from gpukit.emulator.build import MODES, kernel_library, runtime_library, sanitizer_runtime
from gpukit.emulator.trace import Access, from_json
from gpukit.errors import SettingError
from gpukit.launch.kernel import Kernel

TIME_LIMIT = 60.0  # seconds
WORKER = "gpukit.emulator.worker"
ASAN_EXIT, TSAN_EXIT, FAULT_EXIT = 86, 66, 3


@dataclass(frozen=True)
class Report:
    """Result of a launch: `finding` is "", "fault", "asan", "ubsan", "tsan", "crash" or "timeout".

    `text` says what was found, `arrays` holds the array arguments after a launch without finding,
    `accesses` what it asked memory for in mode "trace".
    """

    finding: str
    text: str = ""
    arrays: list[np.ndarray] = field(default_factory=list)
    accesses: list[Access] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.finding


def environment(mode: str) -> dict[str, str]:
    """Variables for a Python process whose kernels on emu are built for `mode`."""
    if mode not in MODES:
        raise SettingError(f"emulator build {mode!r}: use {', '.join(MODES)}")
    variables = {"GPUKIT_EMU_BUILD": mode, "GPUKIT_EMU_CHECK": "1"}
    if mode in ("plain", "trace"):
        return variables
    variables["LD_PRELOAD"] = sanitizer_runtime(mode)
    # Instrumenting the threads of a BLAS library would be slow and useless.
    variables["OPENBLAS_NUM_THREADS"] = "1"
    if mode == "asan":
        variables["ASAN_OPTIONS"] = (
            f"detect_leaks=0:exitcode={ASAN_EXIT}:detect_stack_use_after_return=0"
        )
        variables["UBSAN_OPTIONS"] = f"print_stacktrace=1:exitcode={ASAN_EXIT}"
    else:
        variables["TSAN_OPTIONS"] = f"halt_on_error=1:exitcode={TSAN_EXIT}"
    return variables


def check(
    kernel: Kernel,
    grid: int | tuple[int, ...],
    block: int | tuple[int, ...],
    arguments: Sequence[Any],
    *,
    mode: str = "plain",
    shared: int = 0,
    seed: int = 1,
    time_limit: float = TIME_LIMIT,
    **template: Any,
) -> Report:
    """Launch `kernel` on emu:0 in a worker process; arrays among `arguments` are NumPy's."""
    bound = kernel.bind(**template)
    # Compile in this process, where no sanitizer slows the compiler down.
    runtime_library(mode)
    kernel_library(bound, mode)
    with tempfile.TemporaryDirectory(prefix="gpukit-check-") as name:
        folder = Path(name)
        values: list[Any] = []
        for i, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray):
                np.save(folder / f"{i}.npy", argument, allow_pickle=False)
                values.append({"array": i})
            else:
                values.append(argument.item() if isinstance(argument, np.generic) else argument)
        names = [t.name for t in bound.declaration.template]
        order = {
            "folder": name,
            "file": str(kernel.file),
            "name": kernel.name,
            "grid": grid,
            "block": block,
            "arguments": values,
            "shared": shared,
            "template": dict(zip(names, bound.instance.arguments)),
        }
        variables = {**environment(mode), "GPUKIT_EMU_SEED": str(seed)}
        with WorkerProcess(WORKER, order, variables=variables, limit=time_limit) as worker:
            replies = list(worker.replies())
            if worker.hung:
                text = f"kernel {bound.expression} ran for more than {time_limit:g} s"
                return Report("timeout", text)
            text = worker.text().strip()
            if worker.code:
                return Report(finding(worker.code, text), text)
        arrays = [read_array(folder / f"{v['array']}.npy") for v in values if isinstance(v, dict)]
        return Report("", "", arrays, from_json(replies[0]["accesses"]))


def read_array(path: Path) -> np.ndarray:
    """The array in a .npy file; one of Python objects is refused."""
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def finding(code: int, text: str) -> str:
    """The finding that the exit code and stderr of a checked process mean."""
    if "WARNING: ThreadSanitizer" in text:
        return "tsan"
    if "ERROR: AddressSanitizer" in text:
        return "asan"
    if ": runtime error: " in text:
        return "ubsan"
    return "fault" if code == FAULT_EXIT else "crash"

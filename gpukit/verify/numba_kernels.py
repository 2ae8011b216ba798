"""Checks of the Numba kernels: compiled to PTX for each architecture, run in Numba's simulator.

Neither needs a card. The simulator runs the launchers themselves, on NumPy arrays, a Python thread
a CUDA thread: some 50 µs each, so that cases are tiny. It must be chosen before Numba is imported
(NUMBA_ENABLE_CUDASIM=1), and so in a process of its own: worker.py, as for the emulator.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from gpukit.device import CPU
from gpukit.dispatch.dice import Case
from gpukit.launch.numba import FLOATS, NumbaKernel, compiler_problem
from gpukit.static.finding import Finding
from gpukit.verify import run_case
from gpukit.verify.cases import case
from gpukit.verify.coverage import Target

MOST_ELEMENTS = 200  # of all arrays of a case together
MOST_RESULTS = 600  # of a gradient by an input
TRIES = 10_000
STEP = 10**6  # between the numbers of cases that are tried; a multiple of 4, see Dice


def tiny_case(target: Target, seed: int, number: int) -> Case | None:
    """Case `number` for the simulator: the first of number, number + STEP, … that is small and
    that the target takes; None if none is."""
    for attempt in range(TRIES):
        made = case(target.primitive, seed, number + STEP * attempt)
        elements = sum(a.size for a in made.arrays if isinstance(a, np.ndarray))
        results = math.prod(made.settings.get("input_shape", ()))
        small = elements <= MOST_ELEMENTS and results <= MOST_RESULTS
        if small and target.implementation.takes(tuple(made.arrays), made.settings):
            return made
    return None


def run(target: Target, seed: int, number: int) -> str:
    """What is wrong with a tiny case in the simulator; empty if nothing is."""
    return run_case.run(target, seed, number, _simulated, tiny_case, f"{TRIES} small random cases")


def _simulated(target: Target, made: Case) -> str:
    return run_case.held(target, made, target.implementation.function, CPU)


def signatures(kernel: NumbaKernel, every: bool = True) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """(float type, Numba's types of the parameters) of each instance of a kernel.

    With `every` False, float32 and the first type of integer arrays only.
    """
    from numba import types

    wanted = [annotation for _, annotation in kernel.parameters]
    integers = next((w.integers for w in wanted if w != "int32" and w.integers), ("",))
    for float_type in FLOATS if every else FLOATS[:1]:
        for integer in integers if every else integers[:1]:

            def type_of(annotation: Any, one: str = float_type, other: str = integer) -> Any:
                if annotation == "int32":
                    return types.int32
                element = getattr(types, other if annotation.integers else one)
                return types.Array(element, annotation.ndim, "C")

            yield float_type, tuple(type_of(w) for w in wanted)


def compile_ptx(kernel: NumbaKernel, types: tuple[Any, ...], arch: int) -> str:
    """The PTX of one instance for sm_`arch`; needs numba-cuda and no card."""
    from numba import cuda

    ptx, _ = cuda.compile_ptx(kernel.function.py_func, types, cc=divmod(arch, 10))
    return ptx


def faults(ptx: str, float_type: str) -> list[str]:
    """What a kernel should not be compiled to: arithmetic in float64 for float32, local memory."""
    lines = [line.strip() for line in ptx.splitlines() if not line.lstrip().startswith("//")]
    found = []
    wide = [line for line in lines if re.search(r"\.f64\b", line)]
    if float_type == "float32" and wide:
        found.append(f"{len(wide)} instructions in float64, first `{wide[0]}`")
    local = [line for line in lines if re.search(r"\.local\b", line)]
    if local:
        found.append(f"local memory, first `{local[0]}`")
    return found


def kernels_of(targets: Sequence[Target]) -> tuple[NumbaKernel, ...]:
    """The Numba kernels that `targets` launch, each once."""
    kernels = {k for t in targets if not t.emulated for k in t.kernels}
    found = [k for k in kernels if isinstance(k, NumbaKernel)]
    return tuple(sorted(found, key=lambda k: (k.file, k.name)))


def compile_all(
    kernels: Sequence[NumbaKernel],
    architectures: Sequence[int],
    step: Callable[[int, str], None] = lambda steps, what: None,
) -> list[Finding]:
    """Compile every instance of `kernels` for all of `architectures`; what is wrong with them.

    float64, and other integer types than the first, for the first architecture only: what Numba
    makes of types does not depend on the card.
    """
    if not kernels:
        return []
    if compiler_problem():
        return [_finding("kernels/*.py", compiler_problem())]
    found = []
    for kernel in kernels:
        for arch in architectures:
            name = f"{kernel.path}:{kernel.name}"
            for float_type, types in signatures(kernel, every=arch == architectures[0]):
                try:
                    texts = faults(compile_ptx(kernel, types, arch), float_type)
                except Exception as error:  # Numba's errors have many types
                    texts = [f"{type(error).__name__}: {error}"]
                instance = f"{', '.join(str(t) for t in types)} on sm_{arch}"
                found += [_finding(name, f"({instance}) {text}") for text in texts]
            step(1, f"compile {name} sm_{arch}")
    return found


def _finding(target: str, text: str) -> Finding:
    return Finding("compile", target, text, "gpukit kernels check --all --fuzz 0")

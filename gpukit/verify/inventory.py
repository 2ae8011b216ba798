"""The rows of `kernels list`: each CUDA implementation with its resources and verified facts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from gpukit.launch.kernel import DTYPES, Kernel
from gpukit.launch.numba import FLOATS
from gpukit.plugins import owner
from gpukit.static import budgets
from gpukit.verify import verified
from gpukit.verify.coverage import Target
from gpukit.verify.verified import Facts


@dataclass(frozen=True)
class ListedKernel:
    """One implementation: the backends that run it, its kernels' dtypes, and what is known.

    `registers` are the most of a thread, `spills` the most spilled bytes (stored and loaded) of a
    kernel, by architecture and as committed in budgets.json; none where there is no budget.
    """

    target: Target
    backends: tuple[str, ...]
    dtypes: tuple[str, ...]
    facts: Facts
    registers: dict[int, int]
    spills: dict[int, int]


def listed(target: Target) -> ListedKernel:
    """What is known of `target`."""
    backends = ("cuda", "emu") if target.emulated else ("cuda",)
    if not target.emulated:
        return ListedKernel(target, backends, FLOATS, verified.known(target), {}, {})
    registers: dict[int, int] = {}
    spills: dict[int, int] = {}
    dtypes: list[str] = []
    complete = True
    for kernel in target.kernels:
        assert isinstance(kernel, Kernel)
        dtypes += _dtypes(kernel)
        figures = _figures(kernel)
        complete = complete and bool(figures)
        for arch, taken in figures:
            spilled = taken["spill_stores"] + taken["spill_loads"]
            registers[arch] = max(registers.get(arch, 0), taken["registers"])
            spills[arch] = max(spills.get(arch, 0), spilled)
    if not complete:
        registers, spills = {}, {}
    known = Facts() if owner(target.implementation) else verified.known(target)
    return ListedKernel(target, backends, tuple(dict.fromkeys(dtypes)), known, registers, spills)


def _figures(kernel: Kernel) -> list[tuple[int, dict[str, int]]]:
    """(architecture, what it takes) of every instance of `kernel` that has a budget."""
    return [
        (int(arch), dict(zip(budgets.FIELDS, figures)))
        for name, by_arch in _budgets().get(str(kernel.file), {}).items()
        if name.partition("<")[0] == kernel.name
        for arch, figures in by_arch.items()
    ]


def _dtypes(kernel: Kernel) -> list[str]:
    """What stands for the type of a kernel's elements, of those that are built and checked.

    It is the first type among template parameters that is no index's (I). Kernels that only move
    elements are built for unsigned words, which stand for all of that size.
    """
    parameters = kernel.declaration.template
    places = [i for i, t in enumerate(parameters) if t.kind == "typename" and t.name != "I"]
    found = []
    for instance in kernel.source.instances:
        if instance.kernel != kernel.name or not places:
            continue
        dtype = DTYPES.get(instance.arguments[places[0]])
        if dtype is not None:
            words = dtype.kind == "u"
            found.append(f"{dtype.itemsize}-byte words" if words else dtype.name)
    return found


@cache
def _budgets() -> budgets.Budgets:
    return budgets.read().of(budgets.VERSIONS[0])

"""gpukit's own kernels as the subject of a check: CUDA C held to budgets, and Numba's kernels."""

from __future__ import annotations

from collections.abc import Sequence

from gpukit.errors import GpukitError
from gpukit.launch.numba import card_problem, problem
from gpukit.static import budgets
from gpukit.verify import numba_kernels
from gpukit.verify.check import Outcome, Step, Subject, known_architectures
from gpukit.verify.coverage import targets
from gpukit.verify.fuzz import CARD, ONE_IN, SIMULATOR


class OwnKernels(Subject):
    """The kernels that `name` means (None: all), without those of Numba if it is not installed.

    Raises GpukitError if nothing else is meant. `modes` are those in which cases are to run: on a
    card alone, Numba needs its compiler and the driver, else its simulator.
    """

    modes = tuple(ONE_IN)

    def __init__(self, name: str | None, modes: Sequence[str] = ()) -> None:
        named = targets(name)
        absent = card_problem() if set(modes) == {CARD} else problem()
        self.own = tuple(t for t in named if not (t.simulated and absent))
        if not self.own:
            raise GpukitError(f"{name}: {absent}")
        self.label = f"{len(self.own)} kernel{'s' * (len(self.own) != 1)}"
        self.targets = tuple(str(target) for target in self.own)
        if len(self.own) < len(named):
            self.left_out = (f"Numba's kernels: {absent}",)
        self._all = name is None
        files = {file for t in self.own if t.emulated for file in t.files}
        self._files = budgets.all_files() if self._all else sorted(files)
        self._numba = numba_kernels.kernels_of(self.own)
        self.sources = len(self._files) + len(self._numba)

    def for_mode(self, mode: str) -> list[str]:
        """Everything on a card, Numba's kernels in its simulator, others on emu.

        Numba's kernels run on a card only where Numba finds its compiler and the driver.
        """
        if mode == CARD:
            return [str(t) for t in self.own if not (t.simulated and card_problem())]
        return [str(t) for t in self.own if (t.simulated if mode == SIMULATOR else t.emulated)]

    def compile(self, architectures: Sequence[int], step: Step) -> Outcome:
        """Findings are errors, warnings, and resources that differ from the budget."""
        taken, found = budgets.measure(self._files, architectures, step)
        found += budgets.compare(taken, budgets.read(), budgets.version())
        found += numba_kernels.compile_all(self._numba, architectures, step)
        return Outcome(self.targets, self.sources * len(architectures), found)

    def update_budgets(self, architectures: Sequence[int], step: Step) -> Outcome:
        """Write what NVRTC reports as the budget, unless it finds errors or warnings."""
        wanted = known_architectures(architectures)
        taken, found = budgets.measure(self._files, wanted, step)
        if not found:
            whole = self._all and not architectures
            budgets.write(budgets.merge(budgets.read(), taken, budgets.version(), whole))
        return Outcome(self.targets, len(self._files) * len(wanted), found)

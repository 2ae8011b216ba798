"""`gpukit kernels`: which there are, and whether they are good."""

from __future__ import annotations

import json
import sys
from types import TracebackType

import click

MODES = ("plain", "asan", "tsan", "simulator")
MOST_SHOWN = 30  # findings; more of them have one cause


@click.group()
def kernels() -> None:
    """List and check the kernels behind the primitives."""


@kernels.command(name="list")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def list_kernels(as_json: bool) -> None:
    """List every primitive with its implementations, the default first.

    Where there is none, the definition in NumPy runs, on cards too.
    """
    from gpukit.backends.numba_cuda.launch import problem
    from gpukit.backends.primitive import REFERENCE
    from gpukit.kernel_checks.coverage import KINDS, implementations, primitives

    found = {name: implementations(name) for name in primitives()}
    if as_json:
        entries = [{"name": name, **ways} for name, ways in found.items()]
        click.echo(json.dumps({"primitives": entries}))
        return
    rows: list[tuple[str, ...]] = [("primitive", *KINDS)]
    for name, ways in found.items():
        rows.append((name, *(", ".join(ways[kind]) or f"({REFERENCE})" for kind in KINDS)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths)).rstrip())
    missing = [name for name, ways in found.items() if not ways["cuda"]]
    click.echo(
        f"\n{len(found) - len(missing)} of {len(found)} have a CUDA kernel; "
        f"({REFERENCE}) means that the definition runs on the device's arrays"
    )
    if problem():
        click.echo(f"numba, numba_im2col: {problem()}")


@kernels.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every kernel.")
@click.option(
    "--arch", "architectures", type=int, multiple=True, metavar="SM",
    help="Compile for this card only, as 80; may be repeated. Default: all.",
)  # fmt: skip
@click.option(
    "--fuzz", "cases", type=click.IntRange(0), default=20, show_default=True, metavar="N",
    help="Random cases a kernel; a tenth under ASan, a hundredth under TSan, a 20th simulated.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the cases.")
@click.option("--case", "only", type=click.IntRange(0), help="This case alone, nothing compiled.")
@click.option(
    "--mode", "modes", type=click.Choice(MODES), multiple=True,
    help="This build of the emulator, or Numba's simulator, only; may be repeated. Default: all.",
)  # fmt: skip
@click.option("--update-budgets", is_flag=True, help="Write what compilers report as the budget.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
@click.pass_context
def check(
    context: click.Context,
    name: str | None,
    everything: bool,
    architectures: tuple[int, ...],
    cases: int,
    seed: int,
    only: int | None,
    modes: tuple[str, ...],
    update_budgets: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check the kernels of NAME (conv2d, or conv2d:direct), or --all of them. Needs no GPU.

    \b
    gpukit kernels check conv2d:direct --fuzz 200
    gpukit kernels check --all --arch 80 --arch 90

    Compiles them for every architecture and compares registers, spills and shared memory with the
    budget; runs them on the CPU on random arguments, against the primitive's definition; and again
    under AddressSanitizer, UBSan and ThreadSanitizer. Numba's kernels (relu:numba) are compiled to
    PTX and run in Numba's simulator, on a twentieth as many arguments. Each failure ends with the
    command that shows it again. Exit code 0 if everything holds, else 1.
    """
    from dataclasses import asdict

    from gpukit.errors import SettingError
    from gpukit.kernel_checks.check import plan, run

    if (name is None) != everything:
        raise SettingError("give the name of a primitive (see gpukit kernels list), or --all")
    wanted = plan(
        None if everything else name,
        architectures=architectures,
        modes=modes,
        cases=cases,
        seed=seed,
        only=only,
    )
    with _Bar(wanted.steps, quiet) as bar:
        outcome = run(wanted, update=update_budgets, step=bar.step)
    for finding in outcome.findings[:MOST_SHOWN]:
        click.echo(f"{finding.check} {finding.target}: {finding.text}\n  again: {finding.again}")
    if len(outcome.findings) > MOST_SHOWN:
        click.echo(f"… and {len(outcome.findings) - MOST_SHOWN} more; --json has them all")
    ran = ", ".join(f"{count} {mode}" for mode, count in outcome.cases.items())
    if wanted.left_out:
        click.echo(f"not checked: {wanted.left_out}")
    verdict = "all hold" if outcome.ok else f"{len(outcome.findings)} FAILED"
    click.echo(
        f"{len(wanted.targets)} kernels: {outcome.compiled} compilations, cases run: {ran}; "
        f"{verdict}"
    )
    if as_json:
        click.echo(
            json.dumps(
                {
                    "ok": outcome.ok,
                    "targets": [str(target) for target in wanted.targets],
                    "compilations": outcome.compiled,
                    "cases": outcome.cases,
                    "seed": seed,
                    "findings": [asdict(finding) for finding in outcome.findings],
                    "left_out": wanted.left_out,
                }
            )
        )
    context.exit(0 if outcome.ok else 1)


class _Bar:
    """Progress on stderr, with the time that is left; nothing where that is no terminal."""

    def __init__(self, steps: int, quiet: bool) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            transient=True,
            disable=quiet or not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=steps)

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, steps: int, what: str) -> None:
        """`steps` more are done; `what` comes now."""
        self._progress.update(self._task, advance=steps, description=what)

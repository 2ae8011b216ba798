"""`gpukit kernels`: which there are, and whether they are good."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpukit.cli.bar import Bar
from gpukit.cli.kernels_list import list_kernels
from gpukit.cli.kernels_show import printed_by, show
from gpukit.cli.paths import PATH
from gpukit.cli.table import print_table

if TYPE_CHECKING:
    from gpukit.static.finding import Finding
    from gpukit.verify.check import Outcome, Plan
    from gpukit.verify.coverage import Target
    from gpukit.verify.occupancy_report import OccupancyReport

MODES = ("plain", "asan", "tsan", "simulator", "cheats", "card")
MOST_SHOWN = 30  # findings; more of them have one cause


@click.group()
def kernels() -> None:
    """List, show and check the kernels behind the primitives."""


kernels.add_command(list_kernels)
kernels.add_command(show)


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
    help="Run them only so, and compile nothing unless --arch says for what; may be repeated.",
)  # fmt: skip
@click.option(
    "--time-limit", type=click.FloatRange(0, min_open=True), default=60.0, show_default=True,
    metavar="S", help="Seconds for a plug-in to be loaded, for a compilation of it, for a case.",
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
    time_limit: float,
    update_budgets: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Check the kernels of NAME (conv2d, or conv2d:direct), a plug-in FILE.py, or --all of ours.

    \b
    gpukit kernels check conv2d:direct --fuzz 200
    gpukit kernels check --all --arch 80 --arch 90
    gpukit kernels check mine.py

    Compiles them for every architecture and compares registers, spills and shared memory with the
    budget; runs them on the CPU on random arguments, against the primitive's definition; again
    under AddressSanitizer, UBSan and ThreadSanitizer; and tries them for cheats. Numba's kernels
    (relu:numba) are compiled to PTX and run in Numba's simulator, on a twentieth as many arguments.
    Where there is a card, all of them run on it, too.
    A plug-in has no budget; arguments are drawn inside its limits, and it is only ever loaded in
    other processes. Each failure ends with the command that shows it again. Exit code 0 if
    everything holds, 1 if not, 2 for a plug-in that cannot be loaded.
    """
    from gpukit.errors import SettingError

    if update_budgets and (modes or only is not None):
        raise SettingError("budgets are what compilers report; leave --mode and --case out")
    if (name is None) != everything:
        raise SettingError(
            "give the name of a primitive (see gpukit kernels list), a plug-in FILE.py, or --all"
        )
    if name is not None and _is_plugin(name):
        if update_budgets:
            raise SettingError("a plug-in has no budget; leave --update-budgets out")
        ok = _check_plugin(
            name, architectures, modes, cases, seed, only, time_limit, quiet, as_json
        )
        context.exit(0 if ok else 1)
    from gpukit.verify import occupancy_report
    from gpukit.verify.check import plan, run
    from gpukit.verify.plugins import misnamed

    if name and (meant := misnamed(name, "check")):
        raise SettingError(meant)

    wanted = plan(
        None if everything else name,
        architectures=architectures,
        modes=modes,
        cases=cases,
        seed=seed,
        only=only,
    )
    with Bar(wanted.steps, quiet, counted=True) as bar:
        shown: list[Finding] = []

        def tell(finding: Finding) -> None:
            shown.append(finding)
            if len(shown) <= MOST_SHOWN:
                bar.say(_line(finding))

        outcome = run(wanted, update=update_budgets, step=bar.step, tell=tell)
    _say_how_many_more(outcome.findings)
    _show_occupancy(outcome.occupancy)
    for line in _not_checked(wanted, outcome):
        click.echo(f"not checked: {line}")
    click.echo(
        f"{_count(wanted.targets)}: {outcome.compiled} compilations, cases run: "
        f"{_counts(outcome.cases)}; {_verdict(outcome.findings)}"
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
                    "launches": [occupancy_report.as_json(one) for one in outcome.occupancy],
                    "left_out": wanted.left_out,
                }
            )
        )
    context.exit(0 if outcome.ok else 1)


@kernels.command()
@click.argument("name")
@click.option(
    "--primitive", required=True, metavar="NAME", help="What it computes, as conv2d or relu."
)
@click.option(
    "--out", type=PATH, default=Path(), metavar="DIR",
    help="Where the files go. [default: here]",
)  # fmt: skip
def new(name: str, primitive: str, out: Path) -> None:
    """Write a plug-in to start from: NAME.cu, NAME.py and test_NAME.py.

    \b
    gpukit kernels new mine --primitive conv2d
    gpukit kernels check mine.py

    Its kernel is right, and as slow as it is short; its test holds it to the definition.
    """
    from gpukit.scaffold.new import write

    files = write(name, primitive, out)
    for file in files:
        click.echo(file)
    click.echo(f"check it: gpukit kernels check {shlex.quote(str(files[1]))}")


def _is_plugin(name: str) -> bool:
    """Whether NAME is a plug-in's file, or the name that an installed one goes by."""
    from gpukit.plugins import entries

    return name.endswith((".py", ".cu")) or any(e.name == name for e in entries())


def _check_plugin(
    name: str,
    architectures: tuple[int, ...],
    modes: tuple[str, ...],
    cases: int,
    seed: int,
    only: int | None,
    limit: float,
    quiet: bool,
    as_json: bool,
) -> bool:
    from gpukit.errors import SettingError
    from gpukit.launch.nvrtc import ARCHITECTURES
    from gpukit.verify import occupancy_report
    from gpukit.verify.plugins import check_plugin

    if name.endswith(".cu"):
        raise SettingError(f"{name}: give the plug-in's Python file, which says how it is launched")
    steps = len(architectures or ARCHITECTURES) + cases
    with printed_by(name) as heard, Bar(steps, quiet, counted=True) as bar:
        outcome = check_plugin(
            name,
            architectures=architectures,
            modes=modes,
            cases=cases,
            seed=seed,
            only=only,
            limit=limit,
            step=bar.step,
            heard=heard,
        )
    _show(outcome.findings)
    look = outcome.look
    for kernel, taken in look.taken.items():
        by_text: dict[str, list[str]] = {}
        for arch, text in taken.items():
            by_text.setdefault(text, []).append(f"sm_{arch}")
        for text, where in by_text.items():
            click.echo(f"{kernel}: {text} on {', '.join(where)}")
    _show_occupancy(outcome.occupancy)
    for what in (*look.left_out, *outcome.not_seen):
        click.echo(f"not checked: {what}")
    click.echo(
        f"{', '.join(look.targets)}: {look.compiled} compilations, cases run: "
        f"{_counts(outcome.cases)}; {_verdict(outcome.findings)}"
    )
    if as_json:
        content = {
            "ok": outcome.ok,
            "targets": look.targets,
            "compilations": look.compiled,
            "cases": outcome.cases,
            "seed": seed,
            "findings": [asdict(finding) for finding in outcome.findings],
            "resources": look.taken,
            "launches": [occupancy_report.as_json(one) for one in outcome.occupancy],
            "not_seen": outcome.not_seen,
        }
        click.echo(json.dumps(content))
    return outcome.ok


def _show(findings: list[Finding]) -> None:
    for finding in findings[:MOST_SHOWN]:
        click.echo(_line(finding))
    _say_how_many_more(findings)


def _line(finding: Finding) -> str:
    return f"{finding.check} {finding.target}: {finding.text}\n  again: {finding.again}"


def _say_how_many_more(findings: list[Finding]) -> None:
    if len(findings) > MOST_SHOWN:
        click.echo(f"… and {len(findings) - MOST_SHOWN} more; --json has them all")


def _show_occupancy(found: list[OccupancyReport]) -> None:
    from gpukit.verify.occupancy_report import table

    if found:
        print_table(table(found))


def _not_checked(wanted: Plan, outcome: Outcome) -> list[str]:
    from gpukit.verify import card
    from gpukit.verify.fuzz import CHEATS

    unseen = card.not_seen() if wanted.cases and CHEATS in wanted.modes else ()
    return [line for line in (wanted.left_out, outcome.not_seen, *unseen) if line]


def _count(targets: tuple[Target, ...]) -> str:
    return f"{len(targets)} kernel{'s' * (len(targets) != 1)}"


def _counts(cases: dict[str, int]) -> str:
    return ", ".join(f"{count} {mode}" for mode, count in cases.items()) or "none"


def _verdict(findings: list[Finding]) -> str:
    return f"{len(findings)} FAILED" if findings else "all hold"

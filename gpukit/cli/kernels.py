"""`gpukit kernels`: lists, shows and checks the kernels behind primitives, and writes new ones."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gpukit.cli import kernel_reports as reports
from gpukit.cli.bar import Bar
from gpukit.cli.paths import PATH

if TYPE_CHECKING:
    from gpukit.core.process import Heard
    from gpukit.static.finding import Finding
    from gpukit.verify.check import Subject

MODES = ("plain", "asan", "tsan", "simulator", "cheats", "card")
ALEXNET = "alexnet"  # of `kernels show`; no primitive is called so


@click.group()
def kernels() -> None:
    """List, show and check the kernels behind the primitives."""


@kernels.command(name="list")
@click.option("--kernel", "plugins", multiple=True, metavar="FILE.py", help="With this plug-in.")
@click.option(
    "--registers", is_flag=True, help="Show what threads take on every card, not what is proven."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def list_kernels(plugins: tuple[str, ...], registers: bool, as_json: bool) -> None:
    """List every primitive with its implementations, the default first.

    Where there is none, the definition in NumPy runs, on cards too. Beside each kernel for cards:
    the dtypes it is built for, and what `kernels check` has shown of it on this machine, if its
    text is still the same: for how many architectures it compiles, and how many random cases held
    on emu, under sanitizers, in Numba's simulator, on a card. Plug-ins, those of --kernel and those
    that installed packages offer, come last, with their origin.
    """
    from gpukit.launch.numba import problem
    from gpukit.plugins import entries, load_kernel
    from gpukit.verify.coverage import Target, implementations, primitives
    from gpukit.verify.inventory import listed

    loaded = [load_kernel(path) for path in plugins]
    found = {name: implementations(name) for name in primitives()}
    items = {
        name: [listed(Target(name, algo)) for algo in algos["cuda"]]
        for name, algos in found.items()
    }
    if as_json:
        content = {
            "primitives": [
                {"name": name, **algos, "kernels": [reports.kernel_as_json(i) for i in items[name]]}
                for name, algos in found.items()
            ],
            "plugins": [{"origin": plugin.origin, "names": plugin.names} for plugin in loaded],
            "offered": [asdict(entry) for entry in entries()],
        }
        click.echo(json.dumps(content))
        return
    every = [i for row in items.values() for i in row]
    if registers:
        reports.print_registers(every)
        return
    reports.print_inventory(found, items)
    if not any(i.facts.cases for i in every):
        click.echo("nothing was checked on this machine yet: gpukit kernels check --all")
    if problem():
        click.echo(f"numba, numba_im2col: {problem()}")
    for plugin in loaded:
        for line in reports.registered_by(plugin):
            click.echo(line)
    for entry in entries():
        click.echo(f"{entry.name}: offered by {entry.package} ({entry.module}), not loaded yet")


@kernels.command()
@click.argument("name")
@click.option(
    "--arch", "architectures", type=int, multiple=True, metavar="SM",
    help="This card only, as 80; may be repeated. Default: all.",
)  # fmt: skip
@click.option(
    "--dtype", type=click.Choice(["float32", "float64"]), default="float32", show_default=True,
    help="Of the arrays.",
)  # fmt: skip
@click.option(
    "--blocks", type=click.IntRange(1), default=4, show_default=True, metavar="N",
    help="How many blocks of a launch are traced, from the middle of its grid.",
)  # fmt: skip
@click.option(
    "--lines", type=click.IntRange(0), default=12, show_default=True, metavar="N",
    help="How many lines of a kernel are shown, those that waste most before others.",
)  # fmt: skip
@click.option(
    "--multiprocessors", type=click.IntRange(1), default=132, show_default=True, metavar="N",
    help="Of the card that `show alexnet` counts for.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show(
    name: str,
    architectures: tuple[int, ...],
    dtype: str,
    blocks: int,
    lines: int,
    multiprocessors: int,
    as_json: bool,
) -> None:
    """Show what the kernels of NAME (conv2d:direct, or a plug-in FILE.py) take, without a GPU.

    \b
    gpukit kernels show conv2d:direct --arch 80 --arch 90
    gpukit kernels show mine.py --arch 90
    gpukit kernels show alexnet --arch 90 --multiprocessors 132

    A usual call of the primitive is run on emu: which kernels it launches, with which blocks. For
    each card: registers, spilled bytes, shared memory, how many blocks an SM holds and what limits
    them, and the instructions of the hot loop. For each source line: how many 32-byte sectors a
    warp's request to global memory takes, and how many ways of bank conflicts one to shared memory
    has, beside the best that the same bytes could have.

    For `alexnet`: which kernels the layers of a training step launch, with which tiles, and how
    evenly their blocks fill a card (sm_90, unless --arch says another).
    """
    from gpukit.errors import GpukitError, SettingError
    from gpukit.verify.check import known_architectures
    from gpukit.verify.coverage import targets
    from gpukit.verify.kernel_report import kernel_reports
    from gpukit.verify.launches import launches
    from gpukit.verify.plugins import misnamed

    wanted = known_architectures(architectures)
    if name == ALEXNET:
        from gpukit.race.alexnet import filled

        if len(architectures) > 1:
            raise SettingError("show alexnet counts for one card: use one --arch")
        arch = architectures[0] if architectures else 90
        rows = filled(arch, multiprocessors)
        if as_json:
            click.echo(json.dumps({"launches": [reports.alexnet_as_json(row) for row in rows]}))
        else:
            reports.print_alexnet(rows, arch, multiprocessors)
        return
    if meant := misnamed(name, "show"):
        raise SettingError(meant)
    if name.endswith(".py"):
        with reports.printed_by(name) as heard:
            found = launches([], [name], blocks, dtype, heard)
    elif any(target.emulated for target in targets(name)):
        found = launches([name], blocks=blocks, dtype=dtype)
    else:
        raise SettingError(f"{name} is written with Numba, which emu does not run")
    if not found:
        raise GpukitError(f"{name} launches no kernel")
    made = kernel_reports(found, wanted)
    if as_json:
        click.echo(json.dumps({"launches": [report.with_accesses() for report in made]}))
        return
    for report in made:
        reports.print_launch(report, lines)


@kernels.command()
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="All of gpukit's kernels.")
@click.option(
    "--arch", "architectures", type=int, multiple=True, metavar="SM",
    help="Compile for this architecture only, as 80; may be repeated. Default: all.",
)  # fmt: skip
@click.option(
    "--fuzz", "cases", type=click.IntRange(0), default=20, show_default=True, metavar="N",
    help="Random cases a kernel; a tenth under ASan, a hundredth under TSan, a 20th simulated.",
)  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the cases.")
@click.option("--case", "only", type=click.IntRange(0), help="This case alone, nothing compiled.")
@click.option(
    "--mode", "modes", type=click.Choice(MODES), multiple=True,
    help="Run cases in this mode only, and compile only for --arch; may be repeated.",
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
    """Check the kernels of NAME (conv2d, or conv2d:direct), of a plug-in FILE.py, or --all.

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
    from gpukit.verify.check import checks, run
    from gpukit.verify.own_kernels import OwnKernels

    with reports.printed_by(name or "") as heard:
        subject = _subject(name, modes, time_limit, heard)
        wanted = checks(
            subject, architectures=architectures, modes=modes, cases=cases, seed=seed, only=only
        )
        with Bar(wanted.steps, quiet, counted=True) as bar:
            shown: list[Finding] = []

            def tell(finding: Finding) -> None:
                shown.append(finding)
                if len(shown) <= reports.MOST_SHOWN:
                    bar.say(reports.line_of(finding))

            if not update_budgets:
                outcome = run(wanted, step=bar.step, tell=tell)
            elif isinstance(subject, OwnKernels):
                outcome = subject.update_budgets(architectures, bar.step)
            else:
                raise SettingError("a plug-in has no budget; leave --update-budgets out")
    reports.print_outcome(outcome, subject.label)
    if as_json:
        click.echo(reports.outcome_as_json(outcome, seed))
    context.exit(0 if outcome.ok else 1)


def _subject(name: str | None, modes: tuple[str, ...], limit: float, heard: Heard) -> Subject:
    """gpukit's kernels, or a plug-in: its file, or the name that an installed one goes by."""
    from gpukit.errors import SettingError
    from gpukit.plugins import entries
    from gpukit.verify.own_kernels import OwnKernels
    from gpukit.verify.plugins import PluginFile, misnamed

    if name is None:
        return OwnKernels(None, modes)
    if name.endswith(".cu"):
        raise SettingError(f"{name}: give the plug-in's Python file, which says how it is launched")
    if name.endswith(".py") or any(entry.name == name for entry in entries()):
        return PluginFile(name, limit, heard)
    if meant := misnamed(name, "check"):
        raise SettingError(meant)
    return OwnKernels(name, modes)


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

"""`gpukit race`: implementations of primitives and rivals, proven, then timed in turns."""

from __future__ import annotations

import faulthandler
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gpukit.cli.bar import Bar

if TYPE_CHECKING:
    from gpukit.device import Device
    from gpukit.dispatch.declaration import Problem
    from gpukit.race.contest import Outcome, Race

PASSES = ("forward", "input", "weight", "all")
RIVALS = ("torch", "torch-compiled")
SUITES = ("alexnet", "vgg16", "resnet50", "lenet5", "mobilenet", "all")


@click.command()
@click.argument("primitives", nargs=-1, metavar="PRIMITIVE")
@click.option(
    "--suite", "suite_name", type=click.Choice(SUITES),
    help="All passes of this network's layers, or of all networks; of PRIMITIVE only, if named.",
)  # fmt: skip
@click.option(
    "--layers", metavar="NAME|SIZES",
    help=f"{', '.join(SUITES[:-1])}, or sizes, for conv2d N,H,W,C,K,R,S,stride,pad,groups.",
)  # fmt: skip
@click.option(
    "--batch", type=click.IntRange(1), metavar="N",
    help="Images in a network's layers.  [default: 8 on cpu, 32 on a card]",
)  # fmt: skip
@click.option(
    "--pass",
    "chosen",
    type=click.Choice(PASSES),
    help="Default: forward; of a suite, all.",
)
@click.option(
    "--kernel", "kernels", multiple=True, metavar="FILE",
    help="A plug-in that takes part; may be repeated.",
)  # fmt: skip
@click.option(
    "--algo", "algos", multiple=True, metavar="NAME",
    help="This implementation, beside the default; may be repeated. Default: all, of a suite none.",
)  # fmt: skip
@click.option(
    "--rivals", multiple=True, type=click.Choice(RIVALS),
    help="PyTorch, if it is installed. Default: none, of a suite torch.",
)  # fmt: skip
@click.option(
    "--seconds", type=click.FloatRange(0), default=math.inf, metavar="N",
    help="Begin no layer after that time.",
)  # fmt: skip
@click.option("--device", help="cpu or a card.  [default: a card where there is one]")
@click.option("--out", type=click.Path(dir_okay=False), metavar="FILE.png", help="Draw the rows.")
@click.option("--quiet", is_flag=True, help="No progress.")
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on stdout.")
@click.pass_context
def race(
    context: click.Context,
    primitives: tuple[str, ...],
    suite_name: str | None,
    layers: str | None,
    batch: int | None,
    chosen: str | None,
    kernels: tuple[str, ...],
    algos: tuple[str, ...],
    rivals: tuple[str, ...],
    seconds: float,
    device: str | None,
    out: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Race implementations of primitives and their rivals.

    \b
    gpukit race conv2d --layers alexnet --pass all --rivals torch
    gpukit race conv2d --layers 32,56,56,64,64,3,3,1,1,1 --kernel mine.py --json
    gpukit race softmax --layers 128,1000
    gpukit race --suite alexnet
    gpukit race conv2d dense --suite all --json

    PRIMITIVE is conv2d, max_pool2d, softmax …
    Each is first held to the definition in float64; only what is right is timed, in turns. A
    result that is wrong, or faster than this device can be, is refused: exit code 1.
    """
    from gpukit.device import default_device, get_device
    from gpukit.race.ceilings import side
    from gpukit.race.report import as_dict

    if out is not None:
        _check_writable(Path(out))
    _name_crashes()
    place = get_device(device) if device else default_device()
    usual = side(place).BATCH
    problems = _problems(suite_name, primitives, chosen, layers, batch, usual)
    _load(kernels, [p.primitive for p in problems], place)
    chosen_algos: Sequence[str] | None = algos or None
    if suite_name is not None:
        chosen_algos, rivals = algos, rivals or RIVALS[:1]
    outcome, about = hold(problems, place, chosen_algos, rivals, seconds, quiet)
    if as_json:
        click.echo(json.dumps(as_dict(outcome, about)))
    if out is not None and outcome.rows:  # last: a picture that fails costs no figures
        from gpukit.race.picture import save_rows

        save_rows(Path(out), outcome.rows, about)
        click.echo(f"drawn to {out}", err=True)
    context.exit(0 if outcome.ok else 1)


def hold(
    problems: Sequence[Problem],
    place: Device,
    algos: Sequence[str] | None,
    rivals: Sequence[str],
    seconds: float = math.inf,
    quiet: bool = False,
) -> tuple[Outcome, dict[str, Any]]:
    """Hold a race and print its table; what came of it, and the machine and the rivals.

    `algos` None: every implementation. An interruption prints what was timed until then.
    """
    from gpukit.errors import SettingError
    from gpukit.race import memory, report
    from gpukit.race.ceilings import ceilings, side
    from gpukit.race.contest import Outcome, Race, run, work

    memory.check(problems, place, len(set(rivals)))
    console = report.console()
    with ExitStack() as closing:
        planned = Race(problems, place, side(place).clock(place), algos, seconds=seconds)
        networks = ", ".join(dict.fromkeys(p.network for p in problems))
        about = report.machine(place) | {"network": networks}
        first = ceilings(place)
        outcome = Outcome(first)
        about["rivals"] = _meet(planned, rivals, outcome, closing)
        try:
            report.say(console, report.title(problems, place))
            report.say(console, report.headline(about, first))
            with Bar(work(planned, outcome.ceilings), quiet, counted=False) as bar:
                run(planned, outcome, bar.step)
        except KeyboardInterrupt:
            report.show(outcome, console)
            if outcome.now:
                report.say(console, f"it was the turn of {outcome.now}")
            raise
        except MemoryError as error:
            raise SettingError(
                f"there is not enough memory for {outcome.now or 'the arguments'}; use smaller "
                f"--layers or a smaller --batch ({error or 'MemoryError'})"
            ) from None
    report.show(outcome, console)
    if outcome.ceilings != first:
        report.say(console, f"measured again: {report.headline(about, outcome.ceilings)}")
    return outcome, about


def _check_writable(path: Path) -> None:
    """Raise SettingError where no file can be written: before the race, not after it."""
    from gpukit.errors import SettingError

    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise SettingError(
            f"--out {path} cannot be written ({error.strerror or error}); use another folder"
        ) from None


def _name_crashes() -> None:
    """Where an entrant crashes the process, Python says in which line of which file."""
    if not faulthandler.is_enabled() and sys.stderr is not None:
        with suppress(OSError, ValueError, AttributeError):  # no file behind stderr
            faulthandler.enable()


def _problems(
    suite_name: str | None,
    primitives: tuple[str, ...],
    chosen: str | None,
    layers: str | None,
    batch: int | None,
    usual: int,
) -> list[Problem]:
    from gpukit.errors import SettingError
    from gpukit.race.problems import passes, problems, suite
    from gpukit.race.tables import NETWORKS

    if suite_name is None:
        if len(primitives) != 1:
            raise SettingError("name one primitive, as in gpukit race conv2d, or use --suite")
        if batch is None and (layers is None or layers in NETWORKS):
            batch = usual
        return [p for name in passes(primitives[0], chosen) for p in problems(name, layers, batch)]
    if layers is not None:
        raise SettingError(f"--suite {suite_name} has layers of its own; leave --layers out")
    if chosen is not None and not primitives:
        raise SettingError("--pass is of a primitive that is named; name one, or leave --pass out")
    return suite(suite_name, batch or usual, primitives, chosen)


def _load(kernels: tuple[str, ...], primitives: list[str], device: Device) -> None:
    from gpukit import load_kernel
    from gpukit.errors import SettingError

    for path in kernels:
        plugin = load_kernel(path)
        brought = [(p.name, impl) for p, impl in plugin.implementations]
        if not any(p in primitives and impl.kind == device.kind for p, impl in brought):
            others = ", ".join(f"{p}:{impl.name} for {impl.kind}" for p, impl in brought)
            raise SettingError(
                f"{path} brings nothing for {', '.join(dict.fromkeys(primitives))} on "
                f"{device.kind}, only {others or 'nothing at all'}; race what it brings, "
                "on the device that it is for"
            )


def _meet(
    planned: Race, names: Sequence[str], outcome: Outcome, closing: ExitStack
) -> dict[str, Any]:
    """Start the rivals that are there; what they are."""
    from gpukit.race.ceilings import side
    from gpukit.race.contest import Note
    from gpukit.race.rivals import RIVALS, RivalError, missing

    found = {}
    for name in dict.fromkeys(names):
        why = missing()
        if not why:
            try:
                made = side(planned.device).rival(planned.device, planned.clock, RIVALS[name])
                closing.callback(made.close)
                found[name] = made.describe()
                planned.rivals[name] = made
            except RivalError as error:
                why = str(error)
        if why:
            outcome.left_out.append(Note(planned.problems[0].primitive, "every layer", name, why))
    return found

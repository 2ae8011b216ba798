"""The command group, and how errors become exit codes.

Exit codes: 0 done; 1 a bug in gpukit, with a request for a report; 2 a user error, one line with
the way out; 3 a step that was computed twice gave different bits; 130 for SIGINT, 143 for SIGTERM
and SIGHUP; 141 where the reader of stdout has exited. Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import errno
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

from gpukit import __version__
from gpukit.cli.data import data
from gpukit.cli.kernels import kernels
from gpukit.cli.look import info, summary
from gpukit.cli.race import race
from gpukit.cli.signals import Terminated, raising
from gpukit.cli.streams import OutputLost
from gpukit.cli.train import train
from gpukit.cli.use import evaluate, predict
from gpukit.core.signals import exit_code
from gpukit.errors import GpukitError, ReplayError, printable
from gpukit.runs import Interrupted

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
ISSUES = "https://github.com/gpukit/gpukit/issues"


class _Commands(click.Group):
    """Hides EOFErrors of truncated files from click, which takes any of them for Ctrl-C."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except EOFError as error:
            raise RuntimeError(f"EOFError: {error}") from error


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Any command takes --verbose, which shows the traceback of an error.",
)
@click.version_option(__version__, message="gpukit %(version)s")
@click.pass_context
def app(context: click.Context) -> None:
    """Train convolutional networks with kernels you can open.

    \b
    gpukit train lenet5                         train on images that come with gpukit
    gpukit predict runs/lenet5-1 photo.png      say what is in a picture
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


for command in (train, evaluate, predict, summary, info, data, kernels, race):
    app.add_command(command)


def run(arguments: Sequence[str]) -> int:
    """Run the command line; the exit code."""
    verbose = "--verbose" in arguments
    # Training reports overflow itself; NumPy's warnings add nothing.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="gpukit")
    warnings.formatwarning = lambda message, *_: f"gpukit: {' '.join(str(message).split())}\n"
    given = [argument for argument in arguments if argument != "--verbose"]
    try:
        with raising():
            code = app.main(given, prog_name="gpukit", standalone_mode=False)
            sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "gpukit"
        return _failed(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    except Interrupted as stop:
        done = "stopped and saved" if stop.saved else "stopped"
        run = printable(str(stop.folder))
        click.echo(f"{done}; go on with: gpukit train --resume {run}", err=True)
        return exit_code(stop.signum)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        return exit_code(signal.SIGINT)
    except Terminated as stop:
        click.echo("stopped", err=True)
        return exit_code(stop.signum)
    except OutputLost as lost:
        if lost.errno == errno.EPIPE:  # its reader has seen enough
            return 128 + 13
        return _failed(str(lost), 2)
    except ReplayError as error:
        return _failed(str(error), 3)
    except Exception as error:
        if verbose:
            traceback.print_exc()
        message = _users(error)
        if message is not None:
            return _failed(message, 2)
        return _failed(
            f"gpukit failed with {type(error).__name__}: {error}. This is a fault of gpukit: "
            f"please report it at {ISSUES}, with what --verbose adds to this",
            1,
        )


def _users(error: Exception) -> str | None:
    """The message of a user error; None for a bug in gpukit."""
    if isinstance(error, GpukitError):
        return str(error)
    # Threads cannot start where there is no memory for their stacks.
    if isinstance(error, MemoryError) or "can't start new thread" in str(error):
        return (
            "there is not enough memory; use a smaller --batch-size, --input or --limit "
            f"({error or 'MemoryError'})"
        )
    if isinstance(error, OSError) and error.errno in _OF_DISKS and error.filename is None:
        return f"{error.strerror}; make room, or use another disk"
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}; use another file or folder"
    return None


def _failed(message: str, code: int) -> int:
    click.echo(f"gpukit: {printable(' '.join(message.split()))}", err=True)
    return code

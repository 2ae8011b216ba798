"""The commands gathered, and what becomes of errors.

Exit codes: 0 done; 1 a fault of gpukit's, which asks for a report; 2 the user's, one line with the
way out; 3 a step that was computed twice gave other bits; 130 and 143 for SIGINT and SIGTERM.
Progress goes to stderr, results to stdout.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

import click

from gpukit import __version__
from gpukit.cli.data import data
from gpukit.cli.kernels import kernels
from gpukit.cli.look import info, summary
from gpukit.cli.race import race
from gpukit.cli.train import train
from gpukit.cli.use import evaluate, predict
from gpukit.errors import GpukitError, ReplayError, printable

_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
ISSUES = "https://github.com/gpukit/gpukit/issues"


class _Commands(click.Group):
    """Keeps a file that ends too early from click, which takes any EOFError for Ctrl-C."""

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


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    from gpukit.runs import Interrupted

    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "--verbose" in given
    # Where figures overflow, training ends with a line of its own; NumPy's warnings add nothing.
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="gpukit")
    warnings.formatwarning = lambda message, *_: f"gpukit: {' '.join(str(message).split())}\n"
    given = [argument for argument in given if argument != "--verbose"]
    try:
        with _ended_by_sigterm():
            code = app.main(given, prog_name="gpukit", standalone_mode=False)
            sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "gpukit"
        _fail(f"{error.format_message().rstrip('.')}; see {command} --help", 2)
    except Interrupted as stop:
        click.echo(
            f"stopped and saved; go on with: gpukit train --resume {printable(str(stop.folder))}",
            err=True,
        )
        sys.exit(128 + stop.signum)
    except (KeyboardInterrupt, click.Abort):
        click.echo("stopped", err=True)
        sys.exit(130)
    except _Terminated:
        click.echo("stopped", err=True)
        sys.exit(143)
    except BrokenPipeError:
        # The reader of our output has gone; nothing is left to say, not even at shutdown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except ReplayError as error:
        _fail(str(error), 3)
    except Exception as error:
        if verbose:
            traceback.print_exc()
        message = _users(error)
        if message is not None:
            _fail(message, 2)
        _fail(
            f"gpukit failed with {type(error).__name__}: {error}. This is a fault of gpukit: "
            f"please report it at {ISSUES}, with what --verbose adds to this",
            1,
        )


class _Terminated(BaseException):
    """SIGTERM asked the command to stop; what it started is ended on the way out."""


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM ends a command as Ctrl-C does; signals come to the main thread."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise _Terminated

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _users(error: Exception) -> str | None:
    """What to say of an error that the user can mend; None for a fault of gpukit's."""
    if isinstance(error, GpukitError):
        return str(error)
    # Threads are refused where there is no room for their stacks.
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


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"gpukit: {printable(' '.join(message.split()))}", err=True)
    sys.exit(code)

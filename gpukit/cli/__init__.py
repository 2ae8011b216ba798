"""The command line: `gpukit train evaluate predict summary info data kernels race`.

Little is imported here, so that signals and streams are set up before the rest is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import NoReturn

from gpukit.cli import signals, streams

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line, by default of this process, and exit."""
    ours = arguments is None
    if ours:
        signals.ends_at_once()
    streams.open_missing()
    with streams.usable():
        from gpukit.cli.app import run

        code = run(sys.argv[1:] if arguments is None else arguments)
    if ours:
        signals.ends_at_once()
    sys.exit(code)

"""The command line: `gpukit train evaluate predict summary info data`."""

from gpukit.cli.app import main

__all__ = ["main"]

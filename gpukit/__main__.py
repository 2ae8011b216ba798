"""Runs the command line: `python -m gpukit`."""

from gpukit.cli import main

if __name__ == "__main__":
    main()

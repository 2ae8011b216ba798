"""`python -m gpukit` is `gpukit`."""

from gpukit.cli import main

if __name__ == "__main__":
    main()

"""Benchmarks of gpukit against PyTorch, on CPUs and on a card: see README.md."""

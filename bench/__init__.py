"""Benchmarks of gpukit's CPU code against PyTorch: see README.md."""

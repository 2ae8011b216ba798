"""CUDA C and Numba CUDA sources, shipped as text and compiled on first use."""

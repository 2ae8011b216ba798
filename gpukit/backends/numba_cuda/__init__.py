"""Launchers of the Numba CUDA kernels (kernels/*.py), a file a family: `algo="numba"` on a card.

They are readable twins of the CUDA C kernels, never the default, and need the extra `numba`. Not
for emu, which runs CUDA C: Numba has a simulator of its own (kernel_checks/twins.py).
"""

from gpukit.backends.numba_cuda import activation, conv, loss, pool  # noqa: F401

"""The engine of devices emu:0 …: CUDA C compiled by g++ and run on the CPU.

`include/` has the headers that make CUDA C compile as C++, `runtime/` runs threads, blocks and
launches.
"""

from gpukit.emulator.build import compiler_problem
from gpukit.emulator.run import Emulator, KernelFault

__all__ = ["Emulator", "KernelFault", "compiler_problem"]

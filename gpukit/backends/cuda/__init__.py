"""Launchers of the CUDA C and the Numba kernels, a family a file, and the engines that run them.

The same launchers of CUDA C serve cards (kind "cuda") and the emulator (kind "emu"): the device of
the arrays decides. The Numba kernels (`algo="numba"`) are their readable counterparts, never the
default, and need the extra `numba`; emu does not run them, Numba has a simulator of its own
(verify/numba_kernels.py).
"""

# Each registers its implementations. The first of a primitive that takes a call is its default, so
# this order is one of preference: special kernels, CUDA C in general, libraries, Numba.
# isort: off
import gpukit.backends.cuda.activation.cuda_c
import gpukit.backends.cuda.conv.depthwise
import gpukit.backends.cuda.conv.first
import gpukit.backends.cuda.conv.implicit
import gpukit.backends.cuda.conv.choice
import gpukit.backends.cuda.elementwise
import gpukit.backends.cuda.fused
import gpukit.backends.cuda.image
import gpukit.backends.cuda.linear.dense
import gpukit.backends.cuda.loss.cuda_c
import gpukit.backends.cuda.normalisation.batch_norm
import gpukit.backends.cuda.normalisation.lrn
import gpukit.backends.cuda.pool.cuda_c
import gpukit.backends.cuda.random
import gpukit.backends.cuda.reduction
import gpukit.backends.cuda.shape.index
import gpukit.backends.cuda.shape.moves
import gpukit.backends.cuda.update
import gpukit.backends.cuda.linear.cublas
import gpukit.backends.cuda.activation.numba
import gpukit.backends.cuda.conv.numba
import gpukit.backends.cuda.loss.numba
import gpukit.backends.cuda.pool.numba  # noqa: F401
# isort: on

from gpukit.dispatch.primitive import registry
from gpukit.emulator.run import Emulator
from gpukit.launch.cupy import CupyEngine

registry.makers.update(cuda=CupyEngine, emu=Emulator)

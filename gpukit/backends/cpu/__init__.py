"""Fast CPU implementations of the primitives, a family a file.

GEMMs are OpenBLAS's (runtime/blas.py), loops are compiled by Numba (runtime/jit.py), both run
without the GIL on one pool of threads (runtime/threads.py).
"""

import gpukit.backends.cpu.activation.piecewise
import gpukit.backends.cpu.activation.smooth
import gpukit.backends.cpu.conv.choice
import gpukit.backends.cpu.elementwise
import gpukit.backends.cpu.fused
import gpukit.backends.cpu.image
import gpukit.backends.cpu.linear.dense
import gpukit.backends.cpu.loss
import gpukit.backends.cpu.normalisation.batch_norm
import gpukit.backends.cpu.normalisation.lrn
import gpukit.backends.cpu.pool.average
import gpukit.backends.cpu.pool.maximum
import gpukit.backends.cpu.random
import gpukit.backends.cpu.reduction
import gpukit.backends.cpu.runtime.partial_sums
import gpukit.backends.cpu.update  # noqa: F401

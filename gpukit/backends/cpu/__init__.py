"""Fast CPU implementations of the primitives, a file a family.

GEMMs are OpenBLAS's (blas.py), loops are compiled by Numba (jit.py), both run without the GIL on
one pool of threads (threads.py).
"""

from gpukit.backends.cpu import (  # noqa: F401
    activation,
    averaging,
    conv,
    elementwise,
    finite,
    fused,
    images,
    linear,
    loss,
    lrn,
    normalisation,
    parts,
    pooling,
    random,
    smooth,
    update,
)

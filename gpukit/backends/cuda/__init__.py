"""Launchers of the CUDA C kernels, a file a family, and the engines that run them.

The same launchers serve cards (kind "cuda") and the emulator (kind "emu"): the device of the
arrays decides.
"""

from gpukit.backends.cuda import (  # noqa: F401
    activation,
    batch_norm,
    conv,
    cublas,
    elementwise,
    finite,
    fused,
    images,
    index,
    linear,
    loss,
    normalisation,
    pool,
    random,
    reduction,
    shape,
    update,
)
from gpukit.emulator.run import Emulator
from gpukit.launch.cupy import CupyEngine
from gpukit.launch.engine import register

register("cuda", CupyEngine)
register("emu", Emulator)

"""Primitives, defined in plain NumPy: definition, test oracle and last fallback.

The functions use NumPy *functions* on their arguments and create arrays like them, so that the
same code runs on CuPy arrays and on DeviceArrays. One file a family, which declares beside each
definition what the checks and races of its implementations need to know. Settings that several
share are objects: `Conv`, `Window`, `Response`.
"""

from gpukit.primitives.activation import *
from gpukit.primitives.conv import *
from gpukit.primitives.elementwise import *
from gpukit.primitives.fused import *
from gpukit.primitives.image import *
from gpukit.primitives.linear import *
from gpukit.primitives.loss import *
from gpukit.primitives.normalisation import *
from gpukit.primitives.pool import *
from gpukit.primitives.random import *
from gpukit.primitives.reduction import *
from gpukit.primitives.shape import *
from gpukit.primitives.update import *
from gpukit.primitives.windows import Conv as Conv
from gpukit.primitives.windows import Window as Window

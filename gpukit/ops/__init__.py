"""Differentiable operations: arrays in, array out; a Tensor in, Tensor out.

`algo` names the implementation of an operation's primitive. It holds on the way back, too, for that
primitive and for its gradient's own; where the latter has none of that name, its default computes,
which is said once. Raises SettingError for a name that is not there.
"""

from gpukit.autograd import methods
from gpukit.ops import (
    activation,
    conv,
    device,
    elementwise,
    fused,
    linear,
    loss,
    normalisation,
    pool,
    random,
    reduction,
    shape,
)
from gpukit.ops.activation import *
from gpukit.ops.conv import *
from gpukit.ops.device import *
from gpukit.ops.elementwise import *
from gpukit.ops.fused import *
from gpukit.ops.linear import *
from gpukit.ops.loss import *
from gpukit.ops.normalisation import *
from gpukit.ops.pool import *
from gpukit.ops.random import *
from gpukit.ops.reduction import *
from gpukit.ops.shape import *

methods.update(
    add=add,
    subtract=subtract,
    multiply=multiply,
    divide=divide,
    power=power,
    matmul=matmul,
    negative=negative,
    index=index,
    sum=sum,
    mean=mean,
    max=max,
    reshape=reshape,
    transpose=transpose,
    to_device=to_device,
)

__all__ = sorted(
    name
    for family in (
        activation, conv, device, elementwise, fused, linear, loss, normalisation, pool, random,
        reduction, shape,
    )
    for name in family.__all__
)  # fmt: skip

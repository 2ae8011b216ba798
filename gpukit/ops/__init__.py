"""Differentiable operations: arrays in, array out; a Tensor in, Tensor out.

`algo` names the implementation of an operation's primitive. It holds on the way back, too, for that
primitive and for its gradient's own; where the latter has none of that name, its default computes,
which is said once. Raises SettingError for a name that is not there.
"""

from gpukit.autograd import methods
from gpukit.ops.activation import (
    elu,
    leaky_relu,
    log_softmax,
    relu,
    sigmoid,
    softmax,
    softplus,
    tanh,
)
from gpukit.ops.conv import conv2d
from gpukit.ops.device import to_device
from gpukit.ops.elementwise import (
    absolute,
    add,
    divide,
    exp,
    log,
    maximum,
    minimum,
    multiply,
    negative,
    power,
    sqrt,
    square,
    subtract,
)
from gpukit.ops.fused import bias_relu_lrn_pool
from gpukit.ops.linear import dense, matmul
from gpukit.ops.loss import softmax_cross_entropy, squared_error
from gpukit.ops.normalisation import batch_norm, batch_norm_inference, lrn
from gpukit.ops.pool import avg_pool2d, global_avg_pool2d, max_pool2d
from gpukit.ops.random import dropout
from gpukit.ops.reduction import all_finite, argmax, max, mean, sum
from gpukit.ops.shape import broadcast_to, concat, flatten, index, pad, reshape, split, transpose

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

__all__ = [
    "absolute",
    "add",
    "all_finite",
    "argmax",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_inference",
    "bias_relu_lrn_pool",
    "broadcast_to",
    "concat",
    "conv2d",
    "dense",
    "divide",
    "dropout",
    "elu",
    "exp",
    "flatten",
    "global_avg_pool2d",
    "index",
    "leaky_relu",
    "log",
    "log_softmax",
    "lrn",
    "matmul",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "minimum",
    "multiply",
    "negative",
    "pad",
    "power",
    "relu",
    "reshape",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "split",
    "sqrt",
    "square",
    "squared_error",
    "subtract",
    "sum",
    "tanh",
    "to_device",
    "transpose",
]

"""Primitives, defined in plain NumPy: definition, test oracle and last fallback.

The functions use NumPy *functions* on their arguments and create arrays like them, so that the
same code runs on CuPy arrays and on DeviceArrays. One file a family. Settings that several share
are objects: `Conv`, `Window`, `Response`.
"""

from gpukit.primitives.activation import (
    elu,
    elu_grad,
    leaky_relu,
    leaky_relu_grad,
    log_softmax,
    log_softmax_grad,
    relu,
    relu_grad,
    sigmoid,
    sigmoid_grad,
    softmax,
    softmax_grad,
    softplus,
    softplus_grad,
    tanh,
    tanh_grad,
)
from gpukit.primitives.conv import bias_grad, conv2d, conv2d_input_grad, conv2d_weight_grad
from gpukit.primitives.elementwise import (
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
    sign,
    sqrt,
    square,
    subtract,
)
from gpukit.primitives.fused import bias_relu_lrn_pool, bias_relu_lrn_pool_grad
from gpukit.primitives.image import normalise_images
from gpukit.primitives.linear import dense, dense_input_grad, dense_weight_grad, matmul
from gpukit.primitives.loss import (
    softmax_cross_entropy,
    softmax_cross_entropy_grad,
    squared_error,
    squared_error_grad,
)

# Settings, which are no primitives.
from gpukit.primitives.normalisation import Response as Response
from gpukit.primitives.normalisation import (
    batch_norm,
    batch_norm_grad,
    batch_norm_inference,
    lrn,
    lrn_grad,
)
from gpukit.primitives.pool import (
    avg_pool2d,
    avg_pool2d_grad,
    global_avg_pool2d,
    global_avg_pool2d_grad,
    max_pool2d,
    max_pool2d_grad,
)
from gpukit.primitives.random import dropout, philox
from gpukit.primitives.reduction import all_finite, argmax, reduce_max, reduce_mean, reduce_sum
from gpukit.primitives.shape import (
    broadcast_to,
    concat,
    index,
    index_grad,
    pad,
    reshape,
    split,
    transpose,
)
from gpukit.primitives.update import adagrad_update, adam_update, rmsprop_update, sgd_update
from gpukit.primitives.windows import Conv as Conv
from gpukit.primitives.windows import Window as Window

__all__ = [
    "absolute",
    "adagrad_update",
    "adam_update",
    "add",
    "all_finite",
    "argmax",
    "avg_pool2d",
    "avg_pool2d_grad",
    "batch_norm",
    "batch_norm_grad",
    "batch_norm_inference",
    "bias_grad",
    "bias_relu_lrn_pool",
    "bias_relu_lrn_pool_grad",
    "broadcast_to",
    "concat",
    "conv2d",
    "conv2d_input_grad",
    "conv2d_weight_grad",
    "dense",
    "dense_input_grad",
    "dense_weight_grad",
    "divide",
    "dropout",
    "elu",
    "elu_grad",
    "exp",
    "global_avg_pool2d",
    "global_avg_pool2d_grad",
    "index",
    "index_grad",
    "leaky_relu",
    "leaky_relu_grad",
    "log",
    "log_softmax",
    "log_softmax_grad",
    "lrn",
    "lrn_grad",
    "matmul",
    "max_pool2d",
    "max_pool2d_grad",
    "maximum",
    "minimum",
    "multiply",
    "negative",
    "normalise_images",
    "pad",
    "philox",
    "power",
    "reduce_max",
    "reduce_mean",
    "reduce_sum",
    "relu",
    "relu_grad",
    "reshape",
    "rmsprop_update",
    "sgd_update",
    "sigmoid",
    "sigmoid_grad",
    "sign",
    "softmax",
    "softmax_cross_entropy",
    "softmax_cross_entropy_grad",
    "softmax_grad",
    "softplus",
    "softplus_grad",
    "split",
    "sqrt",
    "square",
    "squared_error",
    "squared_error_grad",
    "subtract",
    "tanh",
    "tanh_grad",
    "transpose",
]

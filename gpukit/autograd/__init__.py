"""Tensors, the tape they are recorded on, and the pass back over it."""

from gpukit.autograd.tape import is_recording, no_grad
from gpukit.autograd.tensor import Parameter, Tensor, differentiable, methods, ones_like, read_only

__all__ = [
    "Parameter",
    "Tensor",
    "differentiable",
    "is_recording",
    "methods",
    "no_grad",
    "ones_like",
    "read_only",
]

"""Launchers of normalisation/lrn.cu: response normalisation by warps, or by single elements."""

from __future__ import annotations

from typing import Any

from gpukit import primitives as p
from gpukit.backends.cuda.linear.gemm import is_packed
from gpukit.backends.cuda.runtime.common import BLOCK, alike, contiguous, divide_up, empty_like
from gpukit.launch.kernel import Kernel
from gpukit.primitives.accumulate import Array
from gpukit.primitives.normalisation import Response

MOST = 2**31 - 2**16  # elements: indices are ints, and blocks overlap a little
SIZE = 5  # the one for which the warps' kernels are built

_lrn = Kernel("normalisation/lrn.cu", "lrn")
_gradient = Kernel("normalisation/lrn.cu", "lrn_gradient")
_plain = Kernel("normalisation/lrn.cu", "lrn_plain")
_terms = Kernel("normalisation/lrn.cu", "lrn_terms")
_plain_gradient = Kernel("normalisation/lrn.cu", "lrn_plain_gradient")
PLAIN_GRADIENT_KERNELS = (_plain_gradient, _terms)
PLAIN_KERNELS = (_plain,)


def template(response: Response) -> dict[str, Any]:
    """How the warps' kernels are built."""
    return {"SIZE": response.size, "THREE_QUARTERS": float(response.beta) == 0.75}


def suits_warps(response: Response, *arrays: Array) -> bool:
    """Whether the warps' kernels take these arrays (…,C)."""
    length = arrays[0].shape[-1] // response.groups
    return response.size == SIZE and all(is_packed(a, length) for a in arrays)


def warp_blocks(packs: int, halo: int, block: int = BLOCK) -> int:
    """Blocks of `block` threads whose warps finish 32 - 2·halo packs each."""
    return divide_up(packs, block // 32 * (32 - 2 * halo))


def forward_halo(x: Array) -> int:
    """Lanes at a warp's ends that only lend their values (kernels/normalisation/lrn.cuh)."""
    return divide_up(SIZE // 2, 16 // x.dtype.itemsize)


def backward_halo(x: Array) -> int:
    """The same for the gradient, which reaches twice as far."""
    return divide_up(SIZE - 1, 16 // x.dtype.itemsize)


def _by_warps(kernel: Kernel, halo: int, response: Response, *inputs: Array) -> Array:
    x, packs = inputs[0], inputs[0].nbytes // 16
    y = empty_like(x)
    kernel.launch(
        warp_blocks(packs, halo), BLOCK, *inputs, y, packs, x.shape[-1] // response.groups,
        *response.numbers, T=x.dtype, **template(response),
    )  # fmt: skip
    return y


def plain(x: Array, bias: Array | None, relu: bool, response: Response) -> Array:
    """lrn(relu(x + bias)) by single elements, of contiguous arrays with at least one."""
    y = empty_like(x)
    _plain.launch(
        divide_up(x.size, BLOCK), BLOCK, x, bias, y, *_sizes(x, response), relu, *response.numbers,
        T=x.dtype,
    )  # fmt: skip
    return y


def plain_gradient(
    gy: Array, x: Array, bias: Array | None, relu: bool, response: Response
) -> Array:
    """The gradient of `plain` by x."""
    terms, gx = empty_like(x), empty_like(x)
    grid, sizes = divide_up(x.size, BLOCK), _sizes(x, response)
    _terms.launch(grid, BLOCK, gy, x, bias, terms, *sizes, relu, *response.numbers, T=x.dtype)
    _plain_gradient.launch(
        grid, BLOCK, gy, x, bias, terms, gx, *sizes, relu, *response.numbers, T=x.dtype
    )
    return gx


def _sizes(x: Array, response: Response) -> tuple[int, ...]:
    channels = x.shape[-1]
    return x.size, channels, channels // response.groups, *response.reach


def fits(*arrays: Array, response: Response) -> bool:
    """Whether arrays (…,C) of one shape can be normalised by these kernels."""
    x = arrays[0]
    return alike(*arrays) and x.ndim > 0 and x.size <= MOST and x.shape[-1] % response.groups == 0


@p.lrn.on("cuda", name="cuda", supports=fits, kernels=(_lrn, _plain))
def _(x: Array, *, response: Response) -> Array:
    x = contiguous(x)
    if not x.size:
        return empty_like(x)
    if not suits_warps(response, x):
        return plain(x, None, False, response)
    return _by_warps(_lrn, forward_halo(x), response, x)


@p.lrn_grad.on("cuda", name="cuda", supports=fits, kernels=(_gradient, _terms, _plain_gradient))
def _(gy: Array, x: Array, *, response: Response) -> Array:
    gy, x = contiguous(gy), contiguous(x)
    if not x.size:
        return empty_like(x)
    if not suits_warps(response, x, gy):
        return plain_gradient(gy, x, None, False, response)
    return _by_warps(_gradient, backward_halo(x), response, gy, x)

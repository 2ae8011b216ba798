"""A plug-in of implementations of relu that cheat, each in its way; `honest` does not."""

import numpy as np

from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import BLOCK, contiguous, divide_up, empty_like, is_float
from gpukit.device import device_of, to_host
from gpukit.launch.kernel import Kernel

_kernels = {
    name: Kernel("cheats.cu", name)
    for name in ("honest", "constant", "part", "in_place", "adds", "adds_to_shared")
}
_by_shape = {}
_by_array = {}
_by_some = {}
_by_sum = {}
_copies = {}
_buffers = {}


def supports(x):
    return is_float(x)


def launch(name, x, y, *settings):
    if x.size:
        _kernels[name].launch(divide_up(x.size, BLOCK), BLOCK, x, y, x.size, *settings, T=x.dtype)
    return y


def enter(name):
    return p.relu.on("cuda", name=name, supports=supports)


def run(name, x):
    x = contiguous(x)
    return launch(name, x, empty_like(x))


@enter("honest")
def honest(x):
    return run("honest", x)


@enter("zeros")
def zeros(x):
    return launch("constant", contiguous(x), empty_like(x), 0.0)


@enter("constant")
def constant(x):
    return launch("constant", contiguous(x), empty_like(x), 0.75)


@enter("part")
def part(x):
    return run("part", x)


@enter("mutates")
def mutates(x):
    return run("in_place", x)


@enter("uninitialised")
def uninitialised(x):
    return run("adds", x)


@enter("shared")
def shared(x):
    return run("adds_to_shared", x)


def numbered(cache, key, x):
    """The result that was computed for `key` first."""
    if key not in cache:
        cache[key] = (x, run("honest", x))
    return cache[key][1]


@enter("by_shape")
def by_shape(x):
    return numbered(_by_shape, (x.shape, x.dtype.str), x)


@enter("by_array")
def by_array(x):
    return numbered(_by_array, id(x), x)


@enter("keeps_a_copy")
def keeps_a_copy(x):
    """As a launcher that packs its weights once."""
    if id(x) not in _copies:
        _copies[id(x)] = (x, x.copy())
    return run("honest", _copies[id(x)][1])


@enter("by_some")
def by_some(x):
    return numbered(_by_some, (id(x), bytes(to_host(x).reshape(-1)[:2])), x)


@enter("by_sum")
def by_sum(x):
    return numbered(_by_sum, (id(x), x.shape, float(np.sort(to_host(x), axis=None).sum())), x)


@enter("capped")
def capped(x):
    x, y = contiguous(x), empty_like(x)
    blocks = min(divide_up(x.size, BLOCK), 2048)  # and no loop over what is beyond
    if x.size:
        _kernels["honest"].launch(blocks, BLOCK, x, y, x.size, T=x.dtype)
    return y


@enter("by_numpy")
def by_numpy(x):
    return np.maximum(x, 0)


def writes(x):
    if x.size:
        x[...] = 0
    return is_float(x)


@p.relu.on("cuda", name="supports_writes", supports=writes)
def supports_writes(x):
    return run("honest", x)


@p.relu.on("cuda", name="tiny", supports=lambda x: is_float(x) and x.size < 2)
def tiny(x):
    return run("honest", x)


@enter("same_memory")
def same_memory(x):
    x = contiguous(x)
    key = (x.shape, x.dtype.str)
    if key not in _buffers:
        _buffers[key] = empty_like(x)
    return launch("honest", x, _buffers[key])


@enter("stream")
def stream(x):
    """On a stream of its own, and done when it likes. On emu there are no streams."""
    if device_of(x).kind != "cuda":
        return run("honest", x)
    import cupy

    if "stream" not in _buffers:
        _buffers["stream"] = cupy.cuda.Stream(non_blocking=True)
    y = empty_like(x)
    with _buffers["stream"]:
        return launch("honest", contiguous(x), y)

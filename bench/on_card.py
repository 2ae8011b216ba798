"""Whole networks on one card, gpukit and PyTorch in this process.

Both have the images on the card before anything is timed. They share the default stream, but each
takes its memory through a pool of its own: what a pool has taken from the driver counts as memory.
Times are the host's, from an idle card with a flushed L2 cache to an idle card: launches are part
of them.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any

from bench.contest import made, seconds
from gpukit.errors import DeviceError


class OnCard:
    """A side that `function(*arguments)` makes, see contest.py; PyTorch's or gpukit's.

    PyTorch computes in float32 as gpukit does, and cuDNN searches for its fastest algorithm.
    """

    def __init__(self, name: str, function: str, *arguments: Any) -> None:
        from gpukit.race.torch_rival import in_float32

        in_float32()
        self.name = name
        self._is_rival = function.startswith("bench.rival_sides:")
        self._check, self.once = made(function, *arguments)

    def check(self) -> list[float]:
        """The figures to agree on."""
        return self._check()

    def run(self) -> float:
        """Seconds of one run."""
        import torch

        flushing().normal_()
        torch.cuda.synchronize()

        def once() -> None:
            self.once()
            torch.cuda.synchronize()

        return seconds(once)

    def peak_mb(self) -> float:
        """The most memory in 10⁶ bytes that its pool holds in one more run."""
        return (their_peak if self._is_rival else our_peak)(self.once)

    def close(self) -> None:
        """Let its memory go."""
        del self._check, self.once
        free()


@functools.cache
def flushing() -> Any:
    """A tensor of four times the L2 cache, to be written between runs; one for this process."""
    import cupy
    import torch

    if cupy.cuda.get_current_stream().ptr or torch.cuda.current_stream().cuda_stream:
        raise DeviceError("gpukit and PyTorch use different streams here")
    l2 = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0) or 64 << 20
    return torch.empty(l2, dtype=torch.float32, device="cuda")


def free() -> None:
    """Let both pools give back what nobody uses."""
    import cupy
    import torch

    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    cupy.get_default_memory_pool().free_all_blocks()


def our_peak(run: Callable[[], Any]) -> float:
    """Of gpukit's pool, which gives nothing back while it runs."""
    import cupy

    free()
    run()
    return float(cupy.get_default_memory_pool().total_bytes() / 1e6)


def their_peak(run: Callable[[], Any]) -> float:
    """Of PyTorch's pool, less what is no part of the run."""
    import torch

    free()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return float((torch.cuda.max_memory_reserved() - flushing().nbytes) / 1e6)

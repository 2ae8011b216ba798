"""AlexNet on one card, gpukit and PyTorch in this process: they must agree, and how much they take.

Both have the images on the card before anything is timed. They share the default stream, but each
takes its memory through a pool of its own: what a pool has taken from the driver counts as memory.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

from bench import alexnet_ours, alexnet_rivals
from bench.alexnet import DRY, LIMIT, Net
from bench.contest import agree

Task = Callable[[], Any]

# By the name of a task of cuda_race: gpukit's side, the rival's.
SIDES = {
    "alexnet_step": (alexnet_ours.training, alexnet_rivals.training),
    "alexnet_inference": (alexnet_ours.inference, alexnet_rivals.inference),
}
# PyTorch's ways, as cuda_race calls them and as alexnet_rivals does.
WAYS = {"contiguous": "eager", "channels_last": "channels_last"}
(TINY,) = DRY


def contenders(task: str, net: Net, device: str, torch_device: str) -> tuple[Task, dict[str, Task]]:
    """gpukit's run of `task`, and PyTorch's by layout, once all have computed the same.

    AssertionError where the losses of two steps without dropout differ, or those of predictions.
    """
    our_side, their_side = SIDES[task]
    check, mine = our_side(net, "grouped", device)
    wanted = check()
    ways: dict[str, Task] = {}
    for name, way in WAYS.items():
        check, ways[name] = their_side(net, way, torch_device)
        agree(f"PyTorch, {name},", check(), wanted, LIMIT)
    return mine, ways


def free() -> None:
    """Let both pools give back what nobody uses."""
    import cupy
    import torch

    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    cupy.get_default_memory_pool().free_all_blocks()


def peaks(mine: Task, theirs: Task, besides: int) -> tuple[float, float]:
    """The most memory in 10⁶ bytes that the pool of gpukit, and PyTorch's, holds in one more run.

    `besides`: bytes of PyTorch's pool that are no part of its run.
    """
    import cupy
    import torch

    free()
    mine()
    ours = cupy.get_default_memory_pool().total_bytes()  # it gives nothing back while it runs
    torch.cuda.reset_peak_memory_stats()
    theirs()
    torch.cuda.synchronize()
    return ours / 1e6, (torch.cuda.max_memory_reserved() - besides) / 1e6

"""Limits of a block: threads within its kernel's launch bounds, and shared memory.

Shared memory counts static (`__shared__ float a[64]`) and dynamic (`extern __shared__`, the
`shared` of a launch) together. Every block may use FREE_SHARED bytes; for more the launcher must
raise the kernel's limit through the driver, up to the card's. Static arrays alone never exceed
FREE_SHARED: the compiler refuses them.
"""

from __future__ import annotations

MOST_THREADS = 1024  # of a block
FREE_SHARED = 48 << 10  # bytes
# The most a block can have, by compute capability (CUDA C++ Programming Guide, "Technical
# Specifications per Compute Capability"), in bytes.
MOST_SHARED = {
    75: 64 << 10,
    80: 163 << 10,
    86: 99 << 10,
    89: 99 << 10,
    90: 227 << 10,
    100: 227 << 10,
    120: 99 << 10,
}


def too_many_threads(block: tuple[int, int, int], most: int) -> str:
    """Why this block exceeds a kernel's launch bound of `most` threads; empty if it does not."""
    threads = block[0] * block[1] * block[2]
    if threads <= most:
        return ""
    return (
        f"block {block} has {threads} threads, the kernel is built for {most} at most; use a "
        "smaller block, or raise its __launch_bounds__"
    )


def too_much_shared(static: int, dynamic: int, most: int, where: str) -> str:
    """Why `where`, which has `most` bytes, cannot run such a block; empty if it can."""
    if static > FREE_SHARED:
        return (
            f"{static} bytes of static shared memory, {FREE_SHARED} may be: make the array "
            "extern __shared__"
        )
    if static + dynamic <= most:
        return ""
    return (
        f"{static} + {dynamic} bytes of static and dynamic shared memory, {where} has {most} for "
        "a block: use less, or launch with a smaller shared"
    )

"""Time and ceilings of a CUDA card, through CuPy.

Events on the current stream, which PyTorch shares. Before each turn a buffer of four times the L2
cache is written, so that no argument is in it, and often enough to keep the card busy for about a
millisecond: the host is ahead, and launches do not count.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gpukit.device import Device
from gpukit.race.peaks import Ceilings

Task = Callable[[], Any]
Before = Callable[[], None]

BATCH = 32  # images in a network's layers, where no number is given
_L2 = 64 << 20  # bytes, where CuPy does not say
_FLUSHES = 16  # of four L2 caches: 16·4·50 MB at 3 TB/s is a millisecond
_SIDE = 4096  # of the matrices
_COPY = 1 << 28  # bytes
_RUNS = 5


def _cupy() -> Any:
    import cupy

    return cupy


def l2_bytes(cupy: Any, device: Device) -> int:
    """Size of the L2 cache."""
    return int(cupy.cuda.Device(device.index).attributes.get("L2CacheSize", 0)) or _L2


class CardClock:
    """Times tasks on one card by events."""

    def __init__(self, device: Device, cupy: Any = None) -> None:
        cupy = cupy or _cupy()
        self._cupy = cupy
        self._device = device
        self._buffer = cupy.empty(4 * l2_bytes(cupy, device) // 4, "float32")

    def seconds(self, task: Task, before: Before = lambda: None) -> float:
        """Of one run, with a cold L2 cache; `before` it other numbers may be put in place."""
        before()
        event = self._cupy.cuda.Event
        start, end = event(), event()
        for _ in range(_FLUSHES):
            self._buffer.fill(1)
        start.record()
        task()
        end.record()
        end.synchronize()
        return float(self._cupy.cuda.get_elapsed_time(start, end)) / 1e3


def measure(device: Device, cupy: Any = None) -> Ceilings:
    """A float32 matrix product and a copy; the limit is tensor cores' speed in TF32.

    That is half of a float16 product's. TF32 is never a default, but three TF32 products make
    one that float32's bounds let pass.
    """
    cupy = cupy or _cupy()
    with cupy.cuda.Device(device.index):
        clock = CardClock(device, cupy)

        def best(task: Task) -> float:
            clock.seconds(task)  # compiles, chooses an algorithm
            return min(clock.seconds(task) for _ in range(_RUNS))

        a, b = (cupy.random.standard_normal((_SIDE, _SIDE), dtype="float32") for _ in range(2))
        gflop = 2e-9 * _SIDE**3
        single = gflop / best(lambda: cupy.matmul(a, b))
        half_a, half_b = a.astype("float16"), b.astype("float16")
        tensor = gflop / best(lambda: cupy.matmul(half_a, half_b)) / 2
        source = cupy.random.standard_normal(_COPY // 4, dtype="float32")
        target = cupy.empty_like(source)
        copy = 2e-9 * _COPY / best(lambda: cupy.copyto(target, source))
        fill = 1e-9 * _COPY / best(lambda: target.fill(1))
        read = 1e-9 * _COPY / best(lambda: source.max())
    return Ceilings(
        gflops=single,
        gbps=copy,
        most_gflops=max(single, tensor),
        most_gbps=max(copy, fill, read),
        cache=l2_bytes(cupy, device),
        flushed=True,
        how=f"float32 product of {_SIDE}×{_SIDE} matrices, copy of {_COPY >> 20} MiB",
    )


def arch(device: Device) -> int:
    """The card's architecture: 90 for sm_90."""
    return int(_cupy().cuda.Device(device.index).compute_capability)


def name(device: Device, cupy: Any = None) -> str:
    """The card's model name."""
    cupy = cupy or _cupy()
    found = cupy.cuda.runtime.getDeviceProperties(device.index)["name"]
    return found.decode() if isinstance(found, bytes) else str(found)


def clock(device: Device) -> CardClock:
    """A clock of the card."""
    with device.current():
        return CardClock(device)


def rival(device: Device, clock: CardClock, compiled: bool) -> Any:
    """PyTorch on the same card, by the same clock."""
    from gpukit.race.torch_rival import CardRival

    return CardRival(compiled, clock, device.index)


def machine(device: Device) -> dict[str, Any]:
    """What figures depend on."""
    return {"machine": name(device)}

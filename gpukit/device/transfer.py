"""Copies between the cards of one process, on streams of their own beside what the cards compute.

A copy begins when the source has made the array, by an event, and the source computes on at once.
The target computes on too, up to what reads the copy: only there its stream waits. Cards that can
reach each other's memory copy directly; between others the bytes go through two pinned buffers of
host memory, so that one is filled while the other is emptied.

Uploads need nothing of this: CuPy copies a NumPy array to pinned memory of its own and from there
asynchronously.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from gpukit.core.blocks import within
from gpukit.device.base import Device

STAGE = 4 << 20  # bytes of one of the two pinned buffers between two cards that are no peers
ALREADY_ENABLED = 704  # cudaErrorPeerAccessAlreadyEnabled

_begun: ContextVar[list[Arrival] | None] = ContextVar("gpukit_begun_copies", default=None)


def copy(x: Any, home: Device, target: Device) -> Any:
    """`x` of the card `home` on the card `target`; returns before the copy is there.

    What `target` computes from now on waits for the copy; inside `begun_only` the caller sees to
    that.
    """
    y, arrival = _transfers().copy(x, home, target)
    begun = _begun.get()
    if begun is None:
        arrival.wait()
    else:
        begun.append(arrival)
    return y


@contextmanager
def begun_only() -> Iterator[list[Arrival]]:
    """Within the block nothing waits for copies; the list given holds them, each to be waited for
    by what reads it."""
    copies: list[Arrival] = []
    with within(_begun, copies):
        yield copies


class Arrival:
    """A copy under way: `event` happens when it is there; keeps the memory for it until then."""

    __slots__ = ("array", "cupy", "device", "event")

    def __init__(self, cupy: Any, device: Device, event: Any, array: Any) -> None:
        self.cupy = cupy
        self.device = device
        self.event = event
        self.array = array

    def wait(self) -> None:
        """What the device is told to compute from now on comes after the copy; once is enough."""
        if self.array is not None:
            with self.device.current():
                self.cupy.cuda.get_current_stream().wait_event(self.event)
            self.array = None


class _Stage:
    """A pinned buffer on its way from card to card; `emptied` happens when it may be filled."""

    __slots__ = ("emptied", "memory")

    def __init__(self, memory: Any) -> None:
        self.memory = memory
        self.emptied: Any = None


class _Transfers:
    """Streams, buffers and copies under way between the cards of this process."""

    def __init__(self) -> None:
        import cupy

        self.cupy = cupy
        self.lock = threading.Lock()
        self.peers: dict[tuple[int, int], bool] = {}
        self.streams: dict[tuple[int, int, int], Any] = {}
        self.stages: dict[tuple[int, int], list[_Stage]] = {}
        # Sources, each with the event after which its memory may be used for something else.
        self.sources: list[tuple[Any, Any]] = []

    def copy(self, x: Any, home: Device, target: Device) -> tuple[Any, Arrival]:
        """Begin a copy of x, which is on `home`, to `target`."""
        cuda = self.cupy.cuda
        with self.lock:
            self.sources = [(event, source) for event, source in self.sources if not event.done]
            with home.current():
                x = self.cupy.ascontiguousarray(x)
                made = self._record(cuda.get_current_stream())
            with target.current():
                y = self.cupy.empty(x.shape, x.dtype)
                # Work that was given to the target before may still use this memory.
                vacated = self._record(cuda.get_current_stream())
            if x.nbytes == 0:
                return y, Arrival(self.cupy, target, vacated, y)
            if self._are_peers(home.index, target.index):
                done = self._directly(x, y, home, target, made, vacated)
            else:
                done = self._through_the_host(x, y, home, target, made, vacated)
            self.sources.append((done, x))
        return y, Arrival(self.cupy, target, done, y)

    def _directly(
        self, x: Any, y: Any, home: Device, target: Device, made: Any, vacated: Any
    ) -> Any:
        stream = self._stream(home, home, target)
        with home.current():
            stream.wait_event(made)
            stream.wait_event(vacated)
            self.cupy.cuda.runtime.memcpyPeerAsync(
                y.data.ptr, target.index, x.data.ptr, home.index, x.nbytes, stream.ptr
            )
            return self._record(stream)

    def _through_the_host(
        self, x: Any, y: Any, home: Device, target: Device, made: Any, vacated: Any
    ) -> Any:
        runtime = self.cupy.cuda.runtime
        down, up = self._stream(home, home, target), self._stream(target, home, target)
        down.wait_event(made)
        up.wait_event(vacated)
        stages = self._stages(home.index, target.index)
        for start in range(0, x.nbytes, STAGE):
            size = min(STAGE, x.nbytes - start)
            stage = stages[0]
            stages.reverse()
            with home.current():
                if stage.emptied is not None:
                    down.wait_event(stage.emptied)
                runtime.memcpyAsync(
                    stage.memory.ptr,
                    x.data.ptr + start,
                    size,
                    runtime.memcpyDeviceToHost,
                    down.ptr,
                )
                filled = self._record(down)
            with target.current():
                up.wait_event(filled)
                runtime.memcpyAsync(
                    y.data.ptr + start, stage.memory.ptr, size, runtime.memcpyHostToDevice, up.ptr
                )
                stage.emptied = self._record(up)
        return stage.emptied

    def _record(self, stream: Any) -> Any:
        """An event of the current card that happens when `stream` is through with what it has."""
        event = self.cupy.cuda.Event(disable_timing=True)
        event.record(stream)
        return event

    def _stream(self, device: Device, home: Device, target: Device) -> Any:
        """The stream on `device` for copies from `home` to `target`."""
        key = (device.index, home.index, target.index)
        if key not in self.streams:
            with device.current():
                # Not held up by the default stream, on which the card computes.
                self.streams[key] = self.cupy.cuda.Stream(non_blocking=True)
        return self.streams[key]

    def _stages(self, home: int, target: int) -> list[_Stage]:
        if (home, target) not in self.stages:
            pinned = self.cupy.cuda.alloc_pinned_memory
            self.stages[home, target] = [_Stage(pinned(STAGE)) for _ in range(2)]
        return self.stages[home, target]

    def _are_peers(self, home: int, target: int) -> bool:
        """Whether `home` reaches the memory of `target`; the first call makes it so."""
        if (home, target) not in self.peers:
            runtime = self.cupy.cuda.runtime
            able = bool(runtime.deviceCanAccessPeer(home, target))
            if able:
                with self.cupy.cuda.Device(home):
                    try:
                        runtime.deviceEnablePeerAccess(target)
                    except runtime.CUDARuntimeError as error:
                        if error.status != ALREADY_ENABLED:
                            raise
            self.peers[home, target] = able
        return self.peers[home, target]


_made: list[_Transfers] = []
_making = threading.Lock()


def _transfers() -> _Transfers:
    with _making:
        if not _made:
            _made.append(_Transfers())
        return _made[0]

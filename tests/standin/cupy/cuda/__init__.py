"""cupy.cuda: cards, streams and events."""

from __future__ import annotations

import time
from typing import Any

from cupy import _order, _settings, _state, _surface
from cupy._errors import CUDARuntimeError
from cupy._memory import (
    MemoryPointer,
    MemoryPool,
    PinnedMemoryPointer,
    alloc_pinned_memory,
)
from cupy.cuda import compiler, device, driver, nvrtc, runtime
from cupy.cuda.device import Device

__all__ = [
    "Device",
    "Event",
    "MemoryPointer",
    "MemoryPool",
    "PinnedMemoryPointer",
    "Stream",
    "alloc_pinned_memory",
    "compiler",
    "device",
    "driver",
    "get_current_stream",
    "get_elapsed_time",
    "is_available",
    "nvrtc",
    "runtime",
    "set_allocator",
]


def is_available() -> bool:
    return _settings.DEVICES > 0


@_surface.like("cupy.cuda.set_allocator")
def set_allocator(_: None = None) -> None:
    """None: memory from the driver, and back to it at once; so the stand-in does anyway."""


class Stream:
    """Work in its order; see _order.py."""

    null: Stream

    @_surface.like("cupy.cuda.Stream")
    def __init__(self, null: bool = False, non_blocking: bool = False) -> None:
        self.device_id = -1 if null else _state.device()
        self._own = None if null else _order.new(self.device_id, blocking=not non_blocking)
        self.ptr = 0 if null else id(self._own)
        if self._own is not None:
            runtime.streams[self.ptr] = self._own

    def _line(self, current: int) -> _order.Line:
        return _order.null(current) if self._own is None else self._own

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and other.ptr == self.ptr

    def __hash__(self) -> int:
        return self.ptr

    def __enter__(self) -> Stream:
        self._match()
        _state.thread.streams[_state.device()].append(self)
        return self

    def __exit__(self, *args: Any) -> None:
        stack = _state.thread.streams[self.device_id if self._own else _state.device()]
        if stack[-1] is not self:
            raise RuntimeError("streams were left in another order than they were entered")
        stack.pop()

    def use(self) -> Stream:
        self._match()
        _state.thread.streams[_state.device()][-1] = self
        return self

    def _match(self) -> None:
        if self.device_id not in (-1, _state.device()):
            raise RuntimeError(
                f"The device that the stream is created on ({self.device_id}) does not match with "
                f"the current device ({_state.device()})"
            )

    @property
    def done(self) -> bool:
        return _order.knows(_order.host, self._line(_state.device()).clock)

    @property
    def is_non_blocking(self) -> bool:
        return not self._line(_state.device()).blocking

    def synchronize(self) -> None:
        _order.wait(self._line(_state.device()))

    def record(self, event: Event | None = None) -> Event:
        made = Event() if event is None else event
        made.record(self)
        return made

    def wait_event(self, event: Event) -> None:
        if event._clock is None:
            raise RuntimeError("wait_event: nobody has recorded this event, CUDA would not wait")
        line = self._line(_state.device())
        with _order.lock:
            _order.work(line)
            _order.join(line.clock, event._clock)


Stream.null = Stream(null=True)


def get_current_stream(device_id: int = -1) -> Stream:
    index = _state.device() if device_id == -1 else device_id
    return _state.thread.streams[index][-1] or Stream.null


class Event:
    """What a stream had to do when this was recorded."""

    def __init__(
        self, block: bool = False, disable_timing: bool = False, interprocess: bool = False
    ) -> None:
        if interprocess and not disable_timing:
            raise ValueError("Timing must be disabled for interprocess events")
        self._device = _state.device()
        self._timed = not disable_timing
        self._clock: _order.Clock | None = None
        self._time = 0.0
        self._asked = False

    def record(self, stream: Stream | None = None) -> None:
        line = (stream or get_current_stream())._line(_state.device())
        if line.device != self._device:
            raise CUDARuntimeError(400)
        with _order.lock:
            _order.work(line)
            self._clock = dict(line.clock)
        self._time = time.perf_counter()
        self._asked = False

    @property
    def done(self) -> bool:
        """Not at the first question, unless the host has waited: work takes its time."""
        if self._clock is None or _order.knows(_order.host, self._clock):
            return True
        if self._asked:
            self.synchronize()
        self._asked = not self._asked
        return not self._asked

    def synchronize(self) -> None:
        if self._clock is None:
            raise RuntimeError("synchronize: nobody has recorded this event, CUDA would not wait")
        with _order.lock:
            _order.join(_order.host, self._clock)


def get_elapsed_time(start_event: Event, end_event: Event) -> float:
    """Milliseconds of the host."""
    for event in (start_event, end_event):
        if event._clock is None or not event._timed:
            raise CUDARuntimeError(400)
        if not _order.knows(_order.host, event._clock):
            raise CUDARuntimeError(600)
    return (end_event._time - start_event._time) * 1e3

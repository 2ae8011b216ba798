"""cupy.cuda.runtime: copies between memories, each found by its address."""

from __future__ import annotations

from typing import Any

from cupy import _memory, _order, _settings, _state
from cupy._errors import CUDARuntimeError as CUDARuntimeError

memcpyHostToDevice = 1
memcpyDeviceToHost = 2
memcpyDeviceToDevice = 3

streams: dict[int, _order.Line] = {}  # by their addresses
_enabled: set[tuple[int, int]] = set()


def getDeviceCount() -> int:
    return _settings.DEVICES


def getDevice() -> int:
    return _state.device()


def driverGetVersion() -> int:
    return 13000


def runtimeGetVersion() -> int:
    return 13000


def memGetInfo() -> tuple[int, int]:
    from cupy.cuda.device import Device

    return Device().mem_info


def getDeviceProperties(device: int) -> dict[str, Any]:
    _check(device)
    return {
        "name": b"stand-in for a card (gpukit tests)",
        "major": _settings.ARCH // 10,
        "minor": _settings.ARCH % 10,
        "multiProcessorCount": 132,
    }


def deviceSynchronize() -> None:
    _order.wait_for_device(_state.device())


def deviceCanAccessPeer(device: int, peerDevice: int) -> int:
    _check(device)
    _check(peerDevice)
    return int(_settings.PEERS and device != peerDevice)


def deviceEnablePeerAccess(peerDevice: int) -> None:
    pair = (_state.device(), peerDevice)
    if not deviceCanAccessPeer(*pair):
        raise CUDARuntimeError(217)
    if pair in _enabled:
        raise CUDARuntimeError(704)
    _enabled.add(pair)


def memcpyAsync(dst: int, src: int, size: int, kind: int, stream: int) -> None:
    """Of a card and pinned memory, on a stream of the current card."""
    line = _line(stream)
    target, source = _memory.find(dst, size), _memory.find(src, size)
    places = {
        memcpyHostToDevice: (line.device, _memory.HOST),
        memcpyDeviceToHost: (_memory.HOST, line.device),
        memcpyDeviceToDevice: (line.device, line.device),
    }
    if line.device != _state.device() or (target.device, source.device) != places.get(kind):
        raise CUDARuntimeError(1)
    _copy("memcpyAsync", line, target, dst, source, src, size)


def memcpyPeerAsync(
    dst: int, dstDevice: int, src: int, srcDevice: int, size: int, stream: int
) -> None:
    """From card to card, or within one."""
    line = _line(stream)
    target, source = _memory.find(dst, size), _memory.find(src, size)
    if (target.device, source.device) != (dstDevice, srcDevice):
        raise CUDARuntimeError(1)
    if line.device not in (dstDevice, srcDevice):
        raise CUDARuntimeError(400)
    _copy("memcpyPeerAsync", line, target, dst, source, src, size)


def _copy(
    what: str,
    line: _order.Line,
    target: _memory.Memory,
    dst: int,
    source: _memory.Memory,
    src: int,
    size: int,
) -> None:
    _order.work(line)
    source.uses.use(line, what, write=False)
    target.uses.use(line, what, write=True)
    to, where = dst - target.ptr, src - source.ptr
    target.bytes[to : to + size] = source.bytes[where : where + size]


def _line(stream: int) -> _order.Line:
    if stream == 0:
        return _order.null(_state.device())
    if stream not in streams:
        raise CUDARuntimeError(400)
    return streams[stream]


def _check(device: int) -> None:
    if not 0 <= device < _settings.DEVICES:
        raise CUDARuntimeError(101)

"""Work on several devices at once: in what order it is begun, and CPU twins in a thread each.

Cards work on their own once they are told to: one thread tells them by turns. CPU twins are only
busy at one time if each has a thread (`backends.cpu.twins`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence

from gpukit.device import Device

Work = Callable[[int], None]


def interleaved(devices: Sequence[Device], needs: Sequence[Collection[int]]) -> list[int]:
    """An order of tasks in which devices take turns, so that all of them are busy early.

    Task i runs on `devices[i]` after the tasks `needs[i]`. Next comes a task of the device that
    has had the fewest; of its tasks that can be begun, one for which another device waits, else
    the first. Tasks of one device stay as they are if they are in order.
    """
    if len(set(devices)) < 2:
        return list(range(len(devices)))
    readers: list[list[int]] = [[] for _ in devices]
    missing = [0] * len(devices)
    for i, needed in enumerate(needs):
        for j in set(needed):
            readers[j].append(i)
            missing[i] += 1
    given = dict.fromkeys(devices, 0)
    ready: dict[Device, list[tuple[bool, int]]] = {device: [] for device in given}

    def begin(i: int) -> None:
        awaited = any(devices[reader] is not devices[i] for reader in readers[i])
        heapq.heappush(ready[devices[i]], (not awaited, i))

    for i, count in enumerate(missing):
        if count == 0:
            begin(i)
    order: list[int] = []
    while len(order) < len(devices):
        device = min((d for d in given if ready[d]), key=lambda d: given[d])
        _, i = heapq.heappop(ready[device])
        given[device] += 1
        order.append(i)
        for reader in readers[i]:
            missing[reader] -= 1
            if missing[reader] == 0:
                begin(reader)
    return order


def run(devices: Sequence[Device], needs: Sequence[Collection[int]], work: Work) -> None:
    """Call `work(i)` for every task i, on `devices[i]` and after the tasks `needs[i]`, all below i.

    CPU twins run at one time, each its own tasks in order, in copies of the caller's context. An
    error is that of the first task that fails, as in a loop over all tasks, and none is begun
    after it.
    """
    used = list(dict.fromkeys(devices))
    if len(used) > 1 and all(device.kind == "cpu" for device in used):
        from gpukit.backends.cpu import twins  # with Numba: not when gpukit is imported

        lanes = [[i for i, d in enumerate(devices) if d is device] for device in used]
        twins.run(lanes, needs, work)
        return
    for i, device in enumerate(devices):
        with device.current():
            work(i)

"""The device schedule: in what order work on several devices begins, and what runs concurrently.

Cards run asynchronously: one thread launches on them in turn. CPU twins run concurrently only in
a thread each (`backends.cpu.runtime.twins`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Sequence

from gpukit.device import Device

Work = Callable[[int], None]


def interleaved(devices: Sequence[Device], needs: Sequence[Collection[int]]) -> list[int]:
    """An order of tasks in which devices take turns, so that all of them are busy early.

    Task i runs on `devices[i]` after the tasks `needs[i]`. Of the devices with a task that can be
    begun, it is the turn of the one that had none for longest; of its tasks, first comes one for
    which another device waits, then that of the lowest number.
    """
    if len(set(devices)) < 2:
        return list(range(len(devices)))
    readers: list[list[int]] = [[] for _ in devices]
    missing = [0] * len(devices)
    for i, needed in enumerate(needs):
        for j in set(needed):
            readers[j].append(i)
            missing[i] += 1
    last_turn = dict.fromkeys(devices, -1)
    ready: dict[Device, list[tuple[bool, int]]] = {device: [] for device in last_turn}

    def begin(i: int) -> None:
        awaited = any(devices[reader] is not devices[i] for reader in readers[i])
        heapq.heappush(ready[devices[i]], (not awaited, i))

    for i, count in enumerate(missing):
        if count == 0:
            begin(i)
    order: list[int] = []
    while len(order) < len(devices):
        device = min((d for d in last_turn if ready[d]), key=last_turn.__getitem__)
        _, i = heapq.heappop(ready[device])
        last_turn[device] = len(order)
        order.append(i)
        for reader in readers[i]:
            missing[reader] -= 1
            if missing[reader] == 0:
                begin(reader)
    return order


def run(
    devices: Sequence[Device],
    needs: Sequence[Collection[int]],
    work: Work,
    crossings: Collection[int] = (),
) -> None:
    """Call `work(i)` for every task i, on `devices[i]` and after the tasks `needs[i]`, all below i.

    CPU twins run concurrently, each its own tasks in order, in copies of the caller's context. An
    error is that of the first task that fails, as in a loop over all tasks, and none is begun
    after it is known. `crossings` are tasks that do nothing but copy from device to device: a card
    waits for such a copy only where it has come to a task that needs it.
    """
    used = list(dict.fromkeys(devices))
    kinds = {device.kind for device in used}
    if len(used) == 1:
        with used[0].current():
            for i in range(len(devices)):
                work(i)
    elif kinds == {"cuda"}:
        _run_cards(devices, needs, work, set(crossings))
    elif kinds == {"cpu"}:
        from gpukit.backends.cpu.runtime import twins

        lanes = [[i for i, d in enumerate(devices) if d is device] for device in used]
        twins.run(lanes, needs, work)
    else:
        for i, device in enumerate(devices):
            with device.current():
                work(i)


def _run_cards(
    devices: Sequence[Device],
    needs: Sequence[Collection[int]],
    work: Work,
    crossings: Collection[int],
) -> None:
    from gpukit.device import transfer

    begun: dict[int, list[transfer.Arrival]] = {}  # copies by the tasks that began them
    try:
        for i, device in enumerate(devices):
            for needed in needs[i]:
                for arrival in begun.get(needed, ()):
                    arrival.wait()
            with device.current():
                if i in crossings:
                    with transfer.begun_only() as begun[i]:
                        work(i)
                else:
                    work(i)
    finally:
        for arrivals in begun.values():
            for arrival in arrivals:
                arrival.wait()

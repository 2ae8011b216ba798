"""Memory that worker processes share: the batches that they fill, and the pictures' paths.

Nothing of it has a name: it is gone when the last process that maps it is.
"""

from __future__ import annotations

import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

from gpukit.data.decode import CHANNELS
from gpukit.data.folder import Items

IDLE = -1  # in place of the image that a worker is at


class Memory:
    """The memory that workers fill: for each worker the image it is at, then slots of batches.

    A slot has room for `rows` images uint8 (size, size, 3) and for a shift float32 (3,) of each.
    """

    def __init__(self, fd: int, workers: int, slots: int, rows: int, size: int) -> None:
        pixels = rows * size * size * CHANNELS
        head, self.slot_bytes = 64 * workers, -(-(pixels + rows * CHANNELS * 4) // 64) * 64
        self.nbytes = head + slots * self.slot_bytes
        if os.fstat(fd).st_size < self.nbytes:
            os.ftruncate(fd, self.nbytes)
        memory = mmap.mmap(fd, self.nbytes)
        self._at = np.frombuffer(memory, np.int64, workers * 8)[::8]  # a cache line each
        self._slots = []
        for slot in range(slots):
            start = head + slot * self.slot_bytes
            x = np.frombuffer(memory, np.uint8, pixels, start + rows * CHANNELS * 4)
            shift = np.frombuffer(memory, np.float32, rows * CHANNELS, start)
            self._slots.append(
                (x.reshape(rows, size, size, CHANNELS), shift.reshape(rows, CHANNELS))
            )

    def slot(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """(images, shifts) of a slot."""
        return self._slots[number]

    def at(self, worker: int) -> int:
        """The image that `worker` is reading, or IDLE."""
        return int(self._at[worker])

    def set_at(self, worker: int, index: int) -> None:
        self._at[worker] = index


class Table:
    """Paths and labels of all pictures, in memory that processes share: N, (N,) labels, (N + 1,)
    offsets, all int64, then the bytes of the paths."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        count = int(np.frombuffer(self._memory, np.int64, 1)[0])
        numbers = np.frombuffer(self._memory, np.int64, 2 * count + 2)
        self.labels, self._offsets = numbers[1 : count + 1], numbers[count + 1 :]
        self._start = numbers.nbytes

    def path(self, index: int) -> str:
        """The file of picture `index`."""
        first, last = self._offsets[index : index + 2].tolist()
        return os.fsdecode(self._memory[self._start + first : self._start + last])


def unnamed_file() -> int:
    """A file without a name, in memory where the system has that."""
    if hasattr(os, "memfd_create"):
        return _above_streams(os.memfd_create("gpukit"))
    with tempfile.TemporaryFile() as file:
        return _above_streams(os.dup(file.fileno()))


def _above_streams(descriptor: int) -> int:
    """The same file under a number that no worker has for a stream: this process may have closed
    its own."""
    if descriptor > 2:
        return descriptor
    import fcntl

    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(descriptor)


def write_table(fd: int, items: Items) -> None:
    """Write what `Table` reads to a file."""
    paths = [os.fsencode(items.path(index)) for index in range(len(items))]
    offsets = np.cumsum([0, *map(len, paths)])
    with os.fdopen(os.dup(fd), "wb") as file:
        file.write(np.concatenate([[len(paths)], items.labels, offsets]).astype(np.int64).tobytes())
        file.writelines(paths)

"""The process that decodes pictures for another one; `workers` starts it and speaks with it.

Tasks come on stdin and answers go to stdout, both in the messages defined here. Pixels go into
memory that both processes map; it has no name, so it is gone when the last of them is. Where
stdin ends, because the other process did, so does this one.
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import traceback
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpukit.data.augment import Augment
from gpukit.data.decode import CHANNELS, Decoder
from gpukit.errors import DataError

TASK = struct.Struct(
    "<QIII"
)  # epoch, slot, place of the first image in it, images; then int64 each
ANSWER = struct.Struct("<I")  # bytes of JSON that follow
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
    """Paths and labels of all pictures, in memory that processes share: (N,) labels, (N + 1,)
    offsets, both int64, then the bytes of the paths."""

    def __init__(self, fd: int, count: int) -> None:
        size = os.fstat(fd).st_size
        self._memory = mmap.mmap(fd, size, access=mmap.ACCESS_READ)
        numbers = np.frombuffer(self._memory, np.int64, 2 * count + 1)
        self.labels, self._offsets = numbers[:count], numbers[count:]
        self._start = numbers.nbytes

    def path(self, index: int) -> str:
        """The file of picture `index`."""
        first, last = self._offsets[index : index + 2].tolist()
        return os.fsdecode(self._memory[self._start + first : self._start + last])


def read_exactly(stream: BinaryIO, size: int) -> bytes:
    """`size` bytes; EOFError where there are no more."""
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def main(settings: dict[str, Any]) -> None:
    """Answer tasks until there are no more."""
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    try:
        os.dup2(2, 1)  # whatever else prints, no answer is broken by it
    except OSError:  # stderr is closed
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    me = settings["worker"]
    memory = Memory(settings["memory"], *settings["layout"])
    table = Table(settings["table"], settings["count"])
    augment = Augment.from_config(settings["augment"])
    decoder = Decoder(
        table.path,
        table.labels,
        augment=augment,
        known=settings["known"],
        **settings["decoder"],
    )
    while True:
        try:
            epoch, slot, first, count = TASK.unpack(read_exactly(stdin, TASK.size))
            indices = np.frombuffer(read_exactly(stdin, 8 * count), "<i8").tolist()
        except EOFError:
            return
        x, shift = memory.slot(slot)
        rows = slice(first * augment.views, (first + count) * augment.views)
        answer: dict[str, Any] = {}
        try:
            bad = decoder.fill(
                epoch, indices, x[rows], shift[rows], lambda index: memory.set_at(me, index)
            )
            answer["bad"] = [[b.index, b.reason, b.instead] for b in bad]
        except DataError as error:
            answer["error"] = str(error)
        except MemoryError:
            answer["error"] = f"{table.path(memory.at(me))}: there is not enough memory to read it"
        except Exception:
            answer["fault"] = traceback.format_exc()
        memory.set_at(me, IDLE)
        text = json.dumps(answer).encode()
        try:
            stdout.write(ANSWER.pack(len(text)) + text)
            stdout.flush()
        except BrokenPipeError:
            os._exit(0)  # nobody listens any more, and closing stdout would say so again

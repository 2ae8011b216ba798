"""The process that decodes pictures for another one; `workers` starts it and gives it orders."""

from __future__ import annotations

import traceback
from typing import Any

from gpukit.core import process
from gpukit.data.augment import Augment
from gpukit.data.decode import Decoder
from gpukit.data.shared import IDLE, Memory, Table
from gpukit.errors import DataError


class Worker:
    """Decodes pictures into memory that both processes map."""

    def prepare(
        self, number: int, memory: int, layout: list[int], table: int, augment: Any, **settings: Any
    ) -> dict[str, Any]:
        """Map the files `memory` and `table`; be worker `number`, with a Decoder of `settings`."""
        self.number, self.memory, self.table = number, Memory(memory, *layout), Table(table)
        augment = Augment.from_config(augment)
        self.decoder = Decoder(self.table.path, self.table.labels, augment=augment, **settings)
        return {}

    def read(self, epoch: int, slot: int, first: int, indices: list[int]) -> dict[str, Any]:
        """Read the pictures `indices` into places `first` … of a slot: which were bad, or why all
        of this failed."""
        x, shift = self.memory.slot(slot)
        views = self.decoder.augment.views
        rows = slice(first * views, (first + len(indices)) * views)
        try:
            bad = self.decoder.fill(epoch, indices, x[rows], shift[rows], self._at)
            return {"bad": [[b.index, b.reason, b.instead] for b in bad]}
        except DataError as error:
            return {"error": str(error)}
        except MemoryError:
            path = self.table.path(self.memory.at(self.number))
            return {"error": f"{path}: there is not enough memory to read it"}
        except Exception:
            return {"fault": traceback.format_exc()}
        finally:
            self._at(IDLE)

    def _at(self, index: int) -> None:
        self.memory.set_at(self.number, index)


if __name__ == "__main__":
    worker = Worker()
    # An epoch may be begun in a thread that ends before it.
    process.serve({"prepare": worker.prepare, "read": worker.read}, outlives_thread=True)

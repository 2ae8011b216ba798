"""The base of models: a network, its training, its files and its summary."""

from __future__ import annotations

from gpukit.inspect import summary
from gpukit.model.saving import Saved


class Base(Saved):
    """A network that is trained, saved and shown; Sequential and Model say how it is built."""

    def summary(self) -> None:
        """Print every layer's output shape, units, connections, weights, operations and memory."""
        summary.show(self)

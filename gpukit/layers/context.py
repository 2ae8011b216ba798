"""Seed and step count that key the random numbers of a model's layers."""

from __future__ import annotations

import numpy as np


class Context:
    """The key of layers' random numbers: a seed and the number of training steps done.

    `sample` is the position in the batch of the first sample of the current micro-batch. `streams`
    counts the layers that have a stream of random numbers of their own.
    """

    __slots__ = ("sample", "seed", "step", "streams")

    def __init__(self, seed: int, step: int = 0) -> None:
        self.seed = seed
        self.step = step
        self.sample = 0
        self.streams = 0

    def generator(self, stream: int) -> np.random.Generator:
        """What draws the first values of the layer with `stream`."""
        sequence = np.random.SeedSequence(self.seed, spawn_key=(stream,))
        return np.random.Generator(np.random.PCG64(sequence))

    def new_stream(self) -> int:
        """The number of the next layer."""
        self.streams += 1
        return self.streams - 1

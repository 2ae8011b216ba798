"""Keras's lists of the parameters of a layer or a model."""

from __future__ import annotations

from gpukit.autograd import Parameter


class WeightLists:
    """What follows from `parameters` and `trainable` of a layer or a model."""

    trainable: bool

    @property
    def parameters(self) -> list[Parameter]:
        """All of them."""
        raise NotImplementedError

    @property
    def weights(self) -> list[Parameter]:
        """`parameters`, by Keras's name."""
        return self.parameters

    @property
    def trainable_weights(self) -> list[Parameter]:
        """The parameters that training changes: none where the layer or model is frozen."""
        return [p for p in self.parameters if p.trainable] if self.trainable else []

    @property
    def non_trainable_weights(self) -> list[Parameter]:
        """The parameters that training does not change: frozen ones and moving averages."""
        return [p for p in self.parameters if not (p.trainable and self.trainable)]

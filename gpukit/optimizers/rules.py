"""SGD, RMSprop, Adagrad and Lion: a step in the direction of the gradient, scaled or not."""

from __future__ import annotations

from typing import Any, ClassVar, Unpack

import numpy as np

from gpukit import primitives as p
from gpukit.core.config import extends, flag, number
from gpukit.optimizers.base import Optimizer, Options


class SGD(Optimizer):
    """Gradient descent: v ← momentum·v - lr·g; w ← w + v.

    With `nesterov` w ← w + momentum·v - lr·g, v the new one. Polyak, 1964; Sutskever et al., 2013.
    """

    slot_names = ("velocity",)
    operation = staticmethod(p.sgd_update)

    @extends(Optimizer)
    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.momentum = number("SGD's momentum", momentum, low=0, high=1)
        self.nesterov = flag("nesterov", nesterov)

    def slots_in_use(self) -> tuple[str, ...]:
        return self.slot_names if self.momentum else ()

    def constants(self) -> dict[str, Any]:
        return {"momentum": self.momentum, "nesterov": self.nesterov}


class RMSprop(Optimizer):
    """a ← rho·a + (1 - rho)·g²; w ← w - lr·g/(√a + epsilon). Tieleman and Hinton, 2012.

    With momentum the step goes through a velocity: v ← momentum·v - step; w ← w + v.
    """

    keras_defaults: ClassVar = {**Optimizer.keras_defaults, "centered": (False,)}
    slot_names = ("accumulator", "velocity")
    operation = staticmethod(p.rmsprop_update)

    @extends(Optimizer)
    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: float = 0.9,
        momentum: float = 0.0,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.rho = number("RMSprop's rho", rho, low=0, below=1)
        self.momentum = number("RMSprop's momentum", momentum, low=0, high=1)
        self.epsilon = number("RMSprop's epsilon", epsilon, above=0)

    def slots_in_use(self) -> tuple[str, ...]:
        return self.slot_names if self.momentum else self.slot_names[:1]

    def constants(self) -> dict[str, Any]:
        return {"rho": self.rho, "epsilon": self.epsilon, "momentum": self.momentum}


class Adagrad(Optimizer):
    """a ← a + g²; w ← w - lr·g/(√a + epsilon). Duchi et al., 2011."""

    slot_names = ("accumulator",)
    operation = staticmethod(p.adagrad_update)

    @extends(Optimizer)
    def __init__(
        self,
        learning_rate: Any = 0.001,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.initial_accumulator_value = number(
            "Adagrad's initial_accumulator_value", initial_accumulator_value, low=0
        )
        self.epsilon = number("Adagrad's epsilon", epsilon, above=0)

    def initial(self, slot: str) -> float:
        return self.initial_accumulator_value

    def constants(self) -> dict[str, Any]:
        return {"epsilon": self.epsilon}


class Lion(Optimizer):
    """w ← w - lr·sign(β1·m + (1 - β1)·g), then m ← β2·m + (1 - β2)·g. Chen et al., 2023.

    Composed of array operations, not one fused kernel.
    """

    slot_names = ("m",)

    @extends(Optimizer)
    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.99,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        self.beta_1 = number("Lion's beta_1", beta_1, above=0, high=1)
        self.beta_2 = number("Lion's beta_2", beta_2, low=0, below=1)

    def update(self, w: Any, g: Any, slots: dict[str, Any], rate: float) -> None:
        g, m = self.with_decay(w, g), slots["m"]
        w[...] -= rate * np.sign(self.beta_1 * m + (1 - self.beta_1) * g)
        m[...] = self.beta_2 * m + (1 - self.beta_2) * g

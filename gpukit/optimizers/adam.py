"""Adam and its relatives: means of gradients and of their squares."""

from __future__ import annotations

import math
from typing import Any, Unpack

import numpy as np

from gpukit import primitives as p
from gpukit.core.config import extends, flag, number
from gpukit.optimizers.base import Optimizer, Options


class Adam(Optimizer):
    """w ← w - lr·m̂/(√v̂ + epsilon), m̂ and v̂ bias-corrected means of g and g².

    Kingma and Ba, 2014. With `amsgrad` v̂ is made of the largest v so far (Reddi et al., 2018),
    which is composed of array operations, not one fused kernel.
    """

    slot_names = ("m", "v", "largest")
    operation = staticmethod(p.adam_update)

    @extends(Optimizer)
    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        amsgrad: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        name = type(self).__name__
        self.beta_1 = number(f"{name}'s beta_1", beta_1, low=0, below=1)
        self.beta_2 = number(f"{name}'s beta_2", beta_2, low=0, below=1)
        self.epsilon = number(f"{name}'s epsilon", epsilon, above=0)
        self.amsgrad = flag("amsgrad", amsgrad)

    def constants(self) -> dict[str, Any]:
        constants = {"beta1": self.beta_1, "beta2": self.beta_2, "epsilon": self.epsilon}
        return {**constants, "step": self.iterations + 1}

    def slots_in_use(self) -> tuple[str, ...]:
        return self.slot_names if self.amsgrad else ("m", "v")

    def update(self, w: Any, g: Any, slots: dict[str, Any], rate: float) -> None:
        m, v = slots["m"], slots["v"]
        if not self.amsgrad:
            decay = 0.0 if self.decoupled else self.weight_decay
            self.operation(w, m, v, g, lr=rate, weight_decay=decay, **self.constants())
            return
        g, step, largest = self.with_decay(w, g), self.iterations + 1, slots["largest"]
        follow(m, g, self.beta_1)
        follow(v, np.square(g), self.beta_2)
        np.maximum(largest, v, out=largest)
        root = np.sqrt(largest) / math.sqrt(1 - self.beta_2**step)
        w[...] -= rate / (1 - self.beta_1**step) * m / (root + self.epsilon)


class AdamW(Adam):
    """Adam with decoupled weight decay, 0.004 by default. Loshchilov and Hutter, 2017."""

    @extends(Adam)
    def __init__(
        self,
        learning_rate: Any = 0.001,
        weight_decay: float | None = 0.004,
        **options: Any,
    ) -> None:
        super().__init__(learning_rate, weight_decay=weight_decay, **options)


class _Moments(Optimizer):
    """What Adamax and Nadam take. Composed of array operations, not one fused kernel."""

    @extends(Optimizer)
    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(learning_rate, **options)
        name = type(self).__name__
        self.beta_1 = number(f"{name}'s beta_1", beta_1, low=0, below=1)
        self.beta_2 = number(f"{name}'s beta_2", beta_2, low=0, below=1)
        self.epsilon = number(f"{name}'s epsilon", epsilon, above=0)


class Adamax(_Moments):
    """w ← w - lr·m/((1 - β1^t)·(u + epsilon)), m the mean of g, u ← max(β2·u, |g|).

    Kingma and Ba, 2014, section 7.1. Composed of array operations, not one fused kernel.
    """

    slot_names = ("m", "u")

    def update(self, w: Any, g: Any, slots: dict[str, Any], rate: float) -> None:
        g, m, u = self.with_decay(w, g), slots["m"], slots["u"]
        follow(m, g, self.beta_1)
        np.maximum(self.beta_2 * u, np.abs(g), out=u)
        w[...] -= rate / (1 - self.beta_1 ** (self.iterations + 1)) * m / (u + self.epsilon)


class Nadam(_Moments):
    """Adam with Nesterov's momentum; β1 rises as β1·(1 - 0.96^t/2). Dozat, 2016.

    Composed of array operations, not one fused kernel.
    """

    slot_names = ("m", "v")
    _product = (0, 1.0)  # steps, and the product of β1 over them

    def update(self, w: Any, g: Any, slots: dict[str, Any], rate: float) -> None:
        g, m, v, step = self.with_decay(w, g), slots["m"], slots["v"], self.iterations + 1
        now, after, product = self._momentum(step), self._momentum(step + 1), self._until(step)
        follow(m, g, self.beta_1)
        follow(v, np.square(g), self.beta_2)
        mean = after / (1 - product * after) * m + (1 - now) / (1 - product) * g
        root = np.sqrt(v / (1 - self.beta_2**step))
        w[...] -= rate * mean / (root + self.epsilon)

    def _momentum(self, step: int) -> float:
        return self.beta_1 * (1 - 0.5 * 0.96**step)

    def _until(self, step: int) -> float:
        """The product of `_momentum` over steps 1 … step, multiplied in this order."""
        done, product = self._product if self._product[0] <= step else (0, 1.0)
        for s in range(done + 1, step + 1):
            product *= self._momentum(s)
        self._product = step, product
        return product


def follow(mean: Any, values: Any, beta: float) -> None:
    """mean ← beta·mean + (1 - beta)·values, in place."""
    mean *= beta
    mean += (1 - beta) * values

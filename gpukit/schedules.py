"""Learning-rate schedules: functions of the step or epoch number.

Given to an optimiser as its `learning_rate`, a schedule is a function of the number of steps done;
given to the callback LearningRateScheduler it is one of the epoch, from 0. The lengths below are
in that unit.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from gpukit.core.config import Configurable, Family, flag, number, show, whole
from gpukit.errors import SettingError


class Schedule(Configurable):
    """Base of all schedules: called with the number of steps (or epochs) done."""

    def __call__(self, step: int) -> float:
        raise NotImplementedError


class Constant(Schedule):
    """Always `learning_rate`."""

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = number("learning_rate", learning_rate, low=0)

    def __call__(self, step: int) -> float:
        return self.learning_rate


class StepDecay(Schedule):
    """learning_rate · factor^⌊step / every⌋: AlexNet's division by 10, for one."""

    def __init__(self, learning_rate: float, every: int, factor: float = 0.1) -> None:
        self.learning_rate = number("learning_rate", learning_rate, low=0)
        self.every = whole("every", every)
        self.factor = number("factor", factor, low=0)

    def __call__(self, step: int) -> float:
        return self.learning_rate * self.factor ** (int(step) // self.every)


class ExponentialDecay(Schedule):
    """learning_rate · decay_rate^(step / decay_steps); `staircase` floors the exponent."""

    def __init__(
        self, learning_rate: float, decay_steps: int, decay_rate: float, staircase: bool = False
    ) -> None:
        self.learning_rate = number("learning_rate", learning_rate, low=0)
        self.decay_steps = whole("decay_steps", decay_steps)
        self.decay_rate = number("decay_rate", decay_rate, above=0)
        self.staircase = flag("staircase", staircase)

    def __call__(self, step: int) -> float:
        exponent = step // self.decay_steps if self.staircase else step / self.decay_steps
        return self.learning_rate * self.decay_rate**exponent


class CosineDecay(Schedule):
    """Half a cosine from learning_rate down to alpha·learning_rate in `decay_steps`, then flat.

    `warmup_steps` rise linearly from 0 before it. Loshchilov and Hutter, 2016.
    """

    def __init__(
        self, learning_rate: float, decay_steps: int, alpha: float = 0.0, warmup_steps: int = 0
    ) -> None:
        self.learning_rate = number("learning_rate", learning_rate, low=0)
        self.decay_steps = whole("decay_steps", decay_steps)
        self.alpha = number("alpha", alpha, low=0, high=1)
        self.warmup_steps = whole("warmup_steps", warmup_steps, low=0)

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return self.learning_rate * step / self.warmup_steps
        done = min((step - self.warmup_steps) / self.decay_steps, 1.0)
        share = (1 + math.cos(math.pi * done)) / 2
        return self.learning_rate * ((1 - self.alpha) * share + self.alpha)


class PiecewiseConstant(Schedule):
    """values[i] up to and including boundaries[i], values[-1] after the last of them."""

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]) -> None:
        for name, given in (("boundaries", boundaries), ("values", values)):
            if not isinstance(given, (tuple, list)):
                raise SettingError(f"{name}={show(given)}: use a list of numbers")
        self.boundaries = tuple(whole("boundaries", b, low=0) for b in boundaries)
        self.values = tuple(number("values", v, low=0) for v in values)
        if len(self.values) != len(self.boundaries) + 1:
            raise SettingError(
                f"{len(self.boundaries)} boundaries need {len(self.boundaries) + 1} values, got "
                f"{len(self.values)}"
            )
        if list(self.boundaries) != sorted(set(self.boundaries)):
            raise SettingError(f"boundaries={list(self.boundaries)}: use rising numbers")

    def __call__(self, step: int) -> float:
        return self.values[bisect.bisect_left(self.boundaries, step)]


_family = Family[Schedule]("schedule", Schedule)
_family.add(Constant, StepDecay, ExponentialDecay, CosineDecay, PiecewiseConstant)

get = _family.get
from_config = _family.from_config
register = _family.register

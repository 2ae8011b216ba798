"""Learning-rate schedules: functions of the step or epoch number.

Given to an optimiser as its `learning_rate`, a schedule is a function of the number of steps done;
given to the callback LearningRateScheduler it is one of the epoch, from 0. The lengths below are
in that unit.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from gpukit.core.config import Configurable, Family, flag, number, show, text, whole
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


class _Decay(Schedule):
    """From `initial_learning_rate` down. `name` is Keras's, and only kept."""

    def __init__(self, initial_learning_rate: float, name: str | None = None) -> None:
        self.initial_learning_rate = number("initial_learning_rate", initial_learning_rate, low=0)
        self.name = None if name is None else text("name", name)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        # Files of earlier versions call the initial rate learning_rate.
        names = {"learning_rate": "initial_learning_rate"}
        return super().from_config({names.get(k, k): v for k, v in config.items()})


class ExponentialDecay(_Decay):
    """initial_learning_rate · decay_rate^(step / decay_steps); `staircase` floors the exponent."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(initial_learning_rate, name)
        self.decay_steps = whole("decay_steps", decay_steps)
        self.decay_rate = number("decay_rate", decay_rate, above=0)
        self.staircase = flag("staircase", staircase)

    def __call__(self, step: int) -> float:
        exponent = step // self.decay_steps if self.staircase else step / self.decay_steps
        return self.initial_learning_rate * self.decay_rate**exponent


class InverseTimeDecay(_Decay):
    """initial_learning_rate / (1 + decay_rate · step / decay_steps); `staircase` floors the
    quotient of steps."""

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        decay_rate: float,
        staircase: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(initial_learning_rate, name)
        self.decay_steps = whole("decay_steps", decay_steps)
        self.decay_rate = number("decay_rate", decay_rate, low=0)
        self.staircase = flag("staircase", staircase)

    def __call__(self, step: int) -> float:
        done = step // self.decay_steps if self.staircase else step / self.decay_steps
        return self.initial_learning_rate / (1 + self.decay_rate * done)


class PolynomialDecay(_Decay):
    """From the initial to the end rate as (1 - step / decay_steps)^power, then flat.

    With `cycle` decay_steps grows instead to the next multiple of itself beyond the step.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        end_learning_rate: float = 0.0001,
        power: float = 1.0,
        cycle: bool = False,
        name: str | None = None,
    ) -> None:
        super().__init__(initial_learning_rate, name)
        self.decay_steps = whole("decay_steps", decay_steps)
        self.end_learning_rate = number("end_learning_rate", end_learning_rate, low=0)
        self.power = number("power", power, above=0)
        self.cycle = flag("cycle", cycle)

    def __call__(self, step: int) -> float:
        cycles = max(math.ceil(step / self.decay_steps), 1) if self.cycle else 1
        left = 1 - min(step / (self.decay_steps * cycles), 1.0)
        span = self.initial_learning_rate - self.end_learning_rate
        return span * left**self.power + self.end_learning_rate


class CosineDecay(_Decay):
    """Half a cosine from the top rate down to alpha·top in `decay_steps`, then flat.

    `warmup_steps` rise linearly before it: from initial_learning_rate to the top `warmup_target`,
    or, without that, from 0 to the top initial_learning_rate. Loshchilov and Hutter, 2016.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        decay_steps: int,
        alpha: float = 0.0,
        name: str | None = None,
        warmup_target: float | None = None,
        warmup_steps: int = 0,
    ) -> None:
        super().__init__(initial_learning_rate, name)
        self.decay_steps = whole("decay_steps", decay_steps)
        self.alpha = number("alpha", alpha, low=0, high=1)
        self.warmup_target = (
            None if warmup_target is None else number("warmup_target", warmup_target, low=0)
        )
        self.warmup_steps = whole("warmup_steps", warmup_steps, low=0)

    def __call__(self, step: int) -> float:
        start, top = 0.0, self.initial_learning_rate
        if self.warmup_target is not None:
            start, top = top, self.warmup_target
        if step < self.warmup_steps:
            return start + (top - start) * step / self.warmup_steps
        done = min((step - self.warmup_steps) / self.decay_steps, 1.0)
        return top * _cosine(done, self.alpha)


class CosineDecayRestarts(_Decay):
    """Half cosines one after the other: the first in `first_decay_steps`, each t_mul times as long
    as the one before and from m_mul times its rate, all down to alpha·initial_learning_rate.

    Loshchilov and Hutter, 2016.
    """

    def __init__(
        self,
        initial_learning_rate: float,
        first_decay_steps: int,
        t_mul: float = 2.0,
        m_mul: float = 1.0,
        alpha: float = 0.0,
        name: str | None = None,
    ) -> None:
        super().__init__(initial_learning_rate, name)
        self.first_decay_steps = whole("first_decay_steps", first_decay_steps)
        self.t_mul = number("t_mul", t_mul, low=1)
        self.m_mul = number("m_mul", m_mul, above=0)
        self.alpha = number("alpha", alpha, low=0, high=1)

    def __call__(self, step: int) -> float:
        restarts, left, length = 0, float(step), float(self.first_decay_steps)
        if self.t_mul == 1:
            restarts, left = int(left // length), left % length
        while left >= length:
            restarts, left, length = restarts + 1, left - length, length * self.t_mul
        return self.initial_learning_rate * _cosine(left / length, self.alpha, self.m_mul**restarts)


def _cosine(done: float, alpha: float, top: float = 1.0) -> float:
    """From `top` at done = 0 down to `alpha` at done = 1, along half a cosine."""
    share = (1 + math.cos(math.pi * done)) / 2
    return (1 - alpha) * top * share + alpha


class PiecewiseConstantDecay(Schedule):
    """values[i] up to and including boundaries[i], values[-1] after the last of them."""

    def __init__(
        self, boundaries: Sequence[int], values: Sequence[float], name: str | None = None
    ) -> None:
        self.name = None if name is None else text("name", name)
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
_family.add(
    Constant,
    StepDecay,
    ExponentialDecay,
    InverseTimeDecay,
    PolynomialDecay,
    CosineDecay,
    CosineDecayRestarts,
    PiecewiseConstantDecay,
)
_family.classes["PiecewiseConstant"] = PiecewiseConstantDecay  # its name in earlier files

LearningRateSchedule = Schedule  # Keras's name
PiecewiseConstant = PiecewiseConstantDecay

get = _family.get
from_config = _family.from_config
register = _family.register

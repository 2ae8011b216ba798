import json

import pytest

from gpukit import schedules
from gpukit.errors import CheckpointError, SettingError


@pytest.mark.parametrize(
    ("schedule", "points"),
    [
        (schedules.Constant(0.1), {0: 0.1, 1000: 0.1}),
        (schedules.StepDecay(0.1, every=10), {0: 0.1, 9: 0.1, 10: 0.01, 25: 0.001}),
        (schedules.ExponentialDecay(0.1, 10, 0.5), {0: 0.1, 5: 0.1 * 0.5**0.5, 20: 0.025}),
        (schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True), {9: 0.1, 10: 0.05}),
        (schedules.CosineDecay(0.1, 100), {0: 0.1, 50: 0.05, 100: 0, 500: 0}),
        (schedules.CosineDecay(0.1, 100, alpha=0.1), {0: 0.1, 50: 0.055, 200: 0.01}),
        (schedules.CosineDecay(0.1, 100, warmup_steps=10), {0: 0, 5: 0.05, 10: 0.1, 60: 0.05}),
        (schedules.PiecewiseConstant([3, 6], [1, 0.5, 0.1]), {0: 1, 3: 1, 4: 0.5, 6: 0.5, 7: 0.1}),
    ],
)
def test_values_and_config(schedule, points):
    again = schedules.get(json.loads(json.dumps(schedule.get_config())))
    for step, rate in points.items():
        assert schedule(step) == pytest.approx(rate, abs=1e-15)
        assert again(step) == schedule(step)


@pytest.mark.parametrize(
    "make",
    [
        lambda: schedules.Constant(float("nan")),
        lambda: schedules.StepDecay(0.1, every=0),
        lambda: schedules.ExponentialDecay(0.1, 10, 0),
        lambda: schedules.CosineDecay(-0.1, 10),
        lambda: schedules.PiecewiseConstant([1], [0.1]),
        lambda: schedules.PiecewiseConstant([2, 1], [0.1, 0.2, 0.3]),
        lambda: schedules.get(0.1),
    ],
)
def test_mistakes(make):
    with pytest.raises(SettingError):
        make()


def test_unknown_class():
    with pytest.raises(CheckpointError):
        schedules.get({"class": "Never"})

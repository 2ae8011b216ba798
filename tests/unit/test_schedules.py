import json
import math

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
        (
            schedules.CosineDecay(0.1, 100, warmup_target=0.5, warmup_steps=10),
            {0: 0.1, 5: 0.3, 10: 0.5, 60: 0.25, 110: 0},
        ),
        (schedules.InverseTimeDecay(0.1, 10, 0.5), {0: 0.1, 5: 0.1 / 1.25, 20: 0.05}),
        (schedules.InverseTimeDecay(0.1, 10, 0.5, staircase=True), {9: 0.1, 10: 0.1 / 1.5}),
        (schedules.PolynomialDecay(0.1, 10, 0.02), {0: 0.1, 5: 0.06, 10: 0.02, 50: 0.02}),
        (schedules.PolynomialDecay(0.1, 10, 0.0, power=2.0), {5: 0.025}),
        (schedules.PolynomialDecay(0.1, 10, 0.0, cycle=True), {0: 0.1, 10: 0, 15: 0.025, 20: 0}),
        (schedules.CosineDecayRestarts(0.1, 10), {0: 0.1, 5: 0.05, 10: 0.1, 20: 0.05, 30: 0.1}),
        (
            schedules.CosineDecayRestarts(0.1, 10, t_mul=1.0, m_mul=0.5, alpha=0.2),
            {0: 0.1, 5: 0.06, 10: 0.06, 15: 0.04, 20: 0.04},
        ),
        (
            schedules.PiecewiseConstantDecay([3, 6], [1, 0.5, 0.1]),
            {0: 1, 3: 1, 4: 0.5, 6: 0.5, 7: 0.1},
        ),
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


@pytest.mark.parametrize(("t_mul", "m_mul"), [(1.0, 1.0), (2.0, 1.0), (1.5, 0.7)])
def test_restarts_follow_keras_formula(t_mul, m_mul):
    schedule = schedules.CosineDecayRestarts(0.3, 10, t_mul, m_mul, alpha=0.1)
    for step in (*range(1, 10), 17, 33, 59, 81):
        done = step / 10
        if t_mul == 1:
            restart = math.floor(done)
            done -= restart
        else:
            restart = math.floor(math.log(1 - done * (1 - t_mul)) / math.log(t_mul))
            done = (done - (1 - t_mul**restart) / (1 - t_mul)) / t_mul**restart
        cosine = 0.5 * m_mul**restart * (1 + math.cos(math.pi * done))
        assert schedule(step) == pytest.approx(0.3 * (0.9 * cosine + 0.1), rel=1e-12)


def test_files_of_earlier_versions_name_the_rate_otherwise():
    old = {"class": "CosineDecay", "learning_rate": 0.1, "decay_steps": 10, "alpha": 0.0}
    assert schedules.get(old)(5) == schedules.CosineDecay(0.1, 10)(5)
    pieces = schedules.get({"class": "PiecewiseConstant", "boundaries": [3], "values": [1, 0.5]})
    assert pieces(4) == 0.5 and pieces.get_config()["class"] == "PiecewiseConstantDecay"


def test_keras_argument_names_and_places():
    import gpukit

    rate = gpukit.optimizers.schedules.ExponentialDecay(
        initial_learning_rate=0.1, decay_steps=10, decay_rate=0.5, name="rate"
    )
    assert gpukit.optimizers.SGD(learning_rate=rate).learning_rate == 0.1
    assert issubclass(type(rate), gpukit.optimizers.schedules.LearningRateSchedule)


def test_unknown_class():
    with pytest.raises(CheckpointError):
        schedules.get({"class": "Never"})

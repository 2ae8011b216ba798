"""Constructors that hand options on: what users see of them is the whole list."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest

from gpukit import initializers, layers, models, optimizers
from gpukit.core.config import Configurable, Family, extends
from gpukit.errors import SettingError
from gpukit.layers import Conv2D, Dense
from gpukit.optimizers import SGD, Optimizer


class Base(Configurable):
    def __init__(self, name: str = "b", size: int = 1) -> None:
        self.name, self.size = name, size


class Derived(Base):
    @extends(Base, last=("name",))
    def __init__(self, rate: float, *, extra: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.rate, self.extra = rate, extra


def test_signatures_show_own_arguments_then_those_of_the_base():
    assert str(inspect.signature(Derived)) == (
        "(rate: 'float', size: 'int' = 1, extra: 'bool' = False, name: 'str' = 'b') -> 'None'"
    )
    names = [*inspect.signature(Conv2D).parameters]
    assert names[:8] == [
        *("filters", "kernel_size", "strides", "padding", "dilation_rate", "groups"),
        *("activation", "use_bias"),
    ]
    assert names[-6:] == ["algo", "strict", "name", "input_shape", "dtype", "trainable"]
    assert str(inspect.signature(SGD)).endswith("decoupled: 'bool' = True, "
                                                "**aliases: 'Any') -> 'None'")  # fmt: skip


def test_arguments_come_by_position_and_by_name():
    made = Derived(0.5, 3, True, "x")
    assert (made.rate, made.size, made.extra, made.name) == (0.5, 3, True, "x")
    assert Derived.from_config(made.get_config()).get_config() == made.get_config()
    assert Dense(3, "relu", False, "ones").kernel_initializer.get_config()["class"] == "Ones"
    assert SGD(0.1, 0.9, False, 1e-4, None, 2.0).clipvalue == 2.0
    assert SGD(lr=0.3).learning_rate == 0.3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Dense(3, unit=4), "Dense() has no argument 'unit'; did you mean units?"),
        (lambda: SGD(momentun=4), "SGD() has no argument 'momentun'; did you mean momentum?"),
        (
            lambda: Conv2D(8, kernelsize=3),
            "Conv2D() has no argument 'kernelsize'; did you mean kernel_size?",
        ),
        (
            lambda: initializers.Constant(valu=3),
            "Constant() has no argument 'valu'; did you mean value?",
        ),
        (lambda: initializers.Zeros(colour=3), "Zeros() has no argument 'colour'; it takes none"),
        (lambda: Dense(), "Dense() missing a required argument: 'units'"),
        (lambda: Dense(3, units=4), "Dense() multiple values for argument 'units'"),
        (lambda: Derived(1, 2, 3, 4, 5), "Derived() too many positional arguments"),
    ],
)
def test_wrong_arguments_name_the_class_that_was_called(make, message):
    with pytest.raises(TypeError) as caught:
        make()
    assert str(caught.value) == message


def test_every_optimiser_has_the_options_of_the_base():
    shared = set(inspect.signature(Optimizer).parameters) - {"learning_rate"}
    made = [m for m in vars(optimizers).values() if isinstance(m, type) and m is not Family]
    assert len(made) == 9
    for optimizer in made:
        assert shared <= set(inspect.signature(optimizer).parameters) | {"learning_rate"}


def test_arguments_at_keras_defaults_are_taken_and_refused_at_other_values():
    for make in (
        lambda value: Conv2D(8, 3, data_format=value),
        lambda value: layers.MaxPooling2D(data_format=value),
        lambda value: layers.Flatten(data_format=value),
    ):
        for value in (None, "channels_last"):
            assert make(value).get_config().get("data_format") is None
        with pytest.raises(SettingError, match="data_format='channels_first': gpukit has"):
            make("channels_first")
    assert layers.BatchNormalization(axis=-1).momentum == 0.99
    with pytest.raises(SettingError, match=r"BatchNormalization: axis=1: gpukit has axis=-1 alone"):
        layers.BatchNormalization(axis=1)
    assert SGD(use_ema=False, momentum=0.5).momentum == 0.5
    with pytest.raises(SettingError, match="centered=True"):
        optimizers.RMSprop(centered=True)


def test_batch_size_none_is_the_default():
    model = models.Sequential([Dense(2, input_shape=(3,))])
    model.compile("sgd", "mse")
    x, y = np.zeros((4, 3), np.float32), np.zeros((4, 2), np.float32)
    model.fit(x, y, batch_size=None, verbose=0)
    assert model.evaluate(x, y, batch_size=None) == model.evaluate(x, y)
    assert model.predict(x, batch_size=None).shape == (4, 2)

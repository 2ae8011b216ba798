"""Refuses what a subclass of a model holds or defines that no model would train or save."""

from __future__ import annotations

from gpukit.autograd import Tensor
from gpukit.errors import SettingError
from gpukit.graph.network import Network
from gpukit.layers.base import Layer
from gpukit.layers.tracking import held_by


def refuse_call(cls: type[Network]) -> None:
    """Say how a model is written here, where it is written as a subclass with a `call`."""
    if "call" in vars(cls):
        raise SettingError(
            f"{cls.__name__}: a model has no call of its own; derive from gpukit.layers.Layer, "
            f"which may hold layers and models, and train Sequential([{cls.__name__}()])"
        )


def refuse_untrained(model: Network) -> None:
    """Refuse layers and leaf Tensors in attributes that are no part of the model, nor of another.

    Other models in attributes are whole by themselves: a `train_step` may train them.
    """
    own = {id(one) for one in (*model.every_layer(), *model.parameters)}
    for place, value in held_by(model):
        stray = isinstance(value, Tensor) or (isinstance(value, Layer) and value.context is None)
        if stray and id(value) not in own:
            what = value.label if isinstance(value, Layer) else "a Tensor that requires a gradient"
            raise SettingError(
                f"{model.name}: its attribute {place!r} is {what}, which is no part of the model: "
                "it would be neither trained nor saved; use it between inputs and outputs, or in a "
                "layer of your own"
            )


def refuse_unsaved(model: Network) -> None:
    """`refuse_untrained`, and models in attributes, which no file of this one would hold."""
    refuse_untrained(model)
    for place, value in held_by(model):
        if isinstance(value, Network):
            raise SettingError(
                f"{model.name}: its attribute {place!r} is the model {value.name!r}, which is not "
                "saved with it; save each by itself, with save_weights or save"
            )

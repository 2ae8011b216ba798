"""The base of optimisers: rate, clipping, weight decay, and what is remembered of parameters."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self, TypedDict
from weakref import WeakKeyDictionary

import numpy as np

from gpukit import schedules
from gpukit.autograd import Parameter, Tensor
from gpukit.autograd.buffer import ParameterBuffer
from gpukit.core.config import Configurable, described, flag, number, unknown_argument
from gpukit.device import device_of, to_host
from gpukit.errors import CheckpointError, SettingError

PREFIX = "optimizer"


@dataclass
class _Slots:
    """What an optimiser remembers of one parameter buffer: arrays as long as its weights."""

    parameters: list[Tensor]
    names: list[str]
    slices: list[slice]
    arrays: dict[str, Any]

    def are_of(self, parameters: Sequence[Tensor]) -> bool:
        """Whether these are the parameters."""
        own = self.parameters
        return len(own) == len(parameters) and all(map(operator.is_, own, parameters))


class Options(TypedDict, total=False):
    """What every optimiser takes beside its rate and constants (see `Optimizer`)."""

    weight_decay: float | None
    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    decoupled: bool
    lr: Any


class Optimizer(Configurable):
    """Base of all optimisers.

    `learning_rate` is a number or a `gpukit.schedules` schedule of the steps done. At most one of
    the clippings: `clipnorm` bounds the norm of each parameter's gradient (of each shard's, where a
    layer is split), `global_clipnorm` that of all of them together, `clipvalue` each value.
    `iterations` counts the steps.

    What is remembered of a parameter that is frozen stays as it is, also in files, and is taken up
    again where it is trained again. A parameter that joins later begins with empty slots at the
    count of steps that is reached.
    """

    keras_defaults: ClassVar[Mapping[str, Sequence[Any]]] = {
        "use_ema": (False,),
        "ema_momentum": (0.99,),
        "ema_overwrite_frequency": (None,),
        "loss_scale_factor": (None,),
        "gradient_accumulation_steps": (None,),
    }
    slot_names: tuple[str, ...] = ()
    operation: Callable[..., Any]

    def __init__(
        self,
        learning_rate: Any,
        weight_decay: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        global_clipnorm: float | None = None,
        decoupled: bool = True,
        **aliases: Any,
    ) -> None:
        name = type(self).__name__
        for alias in aliases:
            if alias != "lr":
                known = [*inspect.signature(type(self)).parameters][:-1]
                raise TypeError(unknown_argument(name, alias, known))
        if isinstance(rate := aliases.get("lr", learning_rate), (schedules.Schedule, Mapping)):
            self._schedule: schedules.Schedule | None = schedules.get(rate)
            self._rate = 0.0
        else:
            self._schedule = None
            self._rate = number(f"{name}'s learning_rate", rate, above=0)
        self.weight_decay = _decay(name, weight_decay)
        self.decoupled = flag("decoupled", decoupled)
        self.clipnorm = _limit(f"{name}'s clipnorm", clipnorm)
        self.clipvalue = _limit(f"{name}'s clipvalue", clipvalue)
        self.global_clipnorm = _limit(f"{name}'s global_clipnorm", global_clipnorm)
        if sum(c is not None for c in (clipnorm, clipvalue, global_clipnorm)) > 1:
            raise SettingError(f"{name}: use one of clipnorm, clipvalue and global_clipnorm")
        self.iterations = 0
        self._slots: WeakKeyDictionary[Tensor, _Slots] = WeakKeyDictionary()
        self._loaded: dict[str, Any] = {}
        self._loaded_some = False

    @property
    def learning_rate(self) -> float:
        """The rate of the next step; may be set unless a schedule gives it."""
        if self._schedule is None:
            return self._rate
        name = f"the rate of {type(self._schedule).__name__} after {self.iterations} steps"
        return number(name, self._schedule(self.iterations), low=0)

    @learning_rate.setter
    def learning_rate(self, rate: float) -> None:
        if self._schedule is not None:
            raise SettingError(
                f"the learning rate of this {type(self).__name__} follows the "
                f"schedule {type(self._schedule).__name__}; give it a number to change it from "
                "outside"
            )
        self._rate = number(f"{type(self).__name__}'s learning_rate", rate, low=0)

    lr = learning_rate

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        if self._schedule is not None:
            config["learning_rate"] = described(self._schedule)
        return config

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        # Before there was `decoupled`, weight decay went into the gradient.
        older = config.get("weight_decay") and "decoupled" not in config
        return super().from_config({**config, "decoupled": False} if older else config)

    def step(self, target: Any) -> None:
        """Update a model, or leaf Tensors, from their gradients. Tensors without one stay."""
        buffers = _buffers(target)
        factor = self._global_factor(buffers)
        rate = self.learning_rate
        for buffer in buffers:
            with device_of(buffer.weights).current():
                grad = self._clipped(buffer, factor)
                if self.decoupled and self.weight_decay:
                    buffer.weights[...] *= 1 - rate * self.weight_decay
                self.update(buffer.weights, grad, self._slots_of(buffer).arrays, rate)
            buffer.changed()
        self.iterations += 1

    def update(self, w: Any, g: Any, slots: dict[str, Any], rate: float) -> None:
        """Change the weights w (1-D) and the slots in place; g must stay as it is.

        By the primitive `operation`, unless overridden.
        """
        arrays = [slots.get(slot) for slot in self.slot_names]
        decay = 0.0 if self.decoupled else self.weight_decay
        self.operation(w, *arrays, g, lr=rate, weight_decay=decay, **self.constants())

    def with_decay(self, w: Any, g: Any) -> Any:
        """The gradient with the weight decay that is not decoupled, for an `update` of arrays."""
        return g if self.decoupled or not self.weight_decay else g + self.weight_decay * w

    def constants(self) -> dict[str, Any]:
        """What `operation` takes of the next step beside its rate and weight decay."""
        raise NotImplementedError

    def initial(self, slot: str) -> float:
        """What a slot holds before the first step."""
        return 0.0

    def state(self) -> dict[str, np.ndarray]:
        """Everything a checkpoint needs to go on exactly: host copies, by name.

        "optimizer/iterations", "optimizer/learning_rate" and, for each parameter and slot,
        "optimizer/<layer>/<parameter>/<slot>" in the shape of the parameter.
        """
        state = dict(self._loaded)
        state.update((name, np.array(to_host(array))) for name, array in self.slot_arrays())
        state[f"{PREFIX}/iterations"] = np.asarray(self.iterations, np.int64)
        state[f"{PREFIX}/learning_rate"] = np.asarray(self.learning_rate, np.float64)
        return state

    def load_state(self, state: Mapping[str, Any], some: bool = False) -> None:
        """Go on from what `state` gave; other names than "optimizer/…" are passed over.

        Slots are filled at the next step, when the parameters are known; CheckpointError comes
        then if they do not fit. With `some`, parameters that `state` does not have, because they
        were frozen, begin anew.
        """
        loaded = {k: np.asarray(v) for k, v in state.items() if k.startswith(f"{PREFIX}/")}
        try:
            self.iterations = int(loaded.pop(f"{PREFIX}/iterations"))
            rate = float(loaded.pop(f"{PREFIX}/learning_rate"))
        except KeyError as error:
            raise CheckpointError(f"the optimiser's state lacks {error.args[0]!r}") from None
        if self._schedule is None:
            self.learning_rate = rate
        self._slots.clear()
        self._loaded, self._loaded_some = loaded, some

    def slot_arrays(self) -> Iterator[tuple[str, Any]]:
        """Name and array of all that is remembered of parameters, in their shapes and on their
        devices."""
        for slots in self._slots.values():
            for slot, array in slots.arrays.items():
                for name, place, parameter in zip(slots.names, slots.slices, slots.parameters):
                    yield f"{PREFIX}/{name}/{slot}", array[place].reshape(parameter.shape)

    def keep(self) -> Callable[[], None]:
        """A function that brings back what the optimiser remembers now."""
        plain = {**vars(self), "_loaded": dict(self._loaded)}
        del plain["_slots"]
        kept = {
            owner: (slots, {slot: array.copy() for slot, array in slots.arrays.items()})
            for owner, slots in self._slots.items()
        }

        def bring_back() -> None:
            self.__dict__.update(plain)
            self._slots.clear()
            for owner, (slots, arrays) in kept.items():
                self._slots[owner] = slots
                for slot, array in arrays.items():
                    slots.arrays[slot][...] = array

        return bring_back

    def _slots_of(self, buffer: ParameterBuffer) -> _Slots:
        # By the first parameter: a model may make its buffers anew, not its parameters.
        slots = self._slots.get(buffer.parameters[0])
        if slots is None or not slots.are_of(buffer.parameters):
            self._take_apart(buffer)
            slots = self._make_slots(buffer)
            self._slots[buffer.parameters[0]] = slots
        return slots

    def _take_apart(self, buffer: ParameterBuffer) -> None:
        """Keep by itself what is remembered of each parameter that shared a buffer with one of
        `buffer`: parameters were frozen, or are trained again."""
        members = {id(parameter) for parameter in buffer.parameters}
        for owner, slots in list(self._slots.items()):
            if members.isdisjoint(map(id, slots.parameters)):
                continue
            del self._slots[owner]
            for name, place, parameter in zip(slots.names, slots.slices, slots.parameters):
                arrays = {slot: array[place].copy() for slot, array in slots.arrays.items()}
                whole = slice(0, parameter.size)
                self._slots[parameter] = _Slots([parameter], [name], [whole], arrays)

    def _make_slots(self, buffer: ParameterBuffer) -> _Slots:
        names = [
            parameter.name if isinstance(parameter, Parameter) else buffer.name
            for parameter in buffer.parameters
        ]
        arrays = {slot: np.zeros_like(buffer.weights) for slot in self.slots_in_use()}
        for slot, array in arrays.items():
            if first := self.initial(slot):
                array[...] = first
        expected = bool(self._loaded) and not self._loaded_some
        for name, place, parameter in zip(names, buffer.slices, buffer.parameters):
            kept = self._slots.pop(parameter, None)
            for slot, array in arrays.items():
                if kept is not None:
                    array[place] = kept.arrays[slot]
                    continue
                key = f"{PREFIX}/{name}/{slot}"
                value = self._loaded.pop(key, None)
                if value is None and expected:
                    raise CheckpointError(f"the optimiser's state lacks {key!r}")
                if value is not None:
                    if tuple(value.shape) != parameter.shape:
                        raise CheckpointError(
                            f"{key} has shape {tuple(value.shape)}, the model {parameter.shape}"
                        )
                    flat_value = np.ascontiguousarray(value, buffer.weights.dtype).reshape(-1)
                    array[place] = device_of(buffer.weights).asarray(flat_value)
        return _Slots(list(buffer.parameters), names, list(buffer.slices), arrays)

    def __getstate__(self) -> dict[str, Any]:
        """What copies and pickles hold; slots belong to the parameters copied with them."""
        return {**vars(self), "_slots": list(self._slots.items())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _slots=WeakKeyDictionary(state["_slots"]))

    def slots_in_use(self) -> tuple[str, ...]:
        """The slots that these settings need."""
        return self.slot_names

    def _global_factor(self, buffers: list[ParameterBuffer]) -> float | None:
        """The factor to which `global_clipnorm` shortens all gradients; None where it does not."""
        if self.global_clipnorm is None:
            return None
        squares = [_square_sum(buffer.grads) for buffer in buffers]  # on every device, then fetched
        norm = sum(float(to_host(square)) for square in squares) ** 0.5
        return self.global_clipnorm / norm if norm > self.global_clipnorm else None

    def _clipped(self, buffer: ParameterBuffer, factor: float | None) -> Any:
        """Gradients of `buffer` as `update` takes them; `factor` is that of `_global_factor`."""
        g = buffer.grads
        if self.clipvalue is not None:
            return np.clip(g, -self.clipvalue, self.clipvalue)
        if factor is not None:
            return g * factor
        if self.clipnorm is not None:
            g = g.copy()
            for place in buffer.slices:
                norm = float(to_host(_square_sum(g[place]))) ** 0.5
                if norm > self.clipnorm:
                    g[place] = g[place] * (self.clipnorm / norm)
        return g


def _buffers(target: Any) -> list[ParameterBuffer]:
    """The parameter buffers of a model, their gradients complete; one for each tensor of a list."""
    if hasattr(target, "parameter_buffers"):
        buffers = target.parameter_buffers()
        for buffer in buffers:
            buffer.gather_grads()
        return buffers
    tensors: Iterable[Any] = [target] if isinstance(target, Tensor) else target
    if not isinstance(tensors, Iterable):
        raise SettingError(
            f"step was given a {type(target).__name__}; pass a model, or a list of Tensors such as "
            "a layer's parameters"
        )
    buffers = []
    for i, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise SettingError(
                f"step was given a {type(tensor).__name__}; pass a model or a list of Tensors made "
                "with requires_grad=True"
            )
        if not tensor.is_leaf and not isinstance(tensor, Parameter):
            way_out = "step takes what operations are applied to, not their results"
            if not tensor.requires_grad:
                way_out = "make it with requires_grad=True"
            raise SettingError(f"step: {tensor.label} (number {i}) is never trained; {way_out}")
        if tensor.grad is not None:
            buffers.append(ParameterBuffer.single(f"tensor_{i}", tensor))
    return buffers


def _decay(name: str, value: float | None) -> float:
    return 0.0 if value is None else number(f"{name}'s weight_decay", value, low=0)


def _limit(name: str, value: float | None) -> float | None:
    return None if value is None else number(name, value, above=0)


def _square_sum(g: Any) -> Any:
    """Σg², added in float64, on the device of g."""
    with device_of(g).current():
        return np.sum(np.square(g), dtype=np.float64)

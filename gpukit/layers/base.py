"""The base of layers: name, parameters, and a function from inputs to outputs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import Any, ClassVar, NoReturn, TypedDict

import numpy as np

from gpukit import constraints, initializers, regularizers
from gpukit.autograd import Parameter, Tensor
from gpukit.autograd.results import check_made, operand, values_of
from gpukit.autograd.tape import caller
from gpukit.core.config import Configurable, Family, flag, show, snake_case
from gpukit.core.settings import is_training
from gpukit.device import Device, device_of, get_device
from gpukit.errors import DTypeError, GpukitError, SettingError, ShapeError
from gpukit.layers import tracking
from gpukit.layers.batch_shape import Shape, batch_shape, show_shape
from gpukit.layers.budget import is_bounded, spend
from gpukit.layers.checks import float_name, refuse_keras_methods, sample_shape, shape_of, way_out
from gpukit.layers.context import Context
from gpukit.layers.shard import Shard
from gpukit.layers.symbolic import Symbolic, use_of
from gpukit.layers.weight_lists import WeightLists
from gpukit.utils import default_seed

_MOST_VALUES = 1 << 47
BUILDING = RLock()  # held by the one thread that builds layers


class LayerOptions(TypedDict, total=False):
    """What every layer takes (see `Layer`)."""

    name: str | None
    input_shape: Sequence[int | None] | None
    dtype: Any
    trainable: bool


class Layer(Configurable, WeightLists):
    """Base of all layers.

    A subclass checks shapes in `output_shape`, makes parameters in `create_parameters` and
    computes in `call`. Called with arrays or Tensors a layer builds itself for the first input's
    channels, dtype and device; called with a `Symbolic` it takes its place in a functional model.
    """

    keras_defaults: ClassVar[Mapping[str, Sequence[Any]]] = {
        "data_format": (None, "channels_last"),
        "activity_regularizer": (None,),
        "autocast": (True,),
    }
    takes_stream = True  # whether it has a stream of random numbers of its own in a model
    takes_levels = False  # whether uint8 images should come as 0 to 255 rather than 0 to 1
    rank: int | None = None  # axes of the input, batch included; None takes any
    axes = ""  # what these axes are, for messages
    users = False  # whether the class is a user's, whose results are checked

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        cls.users = not cls.__module__.startswith("gpukit.")
        refuse_keras_methods(cls)

    def __init__(
        self,
        name: str | None = None,
        input_shape: Sequence[int | None] | None = None,
        dtype: Any = None,
        trainable: bool = True,
    ) -> None:
        self.auto_named = name is None
        self.name = snake_case(type(self).__name__) if name is None else name
        self.stream = 0
        self.shard: Shard | None = None
        self.context: Context | None = None
        self.built = False
        self.within = False  # whether another layer holds it
        self._inner: tuple[Layer, ...] = ()  # layers that it holds, once it is built
        self.device: Device | None = None
        self.parameter_dtype: np.dtype[Any] = np.dtype(np.float32)
        self._parameters: dict[str, Parameter] = {}
        self._regularizers: dict[str, regularizers.Regularizer] = {}
        self._constraints: dict[str, constraints.Constraint] = {}
        self._rng: np.random.Generator | None = None
        self._own_context: Context | None = None
        self._activity_losses: list[Tensor] = []
        self.activity_regularizer: regularizers.Regularizer | None = None
        with self.naming_errors():
            if not isinstance(self.name, str) or not self.name:
                raise SettingError(f"name={show(name)}: use a text")
            self.input_shape = None if input_shape is None else sample_shape(input_shape)
            self.dtype = None if dtype is None else float_name(dtype)
            self._trainable = flag("trainable", trainable)

    # Settings and errors

    @property
    def label(self) -> str:
        """What messages call this layer: Conv2D 'conv2'."""
        return f"{type(self).__name__} {self.name!r}"

    def rename(self, name: str) -> None:
        """Take another name; parameters and inner layers follow."""
        for inner in self.inner:
            if inner.name.startswith(f"{self.name}/"):
                inner.rename(name + inner.name.removeprefix(self.name))
        self.name = name
        for short, parameter in self._parameters.items():
            parameter.name = f"{name}/{short}"

    @contextmanager
    def naming_errors(self) -> Iterator[None]:
        """Within the block, errors that a user can cause begin with this layer's name."""
        try:
            yield
        except GpukitError as error:
            self.name_error(error)

    def name_error(self, error: GpukitError) -> NoReturn:
        """Raise `error` again with this layer named, unless an inner layer is named already."""
        if not getattr(error, "names_layer", False):
            error.args = (f"{self.label}: {error}",)
            error.names_layer = True  # type: ignore[attr-defined]
        raise error

    # Shapes

    def compute_output_shape(self, input_shape: Any) -> Shape:
        """Shape of the output for one of the input, both with the batch first (None: any).

        Layers that take several inputs get a list of shapes. Raises ShapeError.
        """
        with self.naming_errors():
            if isinstance(input_shape, list):
                shapes = [batch_shape(s) for s in input_shape]
                if self.users and tracking.infers_shape(self):
                    return tracking.inferred_shape(self, shapes)
                return self.output_shape_of_many(shapes)
            shape = batch_shape(input_shape)
            self.check_rank(shape)
            if self.users and tracking.infers_shape(self):
                return tracking.inferred_shape(self, shape)
            return self.output_shape(shape)

    def output_shape(self, input_shape: Shape) -> Shape:
        """`compute_output_shape` for one input of the right rank; unchanged unless overridden."""
        return input_shape

    def output_shape_of_many(self, input_shapes: list[Shape]) -> Shape:
        """`compute_output_shape` for a layer that joins several inputs."""
        raise ShapeError(f"takes one input, got {len(input_shapes)}; join them with Concatenate")

    def check_rank(self, shape: Shape) -> None:
        """Refuse an input with the wrong number of axes."""
        if self.rank is not None and len(shape) != self.rank:
            raise ShapeError(f"needs {self.axes}, got {show_shape(shape)}; {way_out(shape)}")

    # Parameters

    def build(
        self,
        input_shape: Any,
        device: Device | str | None = None,
        dtype: Any = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        """Make the parameters for inputs of `input_shape` (batch first), once.

        `rng` draws the first values; without one it is the model's, and outside of models they
        differ from run to run, unless `gpukit.utils.set_random_seed` was called. Threads that
        build the same layer get what the first one made.
        """
        with BUILDING:
            if self.built:
                with self.naming_errors():
                    self.check_built(input_shape)
                return
            output_shape = self.compute_output_shape(input_shape)
            with self.naming_errors():
                self.device = get_device(device)
                self.prepare_parameters(input_shape, dtype, rng)
                if self.users:
                    tracking.build_inner(self, input_shape)
                    self._inner = tuple(tracking.inner_layers(self))
            self.built_shapes = (input_shape, output_shape)
            self.built = True

    def prepare_parameters(
        self, input_shape: Any, dtype: Any, rng: np.random.Generator | None
    ) -> None:
        """`create_parameters`, for a layer on `device` and of `dtype`."""
        given = np.float32 if dtype is None else dtype
        self.parameter_dtype = np.dtype(self.dtype or float_name(given))
        if rng is None and self.context is not None:
            rng = self.context.generator(self.stream)
        self._rng = np.random.default_rng(default_seed()) if rng is None else rng
        self._parameters.clear()  # of a first attempt that failed
        self.create_parameters(input_shape)
        self._rng = None

    def check_built(self, input_shape: Any) -> None:
        """Refuse inputs that the parameters were not made for; takes any unless overridden."""

    def create_parameters(self, input_shape: Any) -> None:
        """Call `add_parameter` for each parameter; nothing unless overridden."""

    def add_parameter(
        self,
        short_name: str,
        shape: Sequence[int],
        initializer: Any,
        regularizer: regularizers.Regularizer | None = None,
        constraint: constraints.Constraint | None = None,
        trainable: bool = True,
        groups: int = 1,
    ) -> Parameter:
        """A new parameter called "layer/short_name" on the layer's device.

        `initializer` is an object, a name or a function.
        """
        assert self.device is not None and self._rng is not None, "called outside build"
        if math.prod(shape) >= _MOST_VALUES:
            raise ShapeError(f"{short_name} of shape {show(shape)} has more values than any memory")
        spend(math.prod(shape))
        values = self._first_values(initializers.get(initializer), tuple(shape), groups)
        parameter = Parameter(self.device.asarray(values), f"{self.name}/{short_name}", trainable)
        parameter.trainable = trainable and self.trainable
        self._parameters[short_name] = parameter
        if regularizer is not None:
            self._regularizers[short_name] = regularizer
        if constraint is not None:
            self._constraints[short_name] = constraint
        return parameter

    def add_own_parameter(
        self, short_name: str, shape: Sequence[int], trainable: bool = True, groups: int = 1
    ) -> Parameter:
        """`add_parameter` by the layer's settings of its name: kernel_initializer, and so on."""
        first, penalty, limit = (
            getattr(self, f"{short_name}_{what}", None)
            for what in ("initializer", "regularizer", "constraint")
        )
        return self.add_parameter(short_name, shape, first, penalty, limit, trainable, groups)

    def _first_values(
        self, initializer: initializers.Initializer, shape: tuple[int, ...], groups: int
    ) -> np.ndarray:
        """Drawn values; those of a shard are cut from the values of the whole layer."""
        assert self._rng is not None
        if is_bounded():
            return np.zeros(shape, self.parameter_dtype)
        if self.shard is None:
            return initializer(shape, self.parameter_dtype, self._rng, groups)
        first, of = self.shard.first, self.shard.of
        end = first + shape[-1]
        if end > of:
            raise ShapeError(f"is {first} … {end - 1} of {self.shard.whole!r}, which has {of}")
        values = initializer((*shape[:-1], of), self.parameter_dtype, self._rng, self.shard.groups)
        return np.ascontiguousarray(values[..., first:end])

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, those that training does not change (moving averages) included, and
        those of inner layers."""
        if not self.users:
            return list(self._parameters.values())
        own = (p for layer in self.with_inner() for p in layer._parameters.values())
        return list(dict.fromkeys(own))

    @property
    def inner(self) -> tuple[Layer, ...]:
        """The layers that a layer of a user's class holds in attributes, lists, tuples and dicts,
        also in models there. None may join once it is built."""
        return self._inner if self.built or not self.users else tuple(tracking.inner_layers(self))

    def with_inner(self) -> list[Layer]:
        """This layer and those that it holds, recursively, each once."""
        found = [self]
        if not self.users:
            return found
        for layer in found:
            found += [inner for inner in layer.inner if not any(inner is one for one in found)]
        return found

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()  # the place of an inner layer is its name
        return {**config, "name": None} if self.within and self.auto_named else config

    def join_context(self, context: Context) -> None:
        """Take random numbers from `context`, in a stream of its own."""
        self.context = context
        self.stream = context.new_stream()

    @property
    def trainable(self) -> bool:
        """Whether training changes the layer; may be set at any time.

        A frozen layer gets no gradients, its weights add no penalty to the loss and its batch
        normalisation uses and keeps its moving averages. Setting it sets `trainable` of all
        parameters that were made to be trained; some may be set otherwise afterwards.
        """
        return self._trainable

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        with self.naming_errors():
            self._trainable = flag("trainable", trainable)
        for parameter in self._parameters.values():
            if parameter.learned:
                parameter.trainable = self._trainable
        for inner in self.inner:
            inner.trainable = self._trainable

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all parameters on the host, in the order of `parameters`."""
        return [np.array(p.numpy()) for p in self.parameters]

    def set_weights(self, weights: Sequence[Any]) -> None:
        """Overwrite all parameters; shapes and order as `get_weights` gives them."""
        with self.naming_errors():
            if not isinstance(weights, (list, tuple)):
                raise SettingError(f"set_weights({show(weights)}): use a list of arrays")
            own = self.parameters
            if len(weights) != len(own):
                names = ", ".join(p.name.removeprefix(f"{self.name}/") for p in own) or "none"
                raise ShapeError(f"has {len(own)} parameters ({names}), got {len(weights)} arrays")
            arrays = [operand("set_weights", values_of("set_weights", w)) for w in weights]
            for parameter, array in zip(own, arrays):
                if tuple(array.shape) != parameter.shape:
                    raise ShapeError(
                        f"{parameter.name} has shape {parameter.shape}, got {tuple(array.shape)}"
                    )
            for parameter, array in zip(own, arrays):
                parameter.assign(array)

    def count_params(self) -> int:
        """Number of weights, moving averages included."""
        with self.naming_errors():
            if not self.built:
                raise SettingError("has no parameters before it is built; give it an input first")
            return sum(p.size for p in self.parameters)

    def apply_constraints(self) -> None:
        """Put constrained parameters back into their sets, after a step of the optimiser."""
        for layer in self.with_inner():
            for short, constraint in layer._constraints.items():
                parameter = layer._parameters[short]
                if parameter.trainable:
                    with parameter.device.current():
                        parameter.assign(constraint(parameter.array))

    # Penalties

    def regularization(self) -> Tensor | None:
        """Sum of the penalties of trainable parameters, and of the activity's since
        `reset_losses`."""
        return total(layer.own_penalty() for layer in self.with_inner())

    def own_penalty(self) -> Tensor | None:
        """`regularization` without that of inner layers."""
        penalties = [(self._parameters[k], penalty) for k, penalty in self._regularizers.items()]
        terms = [penalty(parameter) for parameter, penalty in penalties if parameter.trainable]
        return total(terms + self._activity_losses)

    def reset_losses(self) -> None:
        """Forget activity penalties; a model does so at the start of each forward pass."""
        for layer in self.with_inner():
            layer._activity_losses.clear()

    def _penalise_activity(self, outputs: Any) -> None:
        assert self.activity_regularizer is not None
        if self.context is None:
            self._activity_losses.clear()
        y = outputs if isinstance(outputs, Tensor) else Tensor.wrap(outputs)
        self._activity_losses.append(self.activity_regularizer(y) * (1.0 / max(y.shape[0], 1)))

    # Calls

    @property
    def final_activation(self) -> str | None:
        """Name of the activation that `logits` leaves out; None where there is nothing to gain."""
        return None

    def logits(self, inputs: Any, training: bool | None = None) -> Any:
        """The outputs before `final_activation`, for losses that include it."""
        return self.run(self.call_logits, inputs, training)

    def call_logits(self, inputs: Any, training: bool) -> Any:
        """`call` without `final_activation`."""
        raise NotImplementedError

    def call(self, inputs: Any, training: bool) -> Any:
        """The outputs for inputs of the right rank."""
        raise NotImplementedError

    def __call__(self, inputs: Any, training: bool | None = None) -> Any:
        """Outputs for an array, a Tensor or a Symbolic (a list of them for layers that join).

        Arrays in → array out, Tensors or parameters in → Tensor out. `training` is what
        `gpukit.core.settings.training_mode` says unless given; a Symbolic keeps what is given.
        """
        first = inputs[0] if isinstance(inputs, (list, tuple)) and inputs else inputs
        if isinstance(first, Symbolic):
            return self._symbolic(inputs, training)
        return self.run(self.call, inputs, training)

    def run(
        self, function: Callable[[Any, bool], Any], inputs: Any, training: bool | None = None
    ) -> Any:
        """`function(inputs, training)` as a call of this layer: built, checked, errors named."""
        outer = caller.set(self)
        try:
            if not self.built:
                tracking.check_held(self, outer.old_value)
                self._build_for(inputs)
            elif self.rank is not None:
                self.check_rank(shape_of(inputs))
            self._check_dtype(inputs)
            training = is_training() if training is None else flag("training", training)
            outputs = function(inputs, training)
            if self.users:
                self._check_outputs(inputs, outputs)
            if self.activity_regularizer is not None:
                self._penalise_activity(outputs)
        except GpukitError as error:
            self.name_error(error)
        finally:
            caller.reset(outer)
        return outputs

    def _check_outputs(self, inputs: Any, outputs: Any) -> None:
        """Refuse what a user's `call` returned, where it would be wrong in silence."""
        if outputs is None:
            raise SettingError("call returned None; return its outputs")
        given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
        shape = None
        # In a model later layers were built by output_shape; what is inferred is right by itself.
        if self.context is not None and not tracking.infers_shape(self):
            shapes = [shape_of(x) for x in given]
            shape = self.compute_output_shape(shapes if len(given) > 1 else shapes[0])
        like = next((x for x in given if isinstance(x, Tensor)), given[0])
        # A detached result is a way to stop gradients on purpose.
        check_made("call", outputs, like, shape, tape=False)

    def _check_dtype(self, inputs: Any) -> None:
        """Name the input, not the kernel, where the two are of different floating types."""
        if self._parameters:
            dtype = getattr(inputs, "dtype", self.parameter_dtype)
            if dtype != self.parameter_dtype and dtype.kind == "f":
                wanted = self.parameter_dtype.name
                raise DTypeError(
                    f"is {wanted}, its input {dtype}; cast the input with .astype(np.{wanted})"
                )

    def _build_for(self, inputs: Any) -> None:
        many = isinstance(inputs, (list, tuple))
        arrays = [getattr(x, "array", x) for x in (inputs if many else [inputs])]
        shapes: list[Shape] = [(None, *shape_of(a)[1:]) for a in arrays]
        if not arrays:
            raise ShapeError("got an empty list of inputs")
        dtype = self.dtype or (arrays[0].dtype if arrays[0].dtype.kind == "f" else np.float32)
        self.build(shapes if many else shapes[0], device_of(*arrays), dtype)

    def _symbolic(self, inputs: Any, training: bool | None) -> Symbolic:
        return use_of(self, inputs, training)

    def random_key(self) -> dict[str, int]:
        """What keys the next random numbers, as the random operations take it.

        Inside a model it is the model's; a layer by itself counts its own training calls.
        """
        if self.context is not None:
            context = self.context
            key = {"seed": context.seed, "layer": self.stream, "step": context.step}
            return {**key, "sample": context.sample} if context.sample else key
        if self._own_context is None:
            self._own_context = Context(default_seed())
        own = self._own_context
        own.step += 1
        return {"seed": own.seed, "layer": self.stream, "step": own.step - 1}


def total(terms: Iterable[Tensor | None]) -> Tensor | None:
    """The sum of `terms` that are not None; None where there are none."""
    sum_of = None
    for term in terms:
        if term is not None:
            sum_of = term if sum_of is None else sum_of + term
    return sum_of


_family = Family[Layer]("layer", Layer, functions=True)  # functions: activations

register = _family.register
from_config = _family.from_config

"""Tensors, and how an operation on arrays becomes one that they record.

An operation computes its result and hands over, beside it, one gradient function for each array
argument; `gpukit.autograd.tape` keeps them and walks them back.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np

from gpukit.autograd import tape
from gpukit.autograd.results import argument, checked, is_array, operand, refuse_scalars, values_of
from gpukit.autograd.tape import Node, is_recording, no_grad
from gpukit.core.config import checks, flag
from gpukit.device import CPU, Device, device_of, get_device, to_host
from gpukit.errors import DTypeError, SettingError, ShapeError, TapeError

__all__ = ["Parameter", "Tensor", "differentiable", "is_recording", "no_grad", "read_only"]
# Arithmetic of tensors, entered by gpukit.ops, which stands above this module.
methods: dict[str, Callable[..., Any]] = {}

Operator = Callable[[Any, Any], "Tensor"]


def _operators(name: str) -> tuple[Operator, Operator]:
    """The operator `methods[name]` with the tensor on its left, and with it on its right."""
    return (
        lambda tensor, other: methods[name](tensor, other),
        lambda tensor, other: methods[name](other, tensor),
    )


class Tensor:
    """An array that remembers how it was made, so that gradients can be computed.

    `array` is copied: later writes to it do not reach the tensor. Python floats and lists of them
    become float32. `requires_grad` asks `backward` to leave the gradient in `grad`.
    """

    __slots__ = ("__weakref__", "_array", "_grad", "_grad_buffer", "_leaf", "_node", "version")

    __array_ufunc__ = None  # NumPy arrays on the left leave operators to the tensor

    def __init__(self, array: Any, requires_grad: bool = False) -> None:
        if isinstance(array, Tensor):
            array = array._array
        elif not isinstance(array, np.generic) and not is_array(array):
            try:
                array = np.asarray(array)
            except (TypeError, ValueError) as error:
                raise ShapeError(f"a tensor cannot be made of these values: {error}") from None
            if array.dtype == np.float64:
                array = array.astype(np.float32)
        elif isinstance(array, np.generic):
            array = np.asarray(array)
        if array.dtype.kind not in "biuf" or type(array).__name__ == "MaskedArray":
            what = f"{type(array).__name__} of {array.dtype}"
            raise DTypeError(f"a tensor cannot be made of a {what}; pass an array of numbers")
        self._init(array.astype(array.dtype.newbyteorder("="), copy=True), requires_grad)

    def _init(self, array: Any, requires_grad: bool) -> None:
        if flag("requires_grad", requires_grad) and array.dtype.kind != "f":
            raise DTypeError(
                f"only floating tensors have gradients, this one is {array.dtype}; "
                "use array.astype(np.float32)"
            )
        self._array = array
        self._grad: Any = None
        self._grad_buffer: Any = None
        self._leaf = requires_grad
        self._node: Node | None = None
        self.version = 0

    @classmethod
    def wrap(cls, array: Any, node: Node | None = None) -> Tensor:
        """A tensor around `array` itself; whoever calls must not write to it any more."""
        tensor = cls.__new__(cls)
        tensor._array = array
        tensor._grad = None
        tensor._grad_buffer = None
        tensor._leaf = False
        tensor._node = node
        tensor.version = 0
        return tensor

    @property
    def array(self) -> Any:
        """The array on its device; read-only where it is a NumPy array."""
        return read_only(self._array)

    @property
    def requires_grad(self) -> bool:
        """Whether a gradient flows through this tensor."""
        return self._leaf or self._node is not None

    @property
    def is_leaf(self) -> bool:
        """Whether `backward` leaves a gradient here: made with requires_grad, not by operations."""
        return self._leaf

    @property
    def _source(self) -> Source:
        """Where on the tape a gradient of this tensor goes."""
        return self if self._leaf else self._node

    @property
    def grad(self) -> Tensor | None:
        """The gradient that `backward` summed up for this leaf; None before, and elsewhere."""
        return None if self._grad is None else Tensor.wrap(self._grad)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self._array.shape)

    @property
    def dtype(self) -> np.dtype:
        return self._array.dtype

    @property
    def ndim(self) -> int:
        return self._array.ndim

    @property
    def size(self) -> int:
        return int(self._array.size)

    @property
    def device(self) -> Device:
        return _device(self._array)

    @property
    def label(self) -> str:
        """What error messages call this tensor."""
        return f"a tensor of shape {self.shape}"

    def numpy(self) -> np.ndarray:
        """The values on the host, read-only; a copy only where they live on a card."""
        return read_only(to_host(self._array))

    def item(self) -> float | int:
        """The value of a tensor of one element, as a Python number."""
        if self.size != 1:
            raise ShapeError(f"item() needs one element, this tensor has shape {self.shape}")
        return self.numpy().reshape(()).item()

    def detach(self) -> Tensor:
        """The same values without their history."""
        return Tensor.wrap(self._array)

    def assign(self, value: Any) -> None:
        """Overwrite the values in place; a tape that still needs the old ones will refuse."""
        array = self.device.asarray(operand(self.label, values_of(self.label, value)))
        if tuple(array.shape) != self.shape:
            raise ShapeError(f"{self.label} cannot take values of shape {tuple(array.shape)}")
        with self.device.current():
            self._array[...] = array.astype(self.dtype, copy=False)
        self.version += 1

    def flat_view(self) -> Any:
        """The memory of this leaf as a writable 1-D array, for optimisers."""
        return self._array.reshape(-1)

    def zero_grad(self) -> None:
        """Forget the gradient."""
        self._grad = None

    def backward(self, grad: Any = None) -> None:
        """Add d(self)/d(leaf), times `grad`, to the `grad` of every leaf that requires one.

        `grad` has the shape of this tensor; it may be left out where that is a single element.
        The tape is freed on the way: a second call needs a second forward pass. Raises TapeError,
        ShapeError or DTypeError.
        """
        source = self._source
        if source is None:
            raise TapeError(
                "backward on a tensor that requires no gradient; make its inputs with "
                "requires_grad=True, outside no_grad()"
            )
        if grad is None:
            if self.size != 1:
                raise ShapeError(
                    f"backward of a tensor of shape {self.shape} needs a gradient of that shape; "
                    "or sum it first"
                )
            with self.device.current():
                grad = ones_like(self._array)
        else:
            if isinstance(grad, (int, float, list, tuple)):
                grad = operand("backward", values_of("backward", grad)).astype(self.dtype)
            grad = self.device.asarray(operand("backward", grad))
            if tuple(grad.shape) != self.shape:
                given = f"was given a gradient of shape {tuple(grad.shape)}"
                raise ShapeError(f"backward of a tensor of shape {self.shape} {given}")
            if grad.dtype != self.dtype:
                raise DTypeError(
                    f"backward of a {self.dtype} tensor was given a gradient of {grad.dtype}; use "
                    f".astype(np.{self.dtype})"
                )
        tape.backward(source, grad)

    def accumulate(self, grad: Any) -> None:
        """Add `grad` to what `grad` holds."""
        if self._grad is not None:
            if self._grad_buffer is not None:
                np.add(self._grad, grad, out=self._grad)
            else:
                self._grad = self._grad + grad
        elif self._grad_buffer is not None:
            self._grad_buffer[...] = grad
            self._grad = self._grad_buffer
        else:
            self._grad = grad

    def __repr__(self) -> str:
        extra = ", requires_grad=True" if self.requires_grad else ""
        where = "" if self.device.name == "cpu" else f", device={self.device.name!r}"
        values = np.array2string(self.numpy(), separator=", ", threshold=20, prefix="Tensor(")
        return f"Tensor({values}, dtype={self.dtype}{where}{extra})"

    def __getstate__(self) -> Any:
        """What copies and pickles hold."""
        if self._node is not None:
            raise TapeError(
                f"{self.label} is the result of operations and cannot be copied with its tape; "
                "copy .detach()"
            )
        names = [n for c in type(self).__mro__ for n in getattr(c, "__slots__", ())]
        state = {n: getattr(self, n) for n in names if n != "__weakref__"}
        # A copy is not in the parameter buffer: it must not look as if it were.
        return None, {**state, "_grad_buffer": None}

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if isinstance(other, (Tensor, int, float, np.generic)) or is_array(other):
            raise DTypeError("== does not compare values of Tensors; compare .numpy() with arrays")
        return NotImplemented

    __hash__ = object.__hash__

    def __len__(self) -> int:
        return len(self._array)

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __bool__(self) -> bool:
        return bool(self.item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        raise DTypeError("a Tensor was used as a NumPy array; call .numpy() for its values")

    __add__, __radd__ = _operators("add")
    __sub__, __rsub__ = _operators("subtract")
    __mul__, __rmul__ = _operators("multiply")
    __truediv__, __rtruediv__ = _operators("divide")
    __pow__, __rpow__ = _operators("power")
    __matmul__, __rmatmul__ = _operators("matmul")

    def __neg__(self) -> Tensor:
        return methods["negative"](self)

    def __getitem__(self, key: Any) -> Tensor:
        return methods["index"](self, key=key)

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Sum over `axis` (all axes by default)."""
        return methods["sum"](self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Mean over `axis` (all axes by default)."""
        return methods["mean"](self, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Largest value over `axis` (all axes by default)."""
        return methods["max"](self, axis=axis, keepdims=keepdims)

    def reshape(self, *shape: Any) -> Tensor:
        """The same values in another shape; one length may be -1."""
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        return methods["reshape"](self, shape=shape)

    def transpose(self, *axes: int) -> Tensor:
        """Axes permuted; reversed by default."""
        return methods["transpose"](self, axes=axes or None)

    @property
    def T(self) -> Tensor:
        return methods["transpose"](self, axes=None)

    def to(self, device: str | Device) -> Tensor:
        """This tensor on `device`; the gradient comes back the same way."""
        return methods["to_device"](self, device=get_device(device))


Source = Node | Tensor | None


class Parameter(Tensor):
    """A named leaf that an optimiser updates, usually a view of its model's parameter buffer.

    `learned` says whether it was made to be trained; moving averages are not. `Parameter.change`
    is another object after every change of `trainable` of any parameter.
    """

    __slots__ = ("learned", "name")

    change: ClassVar[object] = object()

    def __init__(self, array: Any, name: str, trainable: bool = True) -> None:
        self.name = name
        self.learned = flag("trainable", trainable)
        self._init(array, requires_grad=trainable)

    @property
    def trainable(self) -> bool:
        """Whether a gradient is computed, and optimisers and constraints may change the values.

        May be set at any time: what is set to False leaves its parameter buffer.
        """
        return self._leaf

    @trainable.setter
    def trainable(self, trainable: bool) -> None:
        if flag(f"{self.label}: trainable", trainable) == self._leaf:
            return
        self._leaf = bool(trainable)
        if not trainable:
            with self.device.current():
                self._array = self._array.copy()
            self._grad = self._grad_buffer = None
        Parameter.change = object()

    @property
    def label(self) -> str:
        return f"parameter {self.name!r}"

    def move(self, array: Any) -> None:
        """Live in `array`, of the same shape, on another device or of another dtype."""
        self._array = array
        self._grad = self._grad_buffer = None

    def bind(self, array: Any, grad_buffer: Any) -> None:
        """Live in `array` and leave gradients in `grad_buffer` from now on.

        Both have this parameter's shape; its value and its gradient, if any, are copied.
        """
        array[...] = self._array
        self._array = array
        self._grad_buffer = grad_buffer
        if self._grad is not None:
            grad_buffer[...] = self._grad
            self._grad = grad_buffer


def read_only(array: Any) -> Any:
    """A view of a NumPy array through which nothing can be written; other arrays as they are."""
    if isinstance(array, np.ndarray):
        array = array.view()
        array.flags.writeable = False
    return array


def ones_like(array: Any) -> Any:
    """Ones of the shape and dtype of `array`, on its device."""
    return np.ones_like(array)


def differentiable(
    function: Callable[..., Any] | None = None, *, integers: Sequence[str] = ()
) -> Callable[..., Any]:
    """Make an operation on arrays one on tensors: arrays in, array out; a tensor in, tensor out.

    `function(*arrays, **settings)` returns `(result, gradients)`, or `(result, gradients, extras)`
    where further results have no gradient. `gradients` is a tuple with one function of the
    result's gradient for each array argument (None: not differentiable), or a single function
    that returns all of them. Positional parameters are arrays, keyword-only ones are settings.
    All floating arrays must have one dtype; only parameters named in `integers` may be integers.
    """
    if function is None:
        return functools.partial(differentiable, integers=integers)

    parameters = inspect.signature(function).parameters.values()
    array_names = [p.name for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD]
    name = function.__name__
    own = function.__module__.startswith("gpukit.")
    checked_settings = checks(function) if own else {}

    @functools.wraps(function)
    def operation(*args: Any, **settings: Any) -> Any:
        if settings:
            if not settings.keys().isdisjoint(array_names):
                args = _positional(name, array_names, args, settings)
            for key, value in settings.items():
                check = checked_settings.get(key)
                if check is None:
                    continue
                try:
                    settings[key] = check(key, value)
                except SettingError as error:
                    raise SettingError(f"{name}: {error}") from None
        tensors = record = others = False
        for a in args:
            if isinstance(a, Tensor):
                tensors = True
                if a._leaf or a._node is not None:
                    record = True
            elif a is not None:
                others = True
        record = record and is_recording()
        if record and others:
            # The tape holds these arrays: the caller must not be able to change them.
            args = tuple([Tensor(a) if is_array(a) else a for a in args])
        arrays = _arrays(name, array_names, args, integers)
        try:
            made = function(*arrays, **settings)
        except (AttributeError, TypeError) as error:
            refuse_scalars(name, array_names, arrays, error)
            raise
        result, gradients, *extras = made if own else checked(name, made, arrays)
        if not tensors:
            return (result, *extras[0]) if extras else result
        node = None
        if record:
            parents = tuple([a._source if isinstance(a, Tensor) else None for a in args])
            node = Node(name, _device(result), parents, gradients)
        output = Tensor.wrap(result, node)
        return (output, *(Tensor.wrap(e) for e in extras[0])) if extras else output

    return operation


def _device(array: Any) -> Device:
    # Asked for every node of the tape: the common case costs one comparison.
    return CPU if type(array) is np.ndarray else device_of(array)


def _positional(
    name: str, array_names: list[str], args: tuple[Any, ...], settings: dict[str, Any]
) -> tuple[Any, ...]:
    """Array arguments that were given by keyword, in their places."""
    given = list(args)
    for i, parameter in enumerate(array_names):
        if parameter in settings:
            if i < len(given):
                raise SettingError(f"{name} got its argument {parameter!r} twice")
            given.extend([None] * (i - len(given)))
            given.append(settings.pop(parameter))
    return tuple(given)


def _arrays(
    name: str, array_names: list[str], args: tuple[Any, ...], integers: Sequence[str]
) -> list[Any]:
    """The raw arrays behind `args`, checked for dtype."""
    arrays: list[Any] = []
    floating: Any = None
    for i, a in enumerate(args):
        if isinstance(a, Tensor):
            a = a._array
        elif a is None or type(a) in (int, float):
            arrays.append(a)
            continue
        elif isinstance(a, np.generic):
            arrays.append(a.item())
            continue
        elif not is_array(a) or type(a).__name__ == "MaskedArray":
            raise DTypeError(
                f"{name}: {argument(array_names, i)} is a {type(a).__name__}; pass an array or a "
                "Tensor"
            )
        dtype = a.dtype
        if dtype.kind == "f":
            if floating is None:
                floating = dtype
            elif dtype != floating:
                raise DTypeError(
                    f"{name}: {argument(array_names, i)} is {dtype}, the arguments before it "
                    f"{floating}; cast one with .astype(np.{floating})"
                )
        elif (array_names[i] if i < len(array_names) else "") not in integers:
            raise DTypeError(
                f"{name}: {argument(array_names, i)} is {dtype}; cast it with "
                f".astype(np.{floating or 'float32'})"
            )
        arrays.append(a)
    return arrays

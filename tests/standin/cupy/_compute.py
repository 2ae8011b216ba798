"""What CuPy computes, by NumPy, under CuPy's rules for operands, cards, streams and dtypes.

Nothing is computed before the real CuPy would have taken the call: the name must be recorded, the
arguments must fit the recorded signature, no NumPy array may be among them, and every array must be
of the current card. (CuPy reaches peers' memory from another card, with a warning: here that is an
error.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from cupy import _array, _memory, _order, _state, _surface
from cupy._flush import flushed

_SCALARS = (bool, int, float, complex, np.generic)
_REDUCTIONS = {"add": "sum", "multiply": "prod"}  # the only ones that CuPy's ufuncs have
_AT = {"add": "biIqlfdQL", "maximum": "iIqlfdQL", "minimum": "iIqlfdQL"}
# Methods that write to their array: each has a definition of its own in _array.py, or none.
IN_PLACE = ("fill", "set", "sort", "partition", "put", "byteswap", "setfield", "resize")
_UNWRITTEN = ("empty", "empty_like")


def operands(value: Any) -> Iterator[Any]:
    """The arrays in arguments, also within lists, tuples and dictionaries."""
    if isinstance(value, _array.ndarray):
        yield value
    elif isinstance(value, dict):
        yield from operands(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from operands(item)


def refuse_host_arrays(what: str, value: Any) -> None:
    """TypeError where a NumPy array is among the arguments."""
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)} in {what}")
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            refuse_host_arrays(what, item)


def _host(value: Any) -> Any:
    if isinstance(value, _array.ndarray):
        return value._host
    if isinstance(value, (list, tuple)):
        return type(value)(_host(v) for v in value)
    if isinstance(value, dict):
        return {k: _host(v) for k, v in value.items()}
    return value


def _use(what: str, reads: list[Any], writes: list[Any]) -> None:
    """A kernel on the current stream: its arrays are this card's, and ordered."""
    device, line = _state.device(), _state.line()
    for x in (*reads, *writes):
        if x._memory.device != device:
            raise ValueError(
                f"{what}: the device where the array resides ({x._memory.device}) is different "
                f"from the current device ({device})"
            )
    _order.work(line)
    for x in reads:
        x._memory.uses.use(line, what, write=False)
    for x in writes:
        x._memory.uses.use(line, what, write=True)


def new(shape: Any, dtype: Any, strides: Any = None) -> Any:
    """An array of the current card that nobody has written to."""
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(int(n) for n in shape)
    kind = np.dtype(dtype)
    if kind.kind not in "biufc":
        raise ValueError(f"Unsupported dtype {kind}")
    memory = _memory.Memory(int(np.prod(shape, dtype=np.int64)) * kind.itemsize)
    return _array.ndarray(memory.array(shape, kind, strides), memory)


def _root(host: np.ndarray) -> Any:
    found: Any = host
    while getattr(found, "base", None) is not None:
        found = found.base
    return found


def _placed(result: Any, sources: list[Any]) -> tuple[Any, list[Any]]:
    """The result on the card, and those of its arrays that are no views of `sources`."""
    if isinstance(result, (tuple, list)):
        pairs = [_placed(r, sources) for r in result]
        return type(result)(p for p, _ in pairs), [x for _, made in pairs for x in made]
    if isinstance(result, np.generic):
        result = np.asarray(result)
    if not isinstance(result, np.ndarray):
        return result, []
    root = _root(result)
    for x in sources:
        if root is _root(x._host):
            return _array.ndarray(result, x._memory, x), []
    made = new(result.shape, result.dtype, np.empty_like(result).strides)
    np.copyto(made._host, result)
    return made, [made]


def run(
    what: str, function: Callable[..., Any], args: list[Any], *, host_indices: bool = False
) -> Any:
    """`function` of the arrays' numbers; a kernel, unless the result is only another view."""
    if not host_indices:
        refuse_host_arrays(what, args)
    given = list(operands(args))
    hosts = [x._host for x in given]
    with np.errstate(all="ignore"), flushed(*hosts):
        result = function(*_host(args))
    placed, made = _placed(result, given)
    if made:
        if what.rpartition(".")[2] in _UNWRITTEN:
            for x in made:
                x._memory.bytes[:] = 0xFF
            return placed
        _use(what, given, made)
    return placed


def in_place(
    what: str,
    target: Any,
    args: list[Any],
    function: Callable[..., Any],
    *,
    host_indices: bool = False,
) -> None:
    """`function` of the arguments' numbers writes to `target`."""
    if not host_indices:
        refuse_host_arrays(what, args)
    _use(what, list(operands(args)), [target])
    with np.errstate(all="ignore"), flushed(target._host):
        function(*_host(args))


def wait_and_read(x: Any) -> None:
    """The host waits for the current stream of the array's card and reads."""
    device = x._memory.device
    stream = _state.thread.streams[device][-1]
    line = _order.null(device) if stream is None else stream._line(device)
    _order.work(line)
    x._memory.uses.use(line, "a copy to the host", write=False)
    _order.wait(line)


def method(x: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A method that both libraries have."""
    path = f"cupy.ndarray.{name}"
    bound = _surface.bind(path, args, kwargs)
    if (out := bound.arguments.get("out")) is not None:
        raise NotImplementedError(f"the stand-in's {path} takes no out, got {type(out)}")
    return run(path, lambda x, a, k: getattr(x, name)(*a, **k), [x, args, kwargs])


def function(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A function of CuPy's that NumPy has too."""
    _surface.bind(path, args, kwargs)
    theirs: Any = np
    for name in path.split(".")[1:]:
        theirs = getattr(theirs, name, None)
    if theirs is None or kwargs.get("out") is not None:
        raise NotImplementedError(str(_surface.missing(path)))
    return run(path, lambda a, k: theirs(*a, **k), [args, kwargs])


def from_numpy_function(theirs: Any, types: Any, args: Any, kwargs: Any) -> Any:
    """np.f(…) with arrays of a card among the arguments."""
    path = ".".join(["cupy", *theirs.__module__.split(".")[1:], theirs.__name__])
    if path not in _surface.NAMES:
        return NotImplemented
    if not all(issubclass(t, (_array.ndarray, np.ndarray)) for t in types):
        return NotImplemented
    return resolve(path)(*args, **kwargs)


def resolve(path: str) -> Any:
    """The stand-in's own function of this name, or one that NumPy computes."""
    import cupy

    found: Any = cupy
    for name in path.split(".")[1:]:
        found = getattr(found, name)
    return found


def from_numpy_ufunc(
    theirs: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """np.u(…), np.u.reduce(…) or an operator, with arrays of a card among the operands."""
    name = theirs.__name__
    out = kwargs.pop("out", None)
    if out is not None and len(out) != 1:
        raise ValueError("The 'out' parameter must have exactly one array value")
    if name not in _surface.UFUNCS:
        if f"cupy.{name}" not in _surface.NAMES or method != "__call__":
            return NotImplemented
        return resolve(f"cupy.{name}")(*inputs, **kwargs, **({"out": out[0]} if out else {}))
    for x in (*inputs, *(out or ())):
        if not isinstance(x, (*_SCALARS, _array.ndarray, np.ndarray)) and method == "__call__":
            return NotImplemented
    if name in ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"):
        inputs = tuple(x.item() if isinstance(x, np.ndarray) and x.ndim == 0 else x for x in inputs)
    if method == "__call__":
        return ufunc(name, inputs, out[0] if out else None, **kwargs)
    if method == "reduce" and name in _REDUCTIONS:
        return getattr(inputs[0], _REDUCTIONS[name])(*inputs[1:], **{"axis": 0, **kwargs})
    if method == "at" and name in _AT:
        target, indices, *values = inputs
        if target.dtype.char not in _AT[name]:
            raise TypeError(f"cupy.{name}.at does not take {target.dtype}")
        return in_place(
            f"{name}.at", target, [indices, values], lambda i, v: theirs.at(target._host, i, *v)
        )
    raise NotImplementedError(f"`cupy_{name}.{method}` is not supported yet")


def ufunc(name: str, inputs: tuple[Any, ...], out: Any, **kwargs: Any) -> Any:
    """A ufunc of CuPy's: the first of its recorded types that takes the operands."""
    recorded = _surface.UFUNCS[name]
    dtype = kwargs.pop("dtype", None)
    casting = kwargs.pop("casting", "same_kind")
    if kwargs:
        raise TypeError(f"Wrong arguments {kwargs}")
    if len(inputs) != recorded["nin"] or recorded["nout"] != 1:
        raise NotImplementedError(f"the stand-in's {name} takes {recorded['nin']} operands")
    refuse_host_arrays(f"cupy.{name}", [*inputs, out])
    wanted = _result_dtype(name, recorded["types"], inputs, dtype)

    def compute(*values: Any) -> Any:
        return np.asarray(getattr(np, name)(*values, dtype=dtype)).astype(wanted, copy=False)

    if out is None:
        return run(f"cupy.{name}", compute, list(inputs))
    if not isinstance(out, _array.ndarray):
        raise TypeError(f"return arrays must be of cupy.ndarray, not {type(out)}")
    in_place(
        f"cupy.{name}",
        out,
        list(inputs),
        lambda *v: np.copyto(out._host, compute(*v), casting=casting),
    )
    return out


def _result_dtype(name: str, types: list[str], inputs: tuple[Any, ...], dtype: Any) -> np.dtype:
    for loop in types:
        takes, _, gives = loop.partition("->")
        if dtype is not None:
            if np.dtype(gives) == np.dtype(dtype):
                return np.dtype(gives)
        elif all(_fits(x, np.dtype(t)) for x, t in zip(inputs, takes, strict=True)):
            return np.dtype(gives)
    kinds = tuple(getattr(x, "dtype", type(x)) for x in inputs)
    raise TypeError(f"Wrong type ({dtype or kinds}) of arguments for cupy_{name}")


def _fits(x: Any, wanted: np.dtype) -> bool:
    if type(x) in (bool, int, float, complex):  # weak: takes the others' dtype, in its kind
        weak = type(x)
        if weak is bool:
            return True
        return np.result_type(weak(0), wanted) == wanted
    return np.can_cast(x.dtype, wanted)

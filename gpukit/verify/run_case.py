"""Runs a case on an emulated card or a real one and compares its results with the definition's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gpukit.device import CPU, Device, device_of, get_device, to_host
from gpukit.dispatch.dice import Case
from gpukit.dispatch.preference import no_fallbacks
from gpukit.dispatch.primitive import Primitive, registry
from gpukit.errors import GpukitError
from gpukit.launch.engine import Bound
from gpukit.launch.kernel import Kernel
from gpukit.launch.kernel import kernels as all_kernels
from gpukit.launch.sources import Declaration, Instance
from gpukit.plugins import line_in, owner
from gpukit.verify import launch_log
from gpukit.verify.cases import TRIES, draw, flat, mapped, same, supported
from gpukit.verify.compare import problem
from gpukit.verify.coverage import Target

SHOWN = 60  # characters of a setting


def run(
    target: Target,
    seed: int,
    number: int,
    check: Callable[[Target, Case], str] | None = None,
    drawn: Callable[[Target, int, int], Case | None] = supported,
    among: str = f"{TRIES} random cases",
) -> str:
    """What `check` finds wrong with case `number` of a target; empty if nothing is.

    Without `check` it runs on emu. Any error of the launcher's counts. `drawn` gives the case,
    None where the target supports none of those `among` which it looked.
    """
    if not draw(target.primitive):
        return f"{target.primitive} declares no random cases; see gpukit/dispatch/declaration.py"
    made: Case | None = None
    try:
        made = drawn(target, seed, number)
        if made is None:
            return f"its limits (supports) take none of {among}; nothing is proven"
        found = (check or on_device)(target, made)
    except Exception as error:  # a launcher's fault is a finding, not the end of the check
        found = fault(error, target)
    return f"{found} [{describe(made)}]" if found and made else found


def on_device(target: Target, made: Case, device: str = "emu") -> str:
    """What is wrong with a case on a device; empty if nothing is."""

    def launcher(*arrays: Any, **settings: Any) -> Any:
        with no_fallbacks():
            return registry[target.primitive](*arrays, algo=target.algo, **settings)

    found = held(target, made, launcher, get_device(device))
    return undeclared() or launch_log.too_much_shared(target) or found


def held(target: Target, made: Case, launcher: Callable[..., Any], device: Device) -> str:
    """What `launcher` does otherwise than the definition, given a case's arrays on `device`.

    Its results must be alike in number, place, dtype and value; it may write to its arguments, or
    return one of them, only where the definition does.
    """
    arguments, wanted = _defined(registry[target.primitive], made)
    arrays = placed(made.arrays, device)
    results = launcher(*arrays, **made.settings)
    unlike = _unlike(results, wanted, device, made)
    if unlike:
        return unlike
    if results is not None:
        for array, old in zip(flat(arrays), flat(made.arrays)):
            if isinstance(old, np.ndarray) and not same(old, to_host(array)):
                return f"{target} wrote to its input"
        is_new = not isinstance(wanted, np.generic) and not _is_view(wanted, arguments, CPU)
        if is_new and _is_view(results, arrays, device):
            return "returns its argument, or a view of it, the definition a new array"
    return mismatch(target, made, _results(results, arrays), _results(wanted, arguments))


def mismatch(
    target: Target,
    made: Case,
    results: Sequence[np.ndarray],
    wanted: Sequence[np.ndarray] | None = None,
) -> str:
    """The first of the results of `made` that is not the definition's; empty if all are.

    They may differ by the roundings that compare.py allows. `wanted`: the definition's, if they
    are known.
    """
    precision = target.implementation.precision
    if wanted is None:
        wanted = by_definition(registry[target.primitive], made)
    for i, (ours, definition) in enumerate(zip(results, wanted)):
        name = f"result {i}" if len(results) > 1 else "the result"
        found = problem(name, ours, definition, made.exact, made.length, made.scale, precision)
        if found:
            return found
    return ""


def fault(error: Exception, target: Target) -> str:
    """An error as a finding; with file and line, where it came up in a plug-in."""
    text = str(error) if isinstance(error, GpukitError) else f"{type(error).__name__}: {error}"
    plugin = owner(target.implementation)
    line = line_in(error, plugin.path) if plugin else 0
    return f"{plugin.path.name}:{line}: {text}" if plugin and line else text


def describe(made: Case) -> str:
    """The shapes and settings of a case in one line."""
    shown = []
    for a in flat(made.arrays):
        if isinstance(a, np.ndarray):
            order = "" if a.flags.c_contiguous else " strided"
            shown.append(f"{a.dtype}{a.shape}{order}")
        else:
            shown.append(repr(a))
    settings = [f"{k}={_short(repr(v))}" for k, v in made.settings.items()]
    return ", ".join(shown + settings)


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def undeclared() -> str:
    """A kernel that was launched for types without a budget: its file must declare them.

    Numbers among the template arguments (tiles, activations) may be a choice of those launched.
    """
    for kernel in all_kernels:
        for bound in launched(kernel):
            declared = {_types(bound.declaration, i) for i in bound.source.instances}
            if _types(bound.declaration, bound.instance) not in declared:
                return (
                    f"{kernel.file} launches {bound.expression}, whose types no line "
                    "'// instances:' of it lists"
                )
    return ""


def _types(declaration: Declaration, instance: Instance) -> tuple[str, ...]:
    kinds = [t.kind in ("typename", "class") for t in declaration.template]
    chosen = [a for is_type, a in zip(kinds, instance.arguments) if is_type]
    return (instance.kernel, *chosen)


def launched(kernel: Kernel) -> list[Bound]:
    """The instances of a kernel that this process has bound."""
    return list(kernel._bound.values())


def placed(arguments: list[Any], device: Device) -> list[Any]:
    """Arguments of a case, arrays among them copied to `device`, strided if they are."""

    def one(array: np.ndarray) -> Any:
        if array.flags.c_contiguous:
            return device.asarray(array.copy())
        if array.ndim == 1:
            return device.asarray(np.repeat(array, 2))[::2]
        return device.asarray(np.array(array.T, order="C")).T

    return mapped(one, arguments)


def call(primitive: Primitive, algo: str, made: Case, arrays: list[Any]) -> list[np.ndarray]:
    """What `algo` gives for a case's settings and these arrays: those, where it works in place."""
    with no_fallbacks():
        results = primitive(*arrays, algo=algo, **made.settings)
    return _results(results, arrays)


def by_definition(primitive: Primitive, made: Case) -> list[np.ndarray]:
    """The results of the definition, computed in float64 unless they must match exactly."""
    arguments, returned = _defined(primitive, made)
    return _results(returned, arguments)


def _defined(primitive: Primitive, made: Case) -> tuple[list[Any], Any]:
    """What the definition was given, floats in float64 unless `exact`, and what it returned."""

    def wide(array: np.ndarray) -> np.ndarray:
        is_float = array.dtype.kind == "f" and not made.exact
        return array.astype(np.float64) if is_float else array.copy()

    arguments = mapped(wide, made.arrays)
    with np.errstate(all="ignore"):
        return arguments, primitive.reference(*arguments, **made.settings)


def _unlike(results: Any, wanted: Any, device: Device, made: Case) -> str:
    """How results differ in kind from the definition's: how many, where, of which dtype."""
    if results is None or wanted is None or isinstance(results, tuple) != isinstance(wanted, tuple):
        same = results is None and wanted is None
        return "" if same else f"returns {_kind(results)}, the definition {_kind(wanted)}"
    ours = results if isinstance(results, tuple) else (results,)
    theirs = wanted if isinstance(wanted, tuple) else (wanted,)
    if len(ours) != len(theirs):
        return f"{len(ours)} results, the definition has {len(theirs)}"
    for mine, definition in zip(ours, theirs):
        if mine is None and definition is None:
            continue
        if mine is None or definition is None or not hasattr(mine, "dtype"):
            return f"returns {_kind(mine)}, the definition {_kind(definition)}"
        if device_of(mine) is not device:
            return f"returns an array on {device_of(mine)}, its arguments are on {device}"
        dtype = _narrow(definition.dtype, made)
        if mine.dtype != dtype:
            return f"returns {mine.dtype}, the definition {dtype}"
    return ""


def _narrow(dtype: np.dtype, made: Case) -> np.dtype:
    """The dtype that the definition gives for a case's own arrays, not those in float64."""
    given = (a.dtype for a in flat(made.arrays) if isinstance(a, np.ndarray))
    floats = {d for d in given if d.kind == "f"}
    return floats.pop() if dtype == np.float64 and floats and not made.exact else dtype


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        return f"a tuple of {len(value)}"
    return "an array" if hasattr(value, "dtype") else f"{value!r:.40}"


def _is_view(results: Any, arrays: list[Any], device: Device) -> bool:
    """Whether one of the results has an argument's memory; of a card's arrays that is not asked."""
    if not device.in_host_memory:
        return False
    theirs = [to_host(a) for a in flat(arrays) if hasattr(a, "dtype")]
    ours = _results(results, [])
    return any(r.size and np.may_share_memory(r, a) for r in ours for a in theirs)


def _results(returned: Any, arrays: list[Any]) -> list[np.ndarray]:
    """The arrays that were returned, else those worked on, on the host.

    A gradient by a bias that is None is None.
    """
    if returned is None:
        found = [a for a in flat(arrays) if hasattr(a, "shape")]
    else:
        found = [
            r for r in (returned if isinstance(returned, tuple) else (returned,)) if r is not None
        ]
    return [to_host(r) for r in found]

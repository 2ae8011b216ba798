"""A CUDA C kernel as a Python object: every launch is checked against its declaration.

_relu = Kernel("activation.cu", "relu_forward")      # nothing is read or compiled yet
_relu.launch(grid, block, x, y, n, T=x.dtype)        # on the device of its arrays
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.device import device_of
from gpukit.dispatch.primitive import registry
from gpukit.errors import DeviceError, DTypeError, GpukitError, ShapeError
from gpukit.launch.engine import Bound, Call
from gpukit.launch.limits import MOST_THREADS
from gpukit.launch.sources import Declaration, Instance, Source, load

# C's names of element types, each with its dtype; the first name of a dtype is the one used.
_C_TYPES: dict[str, Any] = {
    "float": np.float32,
    "double": np.float64,
    "__half": np.float16,
    "half": np.float16,
    "int": np.int32,
    "unsigned int": np.uint32,
    "unsigned": np.uint32,
    "long long": np.int64,
    "unsigned long long": np.uint64,
    "short": np.int16,
    "unsigned short": np.uint16,
    "signed char": np.int8,
    "unsigned char": np.uint8,
    "bool": np.bool_,
    "__nv_bfloat16": np.uint16,
}
DTYPES = {name: np.dtype(t) for name, t in _C_TYPES.items()}
_NAMES = {dtype: name for name, dtype in reversed(DTYPES.items()) if name != "__nv_bfloat16"}

GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)

kernels: list[Kernel] = []
_threads: dict[int | tuple[int, ...], tuple[int, int, int]] = {}  # blocks that were in order


class Kernel:
    """The kernel `name` in `file`, for cards from sm_`min_arch` on.

    `file` lies beside the Python file that makes the Kernel, or in gpukit.kernels, or is a path.
    Template arguments are given by name at each launch: a dtype or the name of a type for
    `typename T`, else an int or bool.
    """

    def __init__(self, file: str | Path, name: str, min_arch: int = 75) -> None:
        maker = sys._getframe(1)
        self.made_at = (str(maker.f_globals.get("__file__", "")), maker.f_lineno)
        self.file = _beside(maker.f_globals, file)
        self.name = name
        self.min_arch = min_arch
        self._bound: dict[tuple[Any, ...], Bound] = {}
        kernels.append(self)

    def __repr__(self) -> str:
        return f"Kernel({str(self.file)!r}, {self.name!r})"

    @property
    def source(self) -> Source:
        return load(self.file)

    @property
    def declaration(self) -> Declaration:
        """This kernel's declaration in the source; GpukitError if there is none of that name."""
        found = self.source.kernels
        if self.name not in found:
            raise GpukitError(
                f"{self.file}: no kernel {self.name!r}; it has {', '.join(found) or 'none'}"
            )
        return found[self.name]

    def bind(self, **template: Any) -> Bound:
        """The instance for these template arguments."""
        key = tuple(template.items())
        found = self._bound.get(key)
        if found is None:
            found = self._bound[key] = self._bind(template)
        return found

    def launch(
        self,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        *arguments: Any,
        shared: int = 0,
        **template: Any,
    ) -> None:
        """Run on the device of the arrays among `arguments`, with `shared` bytes of extern shared.

        None stands for a null pointer where the parameter's name ends in `_or_null`, a NamedTuple
        with the same members for a struct. Raises
        GpukitError for arguments that the kernel's declaration does not allow, before anything
        runs.
        """
        bound = self._bound.get(tuple(template.items())) or self.bind(**template)
        if len(arguments) != len(bound.converters):
            names = ", ".join(p.name for p in bound.parameters)
            raise GpukitError(
                f"{bound.title} takes {len(bound.parameters)} arguments ({names}), got "
                f"{len(arguments)}"
            )
        values = tuple([convert(a) for convert, a in zip(bound.converters, arguments)])
        device = device_of(*[values[i] for i in bound.pointers if values[i] is not None])
        if not device.runs_kernels:
            raise DeviceError(
                f"{bound.title}: argument {bound.parameters[bound.pointers[0]].name} is on "
                f"{device}; kernels take arrays on cuda or emu"
            )
        blocks = _triple(bound, "grid", grid, GRID_LIMITS)
        threads = _threads.get(block) or _block(bound, block)
        call = Call(bound, device, blocks, threads, values, int(shared))
        registry.engine(device.kind).launch(call)

    def _bind(self, template: dict[str, Any]) -> Bound:
        declaration = self.declaration
        known = [t.name for t in declaration.template]
        unknown = set(template) - set(known)
        missing = [t.name for t in declaration.template if t.name not in template and not t.default]
        if unknown or missing:
            raise GpukitError(
                f"kernel {self.name} ({declaration.place}) has the template parameters "
                f"({', '.join(known)}); "
                + (f"missing: {', '.join(missing)}" if missing else f"got {sorted(unknown)}")
            )
        texts: dict[str, str] = {}
        for t in declaration.template:
            value = template.get(t.name, t.default)
            texts[t.name] = _template_text(self.name, t.kind, t.name, value)
        dtypes = []
        for p in declaration.parameters:
            c_name = texts.get(p.type, p.type)
            dtype = DTYPES.get(c_name)
            if dtype is None and not p.is_pointer:
                dtype = struct_dtype(self.source, c_name)
            if dtype is None:
                raise DTypeError(
                    f"kernel {self.name} ({declaration.place}): parameter {p.name} has the type "
                    f"{c_name!r}, which cannot be passed; use {', '.join(DTYPES)}, or a struct "
                    "of them by value"
                )
            dtypes.append(dtype)
        instance = Instance(self.name, tuple(texts.values()), self.min_arch)
        return Bound(self.source, declaration, instance, tuple(dtypes))


def _beside(maker: dict[str, Any], file: str | Path) -> str | Path:
    """The path of `file` beside the module with these globals, where there is one."""
    home = maker.get("__file__")
    if home is None or str(maker.get("__name__", "")).startswith("gpukit."):
        return file
    path = Path(home).resolve().parent / file
    return path if path.is_file() else file


def struct_dtype(source: Source, struct: str) -> np.dtype | None:
    """The dtype of a struct of numbers in the source, laid out as C lays it out."""
    members = source.structs.get(struct, ())
    if not members or not all(kind in DTYPES and name.isidentifier() for kind, name in members):
        return None
    return np.dtype([(name, DTYPES[kind]) for kind, name in members], align=True)


def c_type(dtype: Any) -> str:
    """C's name of an element type: float for float32."""
    found = _NAMES.get(np.dtype(dtype))
    if found is None:
        raise DTypeError(f"no kernel takes elements of {np.dtype(dtype)}; convert them first")
    return found


def _template_text(kernel: str, kind: str, name: str, value: Any) -> str:
    if kind in ("typename", "class"):
        return value if isinstance(value, str) else c_type(value)
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (int, np.integer)):
        return ("false", "true")[int(value)] if kind == "bool" else str(int(value))
    if isinstance(value, str):
        return value
    raise DTypeError(f"kernel {kernel}: template argument {name}={value!r} is no {kind}")


def _block(bound: Bound, block: int | tuple[int, ...]) -> tuple[int, int, int]:
    x, y, z = threads = _triple(bound, "block", block, BLOCK_LIMITS)
    if x * y * z > MOST_THREADS:
        raise ShapeError(
            f"kernel {bound.expression}: block {threads} has more than {MOST_THREADS} threads; use "
            "a smaller one"
        )
    _threads[block] = threads
    return threads


def _triple(
    bound: Bound, what: str, value: int | tuple[int, ...], limits: tuple[int, int, int]
) -> tuple[int, int, int]:
    sizes = value if isinstance(value, tuple) else (value,)
    if type(value) is int and 1 <= value <= limits[0]:
        return value, 1, 1
    if 1 <= len(sizes) <= 3:
        x, y, z = map(int, (*sizes, 1, 1)[:3])
        if 1 <= x <= limits[0] and 1 <= y <= limits[1] and 1 <= z <= limits[2]:
            return x, y, z
    raise ShapeError(
        f"kernel {bound.expression}: {what} {value!r} is outside 1 to {limits}; launch nothing "
        "for empty arrays, loop in the kernel for large ones"
    )

"""Variables of users' metrics: arrays on the host that `update_state` assigns to."""

from __future__ import annotations

from typing import Any

import numpy as np

from gpukit import initializers
from gpukit.autograd.results import operand, values_of
from gpukit.device import to_host
from gpukit.errors import ShapeError


class Variable(np.lib.mixins.NDArrayOperatorsMixin):
    """A float64 array that is assigned to; NumPy's functions and operators take it as an array.

    `initializer` is a number, or one of gpukit.initializers, by default "zeros".
    """

    def __init__(self, shape: tuple[int, ...], initializer: Any, name: str) -> None:
        self.name = name
        first = initializer
        if not isinstance(initializer, (int, float)):
            make = initializers.get("zeros" if initializer is None else initializer)
            first = make(shape, np.float64, np.random.default_rng(0)).reshape(shape)
        self.value = np.zeros(shape)
        self.assign(first)
        self._first = self.value.copy()

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    def assign(self, value: Any) -> None:
        """Take these values."""
        self.value = self._fitting(value)

    def assign_add(self, value: Any) -> None:
        """Add these values."""
        self.value = self.value + self._fitting(value)

    def assign_sub(self, value: Any) -> None:
        """Subtract these values."""
        self.value = self.value - self._fitting(value)

    def reset(self) -> None:
        """Take the first value again."""
        self.value = self._first.copy()

    def numpy(self) -> np.ndarray:
        """The values."""
        return self.value.copy()

    def _fitting(self, value: Any) -> np.ndarray:
        what = f"the variable {self.name!r}"
        array = np.asarray(to_host(operand(what, values_of(what, value))), np.float64)
        try:
            return np.broadcast_to(array, self.value.shape).copy()
        except ValueError:
            raise ShapeError(f"{what} is {self.shape}, the values are {array.shape}") from None

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.value.astype(dtype or self.value.dtype)

    def __float__(self) -> float:
        return float(self.value)

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __len__(self) -> int:
        return len(self.value)

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **named: Any) -> Any:
        arrays = [x.value if isinstance(x, Variable) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **named)

    def __repr__(self) -> str:
        return f"Variable({self.name!r}, {self.value!r})"

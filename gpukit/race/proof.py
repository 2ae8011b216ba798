"""Whether an implementation computes its primitive: held to the definition in float64.

Each is called twice on the same memory, with other numbers the second time, and the second result
counts: an earlier result, or what the first call left behind, is seen. The bounds are those to
which `gpukit kernels check` holds kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.backends.primitive import registry
from gpukit.device import Device, to_host
from gpukit.kernel_checks.compare import problem as difference
from gpukit.race.arguments import arguments
from gpukit.race.problems import Problem

SEEDS = (1, 2)  # of the first and the second call
# Bytes of an intermediate array of the definition, in float64, above which it goes image by image.
_MOST_BYTES = 1 << 28

# Positions of the arguments that hold a batch, for primitives whose images do not meet.
_BY_IMAGE = {
    "conv2d": (0,),
    "conv2d_input_grad": (0,),
    "max_pool2d": (0,),
    "max_pool2d_grad": (0, 1),
    "avg_pool2d": (0,),
    "avg_pool2d_grad": (0,),
    "lrn": (0,),
    "lrn_grad": (0, 1),
}
# Sums over images: those of parts of the batch add up.
_SUMMED = {"conv2d_weight_grad": (0, 1)}

Call = Callable[..., Any]


class Proof:
    """A problem with its arrays on a device, and what must come out.

    `fill` before `check`; `fill` again makes the arrays those that are timed.
    """

    def __init__(self, problem: Problem, device: Device) -> None:
        self.problem = problem
        self.device = device
        self._host = arguments(problem, SEEDS[0])
        self.arrays = [device.asarray(a.copy()) for a in self._host]
        self._wanted: list[np.ndarray] = []

    def first(self, call: Call) -> str:
        """Why a call failed on the first numbers; empty if it did not."""
        return self._failure(call)[0]

    def fill(self) -> None:
        """Put the second numbers into the arrays, and compute what comes of them."""
        self._host = arguments(self.problem, SEEDS[1])
        self._put()
        self._wanted = definition(self.problem, self._host)

    def check(self, call: Call) -> str:
        """What is wrong with a call on the second numbers; empty if nothing is."""
        failure, results = self._failure(call)
        if failure:
            return failure
        for i, (array, host) in enumerate(zip(self.arrays, self._host)):
            if not np.array_equal(to_host(array), host):
                self._put()
                return f"it wrote to argument {i}"
        return self.compare(results)

    def compare(self, results: list[np.ndarray | None]) -> str:
        """What is wrong with results on the second numbers; None stands for one not compared."""
        if len(results) != len(self._wanted):
            return f"{len(results)} results, by definition {len(self._wanted)}"
        for i, (mine, wanted) in enumerate(zip(results, self._wanted)):
            if mine is None:
                continue
            found = difference(
                f"result {i}",
                mine,
                wanted,
                self.problem.exact,
                self.problem.length,
                self.problem.scale,
            )
            if found:
                return found
        return ""

    def _put(self) -> None:
        for array, host in zip(self.arrays, self._host):
            array[...] = self.device.asarray(host)

    def _failure(self, call: Call) -> tuple[str, list[np.ndarray | None]]:
        try:
            results = call(*self.arrays, **self.problem.settings)
            self.device.synchronize()
            return "", [to_host(r) for r in as_list(results)]
        except Exception as error:  # whatever a plug-in raises is its own fault, not the race's
            return f"{type(error).__name__}: {error}", []


def as_list(results: Any) -> list[Any]:
    """A primitive's results, also where it has only one."""
    return list(results) if isinstance(results, tuple) else [results]


def definition(problem: Problem, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The definition's results in float64, computed a few images at a time."""
    function = registry[problem.primitive].reference
    batched = _BY_IMAGE.get(problem.primitive) or _SUMMED.get(problem.primitive)
    if not batched:
        return as_list(function(*map(_wide, arrays), **problem.settings))
    images = problem.sizes[0]
    step = max(1, _MOST_BYTES * images // max(problem.bytes * 2, 1))
    found: list[list[np.ndarray]] = []
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        some = [_wide(a[part]) if i in batched else _wide(a) for i, a in enumerate(arrays)]
        settings = dict(problem.settings)
        if "input_shape" in settings:
            settings["input_shape"] = (part.stop - first, *settings["input_shape"][1:])
        results = as_list(function(*some, **settings))
        if problem.primitive in _SUMMED and found:
            found = [[total + more] for (total,), more in zip(found, results)]
        elif problem.primitive in _SUMMED:
            found = [[r] for r in results]
        else:
            found = found or [[] for _ in results]
            for parts, result in zip(found, results):
                parts.append(result)
    return [parts[0] if len(parts) == 1 else np.concatenate(parts) for parts in found]


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float64) if array.dtype.kind == "f" else array

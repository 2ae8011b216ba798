"""For authors of operations: checks gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import gpukit.ops  # noqa: F401  (gives tensors their operators)
from gpukit.autograd import Tensor
from gpukit.device import Device, get_device, to_host
from gpukit.errors import DTypeError

FULL_JACOBIAN_LIMIT = 4096  # entries; beyond it, random projections are checked

__all__ = ["check_gradients"]


def check_gradients(
    function: Callable[..., Any],
    *inputs: np.ndarray,
    full: bool | None = None,
    directions: int = 3,
    step: float = 1e-6,
    tolerance: float = 1e-6,
    seed: int = 0,
    device: str | Device = "cpu",
) -> float:
    """Hold the gradients of `function(*tensors) -> Tensor` against central differences.

    `inputs` are float64 arrays, all of them differentiated; close over anything else. With `full`
    every entry of the Jacobian is compared; otherwise `directions` random directions v and
    weights u, uᵀJv against uᵀ(f(x + hv) − f(x − hv))/2h, which costs two evaluations each. The
    default is full where the Jacobian has at most 4,096 entries. `step` is h, for inputs of order
    1; keep inputs away from kinks by more than h.

    Returns the largest error relative to the largest entry (at least 1); raises AssertionError
    where it is above `tolerance`, naming input and entry, and DTypeError for other dtypes.
    """
    for i, x in enumerate(inputs):
        if not isinstance(x, np.ndarray) or x.dtype != np.float64:
            raise DTypeError(
                f"check_gradients: input {i + 1} is {getattr(x, 'dtype', type(x).__name__)}; "
                "use float64 arrays, finite differences need the digits"
            )
    inputs = tuple(np.array(x, order="C") for x in inputs)
    check = _Check(function, inputs, get_device(device), step, tolerance)
    outputs = check.evaluate(inputs)
    if full is None:
        full = outputs.size * sum(x.size for x in inputs) <= FULL_JACOBIAN_LIMIT
    if full:
        return check.jacobian(outputs)
    rng = np.random.default_rng(seed)
    return max(check.direction(outputs, rng) for _ in range(directions))


@dataclass(frozen=True)
class _Check:
    """A function whose gradients at `inputs` are held against differences."""

    function: Callable[..., Any]
    inputs: tuple[np.ndarray, ...]
    on: Device
    step: float
    tolerance: float

    def evaluate(self, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        tensors = (Tensor.wrap(self.on.asarray(x.copy())) for x in inputs)
        return to_host(self.function(*tensors).array)

    def pull(self, weights: np.ndarray) -> list[np.ndarray]:
        """uᵀJ for each input, by backward."""
        leaves = [Tensor(self.on.asarray(x), requires_grad=True) for x in self.inputs]
        self.function(*leaves).backward(self.on.asarray(weights))
        return [
            np.zeros(leaf.shape) if leaf.grad is None else np.array(leaf.grad.numpy())
            for leaf in leaves
        ]

    def jacobian(self, outputs: np.ndarray) -> float:
        """The largest error of an entry."""
        worst = 0.0
        analytic = [np.empty((outputs.size, x.size)) for x in self.inputs]
        for row in range(outputs.size):
            weights = np.zeros(outputs.size)
            weights[row] = 1
            pulled = self.pull(weights.reshape(outputs.shape))
            for jacobian, gradient in zip(analytic, pulled):
                jacobian[row] = gradient.reshape(-1)
        for number, (x, jacobian) in enumerate(zip(self.inputs, analytic), start=1):
            for column in range(x.size):
                flat, kept = x.reshape(-1), x.reshape(-1)[column]
                flat[column] = kept + self.step
                above = self.evaluate(self.inputs)
                flat[column] = kept - self.step
                below = self.evaluate(self.inputs)
                flat[column] = kept
                numeric = (above - below).reshape(-1) / (2 * self.step)
                errors = np.abs(jacobian[:, column] - numeric) / _scale(jacobian)
                row = int(errors.argmax()) if errors.size else 0
                # A NaN is an error too, so the comparison is the negated one.
                if errors.size and not errors[row] <= self.tolerance:
                    raise AssertionError(
                        f"d output{np.unravel_index(row, outputs.shape)} / d input "
                        f"{number}{np.unravel_index(column, x.shape)}: backward gives "
                        f"{jacobian[row, column]:.9g}, differences {numeric[row]:.9g} "
                        f"(error {errors[row]:.2g}, tolerance {self.tolerance:.2g})"
                    )
                worst = max(worst, float(errors[row]) if errors.size else 0.0)
        return worst

    def direction(self, outputs: np.ndarray, rng: np.random.Generator) -> float:
        """The error along a random direction."""
        weights = rng.normal(size=outputs.shape)
        directions = [rng.normal(size=x.shape) for x in self.inputs]
        gradients = self.pull(weights)
        analytic = sum(float((g * v).sum()) for g, v in zip(gradients, directions))
        above, below = (
            self.evaluate(tuple(x + s * self.step * v for x, v in zip(self.inputs, directions)))
            for s in (1, -1)
        )
        numeric = float((weights * (above - below)).sum()) / (2 * self.step)
        size = max(1.0, *(float(np.sqrt((g * g).sum() * (v * v).sum()))
                          for g, v in zip(gradients, directions)))  # fmt: skip
        error = abs(analytic - numeric) / size
        if not error <= self.tolerance:
            raise AssertionError(
                f"along a random direction backward gives {analytic:.9g}, differences "
                f"{numeric:.9g} (error {error:.2g}, tolerance {self.tolerance:.2g})"
            )
        return error


def _scale(jacobian: np.ndarray) -> float:
    return max(1.0, float(np.abs(jacobian).max())) if jacobian.size else 1.0

"""Cases inside what an implementation declares to take, as its `supports` says.

Random arguments are tried until one is taken. The usual makers are awkward on purpose; for plug-ins
settings like those of real layers come in turn with them, or a kernel for 3×3 windows would wait
for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from gpukit.errors import GpukitError
from gpukit.primitives.windows import Conv, Window
from gpukit.verify.cases import MAKERS, Case, Dice, copies, flat, same
from gpukit.verify.coverage import Target

TRIES = 1000
STEP = 1_000_003  # between the numbers that are tried; odd, so that both dtypes come up


def drawn(target: Target, seed: int, number: int) -> Case | None:
    """Case `number` of a target: of those tried, the first that it takes; None if none is."""
    impl = target.implementation
    make = MAKERS.get(str(target)) or MAKERS[target.primitive]
    tame = USUAL.get(target.primitive) if impl.origin else None
    for attempt in range(TRIES):
        dice = Dice(target.primitive, seed, number + STEP * attempt)
        made = tame(dice) if tame and attempt % 3 else make(dice)
        before = copies(made.arrays)
        takes = impl.takes(tuple(made.arrays), made.settings)
        if not all(map(same, flat(before), flat(made.arrays))):
            raise GpukitError(f"supports of {target} writes to its arguments")
        if takes:
            return made
    return None


def _layer(dice: Dice) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Conv]:
    """Shapes of x, w and y, and `Conv`, of a layer with square windows and no groups."""
    size, stride = dice.one(1, 3, 3, 5), dice.one(1, 1, 2)
    pad = dice.one(0, size // 2)  # none, or what keeps the size at stride 1
    conv = Conv((stride, stride), ((pad, pad), (pad, pad)))
    n, h, w = dice.one(1, 2), dice.between(size, 11), dice.between(size, 11)
    c, k = dice.one(1, 2, 3, 4, 8, 16, 32), dice.one(1, 2, 3, 4, 6, 8, 16, 32)
    y = (n, *conv.output_shape((h, w), (size, size)), k)
    return (n, h, w, c), (size, size, c, k), y, conv


def _conv2d(dice: Dice) -> Case:
    x, w, _, conv = _layer(dice)
    activation = dice.one(None, None, None, "relu")
    return Case(
        [dice.array(*x), dice.array(*w), dice.array(w[3]) if dice.chance(0.5) else None],
        {"conv": conv, "activation": activation},
        exact=dice.whole,
        length=w[0] * w[1] * w[2],
    )


def _conv2d_input_grad(dice: Dice) -> Case:
    x, w, y, conv = _layer(dice)
    arrays = [dice.array(*y), dice.array(*w)]
    settings = {"conv": conv, "input_shape": x}
    return Case(arrays, settings, dice.whole, w[0] * w[1] * w[3])


def _conv2d_weight_grad(dice: Dice) -> Case:
    x, w, y, conv = _layer(dice)
    arrays = [dice.array(*x), dice.array(*y)]
    settings = {"conv": conv, "kernel_shape": w}
    return Case(arrays, settings, dice.whole, y[0] * y[1] * y[2])


def _pool(exact: bool) -> Callable[[Dice], Case]:
    def make(dice: Dice) -> Case:
        size = dice.one(2, 2, 3)
        stride = dice.one(size, 2)
        shape = (dice.one(1, 2), dice.between(size, 12), dice.between(size, 12))
        window = Window((size, size), (stride, stride))
        x = dice.array(*shape, dice.one(1, 3, 4, 8, 16))
        return Case([x], {"window": window}, exact=exact, length=window.cells)

    return make


def _pair(dice: Dice) -> Case:
    shape = (dice.between(1, 9), dice.between(1, 300))
    return Case([dice.array(*shape), dice.array(*shape, positive=True)], length=2)


def _square(dice: Dice) -> Case:
    m, k, n = (dice.one(8, 16, 32, 64) for _ in range(3))
    return Case([dice.array(m, k), dice.array(k, n)], exact=dice.whole, length=k)


USUAL: dict[str, Callable[[Dice], Case]] = {
    "conv2d": _conv2d,
    "conv2d_input_grad": _conv2d_input_grad,
    "conv2d_weight_grad": _conv2d_weight_grad,
    "max_pool2d": _pool(exact=True),
    "avg_pool2d": _pool(exact=False),
    "matmul": _square,
    **dict.fromkeys(("add", "subtract", "multiply", "divide", "maximum", "minimum"), _pair),
}


def other_values(made: Case, seed: int) -> Case:
    """The same case with the elements of each array in another order: as good as other data."""
    rng = np.random.default_rng(seed)

    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(v) for v in value]
        if not isinstance(value, np.ndarray) or value.size < 2:
            return value
        mixed = rng.permutation(value.reshape(-1)).reshape(value.shape)
        return (mixed * value.dtype.type(2)) if value.dtype.kind == "f" else mixed

    return Case(shuffled(made.arrays), made.settings, made.exact, made.length, 4 * made.scale)

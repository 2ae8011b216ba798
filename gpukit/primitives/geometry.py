"""The arithmetic of windows that slide over images: output sizes, padding, and what fits.

Users write a stride as 2 or (2, 1) and padding as "same", "valid", 1, (1, 2) or ((0, 1), (1, 1));
primitives take the objects of windows.py. This turns one into the other, with errors that a user
can act on. Dumoulin and Visin, "A guide to convolution arithmetic
for deep learning" (2016). Letters along one axis: n pixels, f window cells, s stride, d dilation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from gpukit.core.config import show
from gpukit.core.settings import is_strict
from gpukit.errors import SettingError, ShapeError
from gpukit.primitives.windows import NO_PADDING, Padding, Pair, Window, output_size, span

AXES = ("height", "width")
_PADDING_FORMS = (
    '"same", "valid", a whole number, (rows, columns) or ((top, bottom), (left, right))'
)
_SUGGESTIONS = 3  # of each kind; nearest first


def conv_output_size(n: int, f: int, s: int, padding: Pair, d: int = 1) -> int:
    """`output_size`, but 0 where the window is too large for the padded input."""
    return max(output_size(n, f, s, padding, d), 0)


def same_padding(n: int, f: int, s: int, d: int = 1) -> Pair:
    """Padding (before, after) for an output of ⌈n/s⌉; the odd one comes after."""
    total = max((-(-n // s) - 1) * s + span(f, d) - n, 0)
    return total // 2, total - total // 2


def fits(n: int, f: int, s: int, padding: Pair, d: int = 1) -> bool:
    """Whether the windows tile the padded input exactly: (n + pads - span) / s whole, from 0."""
    rest = n + sum(padding) - span(f, d)
    return rest >= 0 and rest % s == 0


def fit_suggestions(n: int, f: int, s: int, padding: Pair, d: int = 1) -> dict[str, list[int]]:
    """What to change, one thing at a time, so that the windows tile the input exactly.

    Keys "stride", "padding" (both sides together, at most what lets each window see a pixel) and
    "size" (of the input): for each the three values nearest to the present one, ascending.
    """
    total, reach = sum(padding), span(f, d)
    strides = [v for v in range(1, n + total + 1) if v != s and fits(n, f, v, padding, d)]
    pads = [v for v in range(2 * reach - 1) if v != total and fits(n, f, s, (v, 0), d)]
    first = max(reach - total, 1)
    sizes = [v for v in range(first, max(first, n) + 2 * s) if v != n and fits(v, f, s, padding, d)]
    return {
        "stride": _nearest(strides, s),
        "padding": _nearest(pads, total),
        "size": _nearest(sizes, n),
    }


def window(
    image: Sequence[int],
    size: Any,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    strict: bool | None = None,
    where: str = "",
    noun: str = "filter",
) -> Window:
    """A window as users write it, checked against an image (height, width), for the primitives.

    `where` names the layer or function in errors ("Conv2D 'conv2'"), `noun` the window ("filter",
    "pool window"). `strict` (None: the global setting) refuses windows that do not tile the image.
    Raises SettingError for a setting wrong by itself, ShapeError where sizes do not go together.
    """
    cells = as_pair(size, f"{noun} size", where)
    step = as_pair(stride, "stride", where)
    apart = as_pair(dilation, "dilation", where)
    pads = as_padding(padding, image, cells, step, apart, where)
    for axis in range(2):
        numbers = (image[axis], cells[axis], step[axis], pads[axis], apart[axis])
        _check_reach(*numbers, AXES[axis], where, noun)
        if is_strict() if strict is None else strict:
            _check_fit(*numbers, AXES[axis], where, noun)
    return Window(cells, step, pads, apart)


def pool_window(
    image: Sequence[int],
    size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    strict: bool | None = None,
    where: str = "",
) -> Window:
    """`window` for pooling: the stride is the window's size unless given, and no window may lie
    wholly in the padding, where there is nothing to take a maximum or a mean of."""
    cells = as_pair(size, "pool window size", where)
    step = cells if stride is None else stride
    made = window(
        image, cells, stride=step, padding=padding, strict=strict, where=where, noun="pool window"
    )
    for axis in range(2):
        if max(made.padding[axis]) >= cells[axis]:
            _refuse(
                SettingError,
                where,
                f"padding {made.padding[axis]} along the {AXES[axis]} is not smaller than the pool "
                f"window of {cells[axis]}, so a window could hold nothing but padding; "
                f"use at most {cells[axis] - 1}",
            )
    return made


def as_pair(value: Any, name: str, where: str = "", minimum: int = 1) -> Pair:
    """A whole number or a pair of them as (rows, columns), each at least `minimum`."""
    values = _sequence(value)
    if values is None:
        values = [value, value]
    if len(values) != 2 or not all(_is_whole(v) and v >= minimum for v in values):
        _refuse(
            SettingError,
            where,
            f"{name} {show(value)}: use a whole number of at least {minimum}, "
            f"or a pair of them (rows, columns)",
        )
    return int(values[0]), int(values[1])


def as_padding(
    padding: Any,
    image: Sequence[int],
    size: Pair,
    stride: Pair,
    dilation: Pair = (1, 1),
    where: str = "",
) -> Padding:
    """Padding in any of its forms as ((top, bottom), (left, right))."""
    if isinstance(padding, str):
        match padding.lower():
            case "valid":
                return NO_PADDING
            case "same":
                rows, columns = (
                    same_padding(n, f, s, d)
                    for n, f, s, d in zip(image, size, stride, dilation, strict=True)
                )
                return rows, columns
        _refuse(SettingError, where, f"padding {show(padding)}: use {_PADDING_FORMS}")
    sides = _sequence(padding)
    if sides is None:
        sides = [padding, padding]
    pairs = [[side, side] if (pair := _sequence(side)) is None else pair for side in sides]
    if (
        len(pairs) != 2
        or any(len(pair) != 2 for pair in pairs)
        or not all(_is_whole(v) and v >= 0 for pair in pairs for v in pair)
    ):
        _refuse(
            SettingError, where, f"padding {show(padding)}: use {_PADDING_FORMS}, none negative"
        )
    (top, bottom), (left, right) = ([int(v) for v in pair] for pair in pairs)
    return (top, bottom), (left, right)


def check_groups(channels: int, filters: int, groups: Any, where: str = "") -> int:
    """`groups` as an int that divides the input channels and the filters."""
    if not _is_whole(groups) or groups < 1:
        _refuse(SettingError, where, f"groups={show(groups)}: use a whole number of at least 1")
    groups = int(groups)
    for count, noun in ((channels, "input channels"), (filters, "filters")):
        if count % groups:
            common = [
                g for g in range(1, min(channels, filters) + 1) if not channels % g + filters % g
            ]
            _refuse(
                ShapeError,
                where,
                f"{count} {noun} do not divide into groups={groups}; use {_listed(common, 6)}",
            )
    return groups


def _check_reach(
    n: int, f: int, s: int, padding: Pair, d: int, axis: str, where: str, noun: str
) -> None:
    reach, room = span(f, d), n + sum(padding)
    if n < 1:
        _refuse(ShapeError, where, f"the input's {axis} is {n}; use an input of at least 1")
    if reach <= room:
        return
    dilated = f" (dilation {d}: it spans {reach})" if d > 1 else ""
    padded = f" + padding {sum(padding)} = {room}" if sum(padding) else ""
    smaller = (room - 1) // d + 1
    ways = [
        f"a {noun} of at most {smaller}",
        'padding "same"',
        f"an input of at least {reach - sum(padding)}",
    ]
    _refuse(
        ShapeError,
        where,
        f"{noun} {axis} {f}{dilated} is larger than the input's {axis} {n}{padded}; "
        f"use {' or '.join(ways)}",
    )


def _check_fit(
    n: int, f: int, s: int, padding: Pair, d: int, axis: str, where: str, noun: str
) -> None:
    if fits(n, f, s, padding, d):
        return
    reach, total = span(f, d), sum(padding)
    exact = (n + total - reach) / s + 1
    labels = {"stride": "stride", "padding": "total padding", "size": f"input {axis}"}
    ways = [
        f"{labels[kind]} {_listed(values, _SUGGESTIONS)}"
        for kind, values in fit_suggestions(n, f, s, padding, d).items()
        if values
    ]
    spans = f", dilation {d}" if d > 1 else ""
    _refuse(
        ShapeError,
        where,
        f"{axis} {n}, {noun} {f}{spans}, stride {s}, padding {padding[0]} + {padding[1]}: "
        f"({n} - {reach} + {total})/{s} + 1 = {exact:.2f} does not fit; use {', or '.join(ways)}",
    )


def _nearest(values: list[int], present: int) -> list[int]:
    return sorted(sorted(values, key=lambda v: (abs(v - present), v))[:_SUGGESTIONS])


def _listed(values: Sequence[int], most: int) -> str:
    shown = ", ".join(str(v) for v in values[:most])
    return shown + (" …" if len(values) > most else "")


def _is_whole(value: Any) -> bool:
    """Python or NumPy integers; bool is none, and 2.0 is more likely a slip than a 2.

    Nor are numbers that kernels could not count with.
    """
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        return False
    return int(value) < 1 << 31


def _sequence(value: Any) -> list[Any] | None:
    """The members of a tuple, list or array; None for anything else."""
    if isinstance(value, np.ndarray):
        value = value.tolist() if value.ndim else None
    return list(value) if isinstance(value, (tuple, list)) else None


def _refuse(error: type[Exception], where: str, message: str) -> NoReturn:
    raise error(f"{where}: {message}" if where else message)

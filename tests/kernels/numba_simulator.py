"""Every Numba kernel through its launcher in Numba's simulator; one JSON object says what is wrong.

    NUMBA_ENABLE_CUDASIM=1 python tests/kernels/numba_simulator.py CASES

The simulator must be chosen before Numba is imported, so test_numba_twins.py starts this in a
process of its own. A CUDA thread costs some 50 µs: all shapes are tiny.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "backend")]

import naive  # noqa: E402
import numpy as np  # noqa: E402
from cases import conv_case, pool_case, values  # noqa: E402
from numba import cuda  # noqa: E402

from gpukit.backends.cuda.conv import numba_im2col as panels  # noqa: E402
from gpukit.dispatch.primitive import Implementation, registry  # noqa: E402
from gpukit.launch.numba import NumbaKernel  # noqa: E402
from gpukit.primitives import Conv  # noqa: E402
from gpukit.verify import coverage, numba_kernels  # noqa: E402

SMALL = 150  # elements of an array
WAYS = ("numba", "numba_im2col")

ODD = {
    "odd, grouped, dilated": (
        (1, 5, 7, 4),
        (3, 2, 2, 6),
        {"conv": Conv(stride=(2, 1), padding=((2, 0), (1, 3)), dilation=(1, 2), groups=2)},
    ),
    "depthwise, two filters each": (
        (2, 4, 3, 3),
        (2, 3, 1, 6),
        {"conv": Conv(padding=((0, 1), (1, 1)), dilation=(2, 1), groups=3)},
    ),
    "stride beyond the kernel": (
        (1, 9, 8, 2),
        (2, 1, 2, 3),
        {"conv": Conv(stride=(4, 3))},
    ),
    "longer than a tile, both ways": (
        (1, 5, 4, 3),
        (3, 2, 3, 17),
        {"conv": Conv(padding=((1, 1), (0, 0)))},
    ),
}


def call(name: str, way: str, *arrays: Any, **settings: Any) -> Any:
    """The launcher itself, as it is called on a card."""
    return registry[name].implementations("cuda")[way].function(*arrays, **settings)


def difference(actual: np.ndarray, wanted: np.ndarray, scale: float = 1.0) -> str:
    """Empty if all values are within float32's roundings of short sums."""
    if actual.shape != wanted.shape or actual.dtype != np.float32:
        return f"{actual.dtype}{actual.shape}, not {wanted.shape}"
    worst = float(np.max(np.abs(actual - wanted) / (scale + np.abs(wanted)), initial=0))
    return "" if worst <= 1e-5 else f"off by {worst:.3g}"


def convolutions(count: int) -> dict[str, str]:
    """All passes against loops."""
    shapes = dict(ODD)
    seed = 0
    while len(shapes) < len(ODD) + count:
        case = conv_case(seed, most=5)
        if np.prod(case.x) <= SMALL and np.prod(case.w) <= SMALL:
            shapes[f"conv_case {seed}"] = (case.x, case.w, case.settings)
        seed += 1
    found = {}
    for label, (x_shape, w_shape, settings) in shapes.items():
        x, w, b = (values(s, 7, np.float32) for s in (x_shape, w_shape, w_shape[3:]))
        y = naive.conv2d(x, w, b, **settings)
        gy = values(y.shape, 8, np.float32)
        gx = naive.conv2d_input_grad(gy, w, input_shape=x_shape, **settings)
        gw = naive.conv2d_weight_grad(x, gy, kernel_shape=w_shape, **settings)
        for way in WAYS:
            relu = call("conv2d", way, x, w, b, **settings, activation="relu")
            ours_gx = call("conv2d_input_grad", way, gy, w, input_shape=x_shape, **settings)
            ours_gw = call("conv2d_weight_grad", way, x, gy, kernel_shape=w_shape, **settings)
            found[f"{label} {way} y"] = difference(relu, np.maximum(y, 0))
            found[f"{label} {way} gx"] = difference(ours_gx, gx)
            found[f"{label} {way} gw"] = difference(ours_gw, gw)
    return found


def poolings(count: int) -> dict[str, str]:
    """Maximum and mean, with gradients, against loops; whole numbers have ties, one is NaN."""
    found = {}
    for seed in range(1, count + 1):
        case = pool_case(seed, most=5)
        x = values(case.x, 9, np.float32, whole=True)[..., :3]
        if x.size:
            x[0, 0, 0, 0] = np.nan
        y, index = call("max_pool2d", "numba", x, **case.settings)
        wanted, wanted_index = naive.max_pool2d(x, **case.settings)
        same = np.array_equal(y, wanted, equal_nan=True) and np.array_equal(index, wanted_index)
        found[f"max_pool2d {seed}"] = "" if same and index.dtype == np.uint8 else "differs"
        x = values(x.shape, 10, np.float32)
        gy = values(y.shape, 11, np.float32)
        back = case.settings | {"input_shape": x.shape}
        for name, arrays, settings in (
            ("max_pool2d_grad", (gy, index), back),
            ("avg_pool2d", (x,), case.settings),
            ("avg_pool2d_grad", (gy,), back),
        ):
            ours = call(name, "numba", *arrays, **settings)
            found[f"{name} {seed}"] = difference(ours, getattr(naive, name)(*arrays, **settings))
    return found


def log_softmax(x: np.ndarray) -> np.ndarray:
    """x - max - log Σ e^(x - max), row by row in float64."""
    shifted = [[float(v) - float(max(row)) for v in row] for row in x]
    return np.array([[v - math.log(sum(map(math.exp, row))) for v in row] for row in shifted])


def rows() -> dict[str, str]:
    """Softmax, also of a row longer than a block, of numbers whose exponentials overflow."""
    found = {}
    for shape in ((2, 3), (1, 300)):
        x = values(shape, 12, np.float32) * 90
        y = naive.softmax(x)
        found[f"softmax {shape}"] = difference(call("softmax", "numba", x), y, 1e-6)
        log = call("log_softmax", "numba", x)
        found[f"log_softmax {shape}"] = difference(log, log_softmax(x))
    return found


def several_panels() -> dict[str, Any]:
    """A panel of 1 KiB: three images are three parts."""
    x_shape, w_shape, settings = (
        (3, 5, 4, 2),
        (3, 3, 2, 4),
        {"conv": Conv(padding=((1, 1), (0, 0)))},
    )
    x, w = values(x_shape, 1, np.float32, whole=True), values(w_shape, 2, np.float32, whole=True)
    wanted = naive.conv2d(x, w, **settings)
    gy = values(wanted.shape, 3, np.float32, whole=True)
    before, launch, filled = panels.PANEL_BYTES, NumbaKernel.launch, []

    def counted(self: NumbaKernel, *arguments: Any) -> None:
        filled.append(self.name)
        launch(self, *arguments)

    panels.PANEL_BYTES, NumbaKernel.launch = 1 << 10, counted  # type: ignore[method-assign]
    try:
        y = call("conv2d", WAYS[1], x, w, None, **settings)
        parts = filled.count("im2col")
        gx = call("conv2d_input_grad", WAYS[1], gy, w, input_shape=x_shape, **settings)
        gw = call("conv2d_weight_grad", WAYS[1], x, gy, kernel_shape=w_shape, **settings)
    finally:
        panels.PANEL_BYTES, NumbaKernel.launch = before, launch  # type: ignore[method-assign]
    pairs = {
        "y": (y, wanted),
        "gx": (gx, naive.conv2d_input_grad(gy, w, input_shape=x_shape, **settings)),
        "gw": (gw, naive.conv2d_weight_grad(x, gy, kernel_shape=w_shape, **settings)),
    }
    return {"parts": parts, "problems": [n for n, (a, b) in pairs.items() if (a != b).any()]}


@cuda.jit
def late(x, y):
    """relu without its first element."""
    i = cuda.grid(1) + 1
    if i < x.shape[0]:
        y[i] = max(x[i], 0)


@cuda.jit
def unguarded(x, y):
    """relu that forgets where the array ends."""
    i = cuda.grid(1)
    y[i] = max(x[i], 0)


@cuda.jit
def in_place(x, y):
    """relu that also changes x."""
    i = cuda.grid(1)
    if i < x.shape[0]:
        x[i] = y[i] = max(x[i], 0)


def planted_bugs() -> dict[str, str]:
    """What the check finds of three faulty kernels."""
    found = {}
    for label, kernel in (("late", late), ("unguarded", unguarded), ("in place", in_place)):

        def launcher(x: np.ndarray, kernel: Any = kernel) -> np.ndarray:
            y = np.full_like(x, np.nan)
            if x.size:
                kernel[-(-x.size // 32), 32](x.reshape(-1), y.reshape(-1))
            return y

        way = Implementation(launcher, "cuda", "planted", emulated=False)
        registry["relu"]._by_kind["cuda"]["planted"] = way
        target = coverage.Target("relu", "planted")
        found[label] = " ".join(numba_kernels.run(target, 0, number) for number in range(4))
        del registry["relu"]._by_kind["cuda"]["planted"]
    return found


def main(count: int) -> int:
    """Run everything; `count` random cases of each kind."""
    targets = [t for t in coverage.targets() if t.simulated]
    fuzz = {
        str(t): [p for p in (numba_kernels.run(t, 2, n) for n in range(count)) if p]
        for t in targets
    }
    naively = convolutions(count) | poolings(2 * count) | rows()
    report = {
        "fuzz": fuzz,
        "naive": naively,
        "panels": several_panels(),
        "planted": planted_bugs(),
    }
    print(json.dumps(report))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))

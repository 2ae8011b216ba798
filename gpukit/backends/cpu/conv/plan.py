"""How one convolution is cut into panels and tasks.

All cuts follow from the shape alone, never from the number of threads, so that results are the
same bits for any GPUKIT_THREADS.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from gpukit.backends.cpu.conv.widen import pixels_together
from gpukit.backends.cpu.runtime.common import Array
from gpukit.backends.cpu.runtime.records import record
from gpukit.backends.cpu.runtime.threads import MOST_TASKS, Ranges, tasks_of
from gpukit.primitives.windows import NO_PADDING, Conv

# A panel about this large stays in L2 beside the blocks that the GEMM packs.
_PANEL_BYTES = 512 << 10
# Fewer rows would repack the weights too often, a shorter product would reread y too often.
_PANEL_PIXELS = 256
_PANEL_DEPTH = 256
# One task is worth at least this much work, in multiply-adds (some 30 µs), and there are at most so
# many. Copying a value into the panel takes as long as about so many multiply-adds.
TASK_WORK = 3_000_000
_COPY_WORK = 40


@dataclass(frozen=True, slots=True)
class Plan:
    """One convolution's shape and how it is cut; `numbers` is what compiled code reads."""

    output_shape: tuple[int, int, int, int]
    together: int
    lines: int
    panel_lines: int
    panel_rows: int
    panel_size: int
    work: int
    numbers: Array

    def tasks(self, units: int, most: int = MOST_TASKS, slowness: int = 1) -> Ranges:
        """Cut `units` (lines, images …) into ranges, each worth a task if possible.

        A multiply-add takes as long as `slowness` of them in a GEMM.
        """
        return tasks_of(units, self.work * slowness, TASK_WORK, most)


@lru_cache(maxsize=1024)
def make_plan(
    input_shape: tuple[int, ...], kernel_shape: tuple[int, ...], conv: Conv, itemsize: int
) -> Plan:
    """Plan for x (N,H,W,C) and w (R,S,C/groups,K)."""
    n, h, w, c = input_shape
    r, s, depth, k = kernel_shape
    rows, columns = conv.output_shape((h, w), kernel_shape)
    lines = n * rows
    in_place = r == s == 1 and conv.stride == (1, 1) and conv.padding == NO_PADDING
    # Kernel rows in one panel: enough for a long product, no more than the cache holds.
    row_run = s * depth
    fitting = _PANEL_BYTES // itemsize // max(_PANEL_PIXELS * row_run, 1)
    panel_rows = min(r, max(fitting, -(-_PANEL_DEPTH // max(row_run, 1)), 1))
    pixels = max(_PANEL_PIXELS, _PANEL_BYTES // itemsize // max(panel_rows * row_run, 1))
    panel_lines = max(1, min(pixels // max(columns, 1), lines or 1))
    # Equal panels rather than a short last one.
    panels = -(-lines // panel_lines)
    panel_lines = -(-lines // panels) if panels else 1
    numbers = record(
        height=h, width=w, channels=c, outputs=k, rows=r, columns=s,
        p_count=rows, q_count=columns,
        step_h=conv.stride[0], step_w=conv.stride[1], top=conv.offset[0], left=conv.offset[1],
        apart_h=conv.dilation[0], apart_w=conv.dilation[1], groups=conv.groups,
        panel_lines=panel_lines,
        panel_rows=panel_rows,  # of the kernel
        in_place=int(in_place),  # whether x itself is the panel
    )  # fmt: skip
    return Plan(
        output_shape=(n, rows, columns, k),
        together=pixels_together(kernel_shape, columns, conv),
        lines=lines,
        panel_lines=panel_lines,
        panel_rows=panel_rows,
        panel_size=0 if in_place else panel_lines * columns * panel_rows * row_run + 16,
        work=lines * columns * r * s * depth * (k + _COPY_WORK * conv.groups * (not in_place)),
        numbers=numbers,
    )

"""Convolution as matrix products: compiled loops over output lines.

An output line is one row of Q pixels of one image; the N·P lines of a batch are numbered through.
A panel holds, for some lines, a row for each pixel with the input values under some rows of the
kernel, so that

    y[pixels, K]  (+)=  panel[pixels, r·S·C] @ w[r·S·C, K]

In NHWC the S·C values of one kernel row are one contiguous run of the input, which is what makes
the copy cheap. A panel of about half of L2 is copied and multiplied before it leaves the cache.

`plan` is `Plan.numbers` of plan.py.
"""

from __future__ import annotations

from gpukit.backends.cpu.activation.piecewise import finish
from gpukit.backends.cpu.runtime.blas import gemm
from gpukit.backends.cpu.runtime.jit import jit
from gpukit.backends.cpu.runtime.vectors import add_run, clear_beyond, copy_beyond, copy_run


@jit
def fill_panel(x, panel, plan, group, first_line, last_line, first_row, last_row):  # type: ignore[no-untyped-def]
    """panel[pixel, (r - first_row, s, c)] = input under cell (r, s) of the pixel's window, or 0.

    Filled strictly from front to back, so that a run may be copied with some values too many; the
    panel has room for 16 more at its end.
    """
    conv = plan[0]
    height, width, channels = conv.height, conv.width, conv.channels
    columns, p_count, q_count = conv.columns, conv.p_count, conv.q_count
    step_h, step_w, top, left = conv.step_h, conv.step_w, conv.top, conv.left
    apart_h, apart_w, groups = conv.apart_h, conv.apart_w, conv.groups
    depth = channels // groups
    row_run = columns * depth
    whole_runs = groups == 1 and apart_w == 1
    safe = len(x) - row_run - 16  # the last place from which 15 values too many may be read
    apart = apart_h * width * channels
    out = 0
    for line in range(first_line, last_line):
        image, p = divmod(line, p_count)
        above = p * step_h - top + first_row * apart_h
        rows_inside = above >= 0 and above + (last_row - first_row - 1) * apart_h < height
        for q in range(q_count):
            w = q * step_w - left
            inside = w >= 0 and w + columns <= width
            if whole_runs and inside and rows_inside:
                source = ((image * height + above) * width + w) * channels
                if source + (last_row - first_row - 1) * apart <= safe:
                    for _ in range(last_row - first_row):
                        copy_beyond(panel, out, x, source, row_run)
                        out += row_run
                        source += apart
                    continue
            for r in range(first_row, last_row):
                h = p * step_h - top + r * apart_h
                source = ((image * height + h) * width + w) * channels + group * depth
                if h < 0 or h >= height:
                    clear_beyond(panel, out, row_run)
                elif whole_runs:
                    if inside:
                        if source <= safe:
                            copy_beyond(panel, out, x, source, row_run)
                        else:
                            copy_run(panel, out, x, source, row_run)
                    else:
                        before = min(max(-w, 0), columns) * channels
                        after = max(min(max(width - w, 0), columns) * channels, before)
                        clear_beyond(panel, out, before)
                        if source <= safe:
                            copy_beyond(panel, out + before, x, source + before, after - before)
                        else:
                            copy_run(panel, out + before, x, source + before, after - before)
                        clear_beyond(panel, out + after, row_run - after)
                else:
                    for s in range(columns):
                        cell = out + s * depth
                        run = source + s * apart_w * channels
                        if 0 <= w + s * apart_w < width:
                            if run + depth + 16 <= len(x):
                                copy_beyond(panel, cell, x, run, depth)
                            else:
                                copy_run(panel, cell, x, run, depth)
                        else:
                            clear_beyond(panel, cell, depth)
                out += row_run


@jit
def forward(x, w, bias, y, panel, plan, first_line, last_line, activation):  # type: ignore[no-untyped-def]
    """Output lines first_line … last_line of y (N·P, Q, K), panel by panel."""
    conv = plan[0]
    channels, outputs, rows, columns = conv.channels, conv.outputs, conv.rows, conv.columns
    q_count, groups = conv.q_count, conv.groups
    lines_a_panel, rows_a_panel = conv.panel_lines, conv.panel_rows
    depth = channels // groups
    kernels = outputs // groups
    in_place = conv.in_place == 1  # 1×1, stride 1, no padding: the input is the panel
    for first in range(first_line, last_line, lines_a_panel):
        last = min(first + lines_a_panel, last_line)
        pixels = (last - first) * q_count
        start = first * q_count * outputs
        for group in range(groups):
            for row in range(0, rows, rows_a_panel):
                end = min(row + rows_a_panel, rows)
                length = (end - row) * columns * depth
                weights = w[row * columns * depth * outputs + group * kernels :], outputs
                out = y[start + group * kernels :], outputs
                if in_place:
                    values = x[first * q_count * channels + group * depth :], channels
                else:
                    fill_panel(x, panel, plan, group, first, last, row, end)
                    values = panel, length
                # (pixels, K/G) (+)= (pixels, r·S·C/G) @ (r·S·C/G, K/G)
                beta = 0 if row == 0 else 1
                gemm(False, False, (pixels, kernels, length), values, weights, beta, out)
        if activation != 0 or len(bias) > 0:
            finish(y[start:], pixels, outputs, outputs, bias, activation)


@jit
def add_panel(panel, gx, plan, group, first_line, last_line, first_row, last_row):  # type: ignore[no-untyped-def]
    """The reverse of `fill_panel`: gx under cell (r, s) += panel[pixel, (r - first_row, s, c)]."""
    conv = plan[0]
    height, width, channels = conv.height, conv.width, conv.channels
    columns, p_count, q_count = conv.columns, conv.p_count, conv.q_count
    step_h, step_w, top, left = conv.step_h, conv.step_w, conv.top, conv.left
    apart_h, apart_w, groups = conv.apart_h, conv.apart_w, conv.groups
    depth = channels // groups
    row_run = columns * depth
    whole_runs = groups == 1 and apart_w == 1
    out = 0
    for line in range(first_line, last_line):
        image, p = divmod(line, p_count)
        for q in range(q_count):
            w = q * step_w - left
            before = min(max(-w, 0), columns) * channels
            after = min(max(width - w, 0), columns) * channels
            for r in range(first_row, last_row):
                h = p * step_h - top + r * apart_h
                target = ((image * height + h) * width + w) * channels + group * depth
                if 0 <= h < height:
                    if whole_runs:
                        add_run(gx, target + before, panel, out + before, after - before)
                    else:
                        for s in range(columns):
                            if 0 <= w + s * apart_w < width:
                                run = target + s * apart_w * channels
                                add_run(gx, run, panel, out + s * depth, depth)
                out += row_run


@jit
def input_grad(gy, w, gx, panel, plan, first_image, last_image):  # type: ignore[no-untyped-def]
    """gx of whole images, so that no two threads add to one pixel.

    panel[pixels, r·S·C/G] = gy[pixels, K/G] @ w[r·S·C/G, K/G]ᵀ, then added under the windows.
    """
    conv = plan[0]
    pixels_in = conv.height * conv.width
    channels, outputs, rows, columns = conv.channels, conv.outputs, conv.rows, conv.columns
    p_count, q_count, groups = conv.p_count, conv.q_count, conv.groups
    lines_a_panel, rows_a_panel = conv.panel_lines, conv.panel_rows
    depth = channels // groups
    kernels = outputs // groups
    if conv.in_place == 1:
        pixels = (last_image - first_image) * pixels_in
        for group in range(groups):
            gradients = gy[first_image * pixels_in * outputs + group * kernels :], outputs
            out = gx[first_image * pixels_in * channels + group * depth :], channels
            weights = w[group * kernels :], outputs
            gemm(False, True, (pixels, depth, kernels), gradients, weights, 0, out)
        return
    gx[first_image * pixels_in * channels : last_image * pixels_in * channels] = 0
    for first in range(first_image * p_count, last_image * p_count, lines_a_panel):
        last = min(first + lines_a_panel, last_image * p_count)
        pixels = (last - first) * q_count
        for group in range(groups):
            for row in range(0, rows, rows_a_panel):
                end = min(row + rows_a_panel, rows)
                length = (end - row) * columns * depth
                gradients = gy[first * q_count * outputs + group * kernels :], outputs
                weights = w[row * columns * depth * outputs + group * kernels :], outputs
                size = pixels, length, kernels
                gemm(False, True, size, gradients, weights, 0, (panel, length))
                add_panel(panel, gx, plan, group, first, last, row, end)


@jit
def weight_grad(x, gy, gw, panel, plan, first_line, last_line, first_row, last_row):  # type: ignore[no-untyped-def]
    """Some output lines' share of rows first_row … last_row of the gradient gw (R,S·C/G,K).

    gw[r·S·C/G, K/G] (+)= panel[pixels, r·S·C/G]ᵀ @ gy[pixels, K/G]
    """
    conv = plan[0]
    channels, outputs, columns = conv.channels, conv.outputs, conv.columns
    q_count, groups, lines_a_panel = conv.q_count, conv.groups, conv.panel_lines
    depth = channels // groups
    kernels = outputs // groups
    length = (last_row - first_row) * columns * depth
    for first in range(first_line, last_line, lines_a_panel):
        last = min(first + lines_a_panel, last_line)
        pixels = (last - first) * q_count
        beta = 0 if first == first_line else 1
        for group in range(groups):
            gradients = gy[first * q_count * outputs + group * kernels :], outputs
            out = gw[first_row * columns * depth * outputs + group * kernels :], outputs
            if conv.in_place == 1:
                values = x[first * q_count * channels + group * depth :], channels
            else:
                fill_panel(x, panel, plan, group, first, last, first_row, last_row)
                values = panel, length
            gemm(True, False, (length, kernels, pixels), values, gradients, beta, out)

"""Tiles and ranges: what is chosen, from what, and whether kernels hold what the counting takes."""

from __future__ import annotations

import ast
import json
import random
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpukit import models
from gpukit.backends.cuda.runtime import tiling
from gpukit.cli.app import app
from gpukit.launch import nvrtc
from gpukit.launch.sources import load
from gpukit.launch.wheels import nvidia_folder
from gpukit.race import alexnet
from gpukit.static.occupancy import occupancy

needs_wheel = pytest.mark.skipif(nvidia_folder() is None, reason="pip install 'gpukit[kernels]'")


def test_ranges_cover_k_and_stay_within_their_limits():
    pick = random.Random(1)
    for _ in range(300):
        m, n, k = (int(10 ** pick.uniform(0, 5)) for _ in range(3))
        batch, most = pick.choice([1, 1, 2, 9]), pick.choice([1, 7, tiling.MOST_DEEP])
        itemsize, packed = pick.choice([4, 8]), pick.random() < 0.7
        built = pick.choice([tiling.BUILT, tiling.COPIED])
        tile, (parts, length), _ = tiling.plan(m, n, batch, k, itemsize, packed, most, built)
        assert 1 <= parts <= most and length % tiling.K_STEP == 0
        assert (parts - 1) * length < k <= parts * length
        assert parts == 1 or parts * m * n * batch * itemsize <= tiling.PARTS_BYTES
        assert parts == 1 or length >= tiling.SHORTEST
        assert tile in dict(built)
        assert tile not in tiling.EIGHTS or (packed and itemsize == 4)


def test_long_sums_are_cut_even_where_blocks_are_plenty():
    _, (parts, length), _ = tiling.plan(4096, 4096, 1, 100_000, 4, True, built=((tiling.LARGE, 2),))
    assert (parts, length) == (1, 100_000)  # one part has 64 MiB: more would not be affordable
    _, (parts, length), _ = tiling.plan(1024, 2048, 1, 100_000, 4, True)
    assert parts >= 7 and length <= tiling.LONGEST


def test_a_block_more_than_a_wave_costs():
    wave = 3 * tiling.MULTIPROCESSORS
    one, more = tiling.time_of(wave, 3, 128), tiling.time_of(wave + 1, 3, 128)
    assert more > 1.4 * one
    assert tiling.time_of(2 * wave, 3, 128) == 2 * one
    assert more == tiling.time_of(wave + tiling.MULTIPROCESSORS, 3, 128)


def test_the_choice_knows_nothing_of_the_card():
    """Bits depend on it, so that it may ask neither a device nor the process for anything."""
    tree = ast.parse(Path(tiling.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        for name in (
            [node.module]
            if isinstance(node, ast.ImportFrom)
            else [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else []
        )
    }
    assert imported == {"__future__", "functools", "typing", "gpukit.backends.cuda.runtime.common"}


# Bits of every AlexNet that is trained on a card depend on these: rows, columns of the tile; parts.
CHOSEN = {
    ("conv2", "conv2d"): (128, 128, 1),
    ("conv2", "conv2d_input_grad"): (128, 48, 1),
    ("conv2", "conv2d_weight_grad"): (128, 128, 26),
    ("conv3", "conv2d"): (128, 64, 1),
    ("conv3", "conv2d_input_grad"): (128, 128, 1),
    ("conv3", "conv2d_weight_grad"): (128, 64, 17),
    ("conv5", "conv2d"): (128, 128, 3),
    ("fc6", "dense"): (128, 128, 16),
}


def test_choices_for_alexnet():
    chosen = {}
    for one in alexnet.passes():
        if (one.layer, one.primitive) in CHOSEN:
            (call, *_), _ = alexnet.launches_of(one)
            names = [t.name for t in call.bound.declaration.template]
            template = dict(zip(names, call.bound.instance.arguments))
            sizes = dict(zip((p.name for p in call.bound.parameters), call.arguments))
            parts = int(sizes.get("splits", 1))
            tile = int(template["TILE_M"]), int(template["TILE_N"])
            chosen[one.layer, one.primitive] = (*tile, parts)
    assert chosen == CHOSEN


def test_the_calls_are_those_of_the_layers():
    """Shapes of activations and weights, beside a model's."""
    model = models.alexnet(columns=2, device="cpu", kernel_initializer="zeros")
    layers = {layer.name: layer for layer in model.layers}
    for one in alexnet.passes(batch=3):
        if one.primitive not in ("conv2d", "dense"):
            continue
        layer = layers[f"{one.layer}a"]
        x, w = (argument.shape for argument in one.arguments[:2])
        assert layer.kernel.shape == w, one.layer
        assert layer.output_shape((None, *x[1:]))[-1] == w[-1]


TILED = [
    ("linear.cu", "gemm<float, {}, {}, false, false, true, true, 0>", tiling.BUILT),
    ("conv/direct.cu", "conv2d_weight_grad<float, {}, {}, true, true>", tiling.BUILT),
    ("conv/implicit.cu", "implicit_weight_grad<float, {}, {}, true, true>", tiling.COPIED),
]


@needs_wheel
@pytest.mark.parametrize(("file", "kernel", "built"), TILED, ids=lambda value: str(value)[:12])
def test_as_many_blocks_fit_as_the_counting_takes(file, kernel, built):
    names = {kernel.format(*tile): (tile, together) for tile, together in built}
    made = nvrtc.compile_text(load(file).text, list(names), 90, name=file)
    for name, (tile, together) in names.items():
        taken = made.resources[name]
        fits = occupancy(90, tiling.THREADS[tile], taken.registers, taken.shared)
        assert fits.blocks >= together and not taken.spill_stores, (name, fits)


@needs_wheel
def test_show_alexnet(monkeypatch):
    some = [one for one in alexnet.passes() if one.layer == "conv4" and one.primitive == "conv2d"]
    monkeypatch.setattr(alexnet, "passes", lambda batch: iter(some))
    result = CliRunner().invoke(app, ["kernels", "show", "alexnet", "--json"])
    assert result.exit_code == 0, result.output
    (launch,) = json.loads(result.stdout)["launches"]
    assert (launch["layer"], launch["blocks"], launch["columns"]) == ("conv4", 507, 1.0)
    assert launch["waves"] == pytest.approx(507 / (132 * launch["resident"]))
    table = CliRunner().invoke(
        app, ["kernels", "show", "alexnet", "--arch", "80", "--multiprocessors", "108"]
    )
    assert (
        "sm_80 with 108 multiprocessors" in table.stdout and "no card has confirmed" in table.stdout
    )


def test_show_alexnet_is_for_one_card():
    result = CliRunner().invoke(
        app, ["kernels", "show", "alexnet", "--arch", "80", "--arch", "90"], standalone_mode=False
    )
    assert "use one --arch" in str(result.exception)

"""Curves and filters are pictures of a sane size; how they look is for people to judge."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from gpukit.errors import CheckpointError, SettingError
from gpukit.inspect import pictures
from gpukit.layers import Conv2D, Dense, DepthwiseConv2D
from gpukit.models import Sequential


def history(epochs, validation=True):
    rows = []
    for i in range(epochs):
        row = {"epoch": i, "loss": 2.0 / (i + 1), "accuracy": 1 - 0.8 / (i + 1)}
        if validation:
            row |= {"val_loss": 1.9 / (i + 1), "val_accuracy": 0.9 - 0.7 / (i + 1)}
        rows.append(row)
    return rows


@pytest.mark.parametrize("title", ["$x$ on $\\nosuch$", "set \udcff", "a_b^c", "漢字", "{}%\n"])
def test_any_name_can_be_a_title(tmp_path, title, recwarn):
    assert pictures.curves(history(2), title).startswith(b"\x89PNG")
    assert not recwarn.list


def read(path):
    """The picture as an array (H, W, 3), checked for what holds of all of them."""
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB"))
    assert 150 < pixels.shape[0] < 4000 and 400 < pixels.shape[1] < 2000
    assert pixels.std() > 1, "something is drawn"
    assert (pixels[0] == 255).all() and (pixels[:, -1] == 255).all(), "nothing is cut at the edge"
    return pixels


@pytest.mark.parametrize("epochs", [1, 2, 20, 200])
@pytest.mark.parametrize("validation", [True, False])
def test_curves(tmp_path, epochs, validation):
    pictures.save_curves(tmp_path / "c.png", history(epochs, validation), "lenet5 on digits")
    read(tmp_path / "c.png")


def test_curves_of_training_that_went_wrong(tmp_path):
    rows = history(4)
    rows[2] |= {"loss": math.inf, "val_loss": math.nan, "val_accuracy": math.nan}
    rows[3] |= {"loss": math.nan}
    pictures.save_curves(tmp_path / "c.png", rows, "x")
    read(tmp_path / "c.png")
    nowhere = [dict.fromkeys(row, math.nan) | {"epoch": row["epoch"]} for row in rows]
    pictures.save_curves(tmp_path / "n.png", nowhere, "x")
    pictures.save_curves(tmp_path / "e.png", [], "no epoch")


def test_best_epoch():
    assert pictures.best_epoch(history(5)) == 4
    assert pictures.best_epoch(history(5, validation=False)) == 4
    tied = [
        {"val_accuracy": a, "val_loss": v}
        for a, v in ((0.5, 1.0), (0.7, 2.0), (0.7, 1.5), (0.7, 1.5))
    ]
    assert pictures.best_epoch(tied) == 2, "ties go to the lower loss, then to the earlier epoch"


@pytest.mark.parametrize(
    "layer",
    [
        Conv2D(6, 5, input_shape=(28, 28, 1)),
        Conv2D(96, 11, input_shape=(64, 64, 3)),
        Conv2D(1, 3, input_shape=(9, 9, 8)),
        Conv2D(13, (1, 7), input_shape=(9, 9, 1)),
        DepthwiseConv2D(3, input_shape=(9, 9, 4)),
        Conv2D(4, 3, kernel_initializer="zeros", input_shape=(9, 9, 1)),
    ],
    ids=["lenet", "alexnet", "deep", "flat", "depthwise", "zeros"],
)
def test_filters(tmp_path, layer):
    pictures.save_filters(tmp_path / "f.png", Sequential([layer], seed=1))
    read(tmp_path / "f.png")


def test_nothing_to_draw_and_nowhere_to_put_it(tmp_path):
    with pytest.raises(SettingError, match="has no convolution"):
        pictures.save_filters(tmp_path / "f.png", Sequential([Dense(3, input_shape=(4,))]))
    with pytest.raises(CheckpointError, match="cannot be written"):
        pictures.save_curves(tmp_path / "missing" / "c.png", history(2), "x")
    assert list(tmp_path.iterdir()) == []


def test_drawing_leaves_the_users_matplotlib_alone():
    program = (
        "import sys, tempfile; from gpukit.inspect import pictures;"
        "pictures.save_curves(tempfile.mktemp('.png'), [{'epoch': 0, 'loss': 1.0}], 'x');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)

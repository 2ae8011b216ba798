"""The summary that a person reads, in a pipe and in terminals of any width."""

from __future__ import annotations

import io
import re

import pytest

from gpukit.inspect import summary
from gpukit.layers import BatchNormalization, Conv2D, Dense
from gpukit.models import Sequential, lenet5


class Terminal(io.StringIO):
    """A terminal of a given width, without colours."""

    encoding = "utf-8"

    def isatty(self):
        return True


def shown(model, monkeypatch, width=None):
    """The lines of the summary, in a pipe or in a terminal of `width` columns."""
    out = io.StringIO() if width is None else Terminal()
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setenv("COLUMNS", str(width or 80))
    monkeypatch.setenv("TERM", "xterm")
    model.summary()
    text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
    return [line.rstrip() for line in text.splitlines()]


LENET = """
lenet5  input 28×28×1

                                                                       multiply-           receptive
 layer    kind            output  units  connections  weights  biases       adds   memory      field
 ───────────────────────────────────────────────────────────────────────────────────────────────────
 c1       Conv2D         28×28×6  4,704      117,600      150       6    117,600  18.8 kB        5×5
 s2       MaxPooling2D   14×14×6  1,176        4,704        –       –          –   4.7 kB        6×6
 c3       Conv2D        10×10×16  1,600      240,000    2,400      16    240,000   6.4 kB      14×14
 s4       MaxPooling2D    5×5×16    400        1,600        –       –          –   1.6 kB      16×16
 flatten  Flatten            400      –            –        –       –          –        –      16×16
 f5       Dense              120    120       48,000   48,000     120     48,000    480 B      28×28
 f6       Dense               84     84       10,080   10,080      84     10,080    336 B      28×28
 output   Dense               10     10          840      840      10        840     40 B      28×28

 total                            8,094      422,824   61,470     236    416,520  32.4 kB

61,706 parameters (61,470 weights, 236 biases): 246.8 kB as float32
61,706 trainable, 0 frozen
416,520 multiply-adds and 32.4 kB of activations an image
"""


@pytest.mark.parametrize("width", [None, 120])
def test_lenet(monkeypatch, width):
    assert shown(lenet5(), monkeypatch, width) == LENET.strip("\n").splitlines()


@pytest.mark.parametrize("width", [100, 90, 80, 72])
def test_a_narrow_terminal_gets_fewer_columns_and_whole_figures(monkeypatch, width):
    lines = shown(lenet5(), monkeypatch, width)
    assert max(map(len, lines)) <= width
    assert len(lines) == len(LENET.strip("\n").splitlines()), "no line is broken"
    text = "\n".join(lines)
    assert "…" not in text
    for figure in ("10×10×16", "240,000", "2,400", "6.4 kB", "14×14"):
        assert figure in text


def test_the_narrowest_terminal_breaks_lines_rather_than_figures(monkeypatch):
    text = "\n".join(shown(lenet5(), monkeypatch, 40))
    assert "…" not in text and "240,000" in text and "14×14" in text


def test_vectors_have_no_receptive_field_and_averages_are_counted_apart(monkeypatch):
    model = Sequential([Dense(3, input_shape=(4,)), BatchNormalization()], name="tiny")
    text = "\n".join(shown(model, monkeypatch))
    assert "receptive" not in text and "tiny  input 4" in text
    assert "27 parameters (15 weights, 6 biases, 6 moving averages): 108 B as float32" in text


def test_names_are_shown_as_they_are(monkeypatch):
    """Square brackets are markup to the library that draws the table."""
    model = Sequential([Conv2D(2, 1, input_shape=(3, 3, 1), name="[bold]x[/]")], name="[red]")
    text = "\n".join(shown(model, monkeypatch))
    assert "[red]  input 3×3×1" in text and "[bold]x[/]" in text


def test_bytes():
    assert [summary._bytes(n) for n in (0, 999, 1000, 5_000_000, 3_000_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "5.0 MB",
        "3.0 GB",
    ]

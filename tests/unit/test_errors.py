"""Messages: one line that a terminal can show, whatever names files and classes have."""

from __future__ import annotations

import pytest

from gpukit.errors import LONGEST, CheckpointError, DataError, ShapeError, WorkerError, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, é, 日本, 🙂", "plain, é, 日本, 🙂"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\udcff", r"\udcff"),  # a byte of a file's name that is no UTF-8
        ("\u202egnp.exe\u2028", r"\u202egnp.exe\u2028"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text, shown):
    assert printable(text) == shown
    assert str(DataError(text)) == shown


def test_long_texts_lose_their_middle():
    text = printable("first " + "\x00" * 100_000 + " last")
    assert text.startswith("first ") and text.endswith(" last")
    assert len(text) < 5 * LONGEST and "(99" in text
    assert len(printable("x" * 100_000)) < LONGEST
    assert printable("x" * LONGEST) == "x" * LONGEST


@pytest.mark.parametrize("kind", [DataError, CheckpointError, WorkerError])
def test_errors_about_files_are_one_line(kind):
    assert str(kind("runs/a\nb: is bad")) == r"runs/a\nb: is bad"


def test_other_errors_may_show_a_log():
    assert str(ShapeError("first\n\x1bsecond")) == "first\n\\x1bsecond"

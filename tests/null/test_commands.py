"""Commands that README and docs show exist, with these options and arguments."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from sources import CHECKOUT

from gpukit.cli.app import app

PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *CHECKOUT.glob("docs/**/*.md")]

# Options of the group itself, or handled before the commands see them.
EVERYWHERE = {"--help", "-h", "--version", "--verbose"}
PLACEHOLDER = re.compile(r"[A-Z][A-Z|_]*|…|.*\.\.\.")


def shown_commands(text: str) -> Iterator[tuple[str, bool]]:
    """(command line, whether it stands in a block, ready to be run) for each `gpukit …`."""
    for number, part in enumerate(re.split(r"^ *```.*$", text, flags=re.MULTILINE)):
        if number % 2:
            lines = part.replace("\\\n", " ").splitlines()
            for line in lines:
                for command in re.split(r"\s(?:&&|\|\||[|;>])\s|[;&]$", f" {line} "):
                    found = re.match(r"\s*(?:\$ )?(?:python -m )?(gpukit(?:\s.*)?)$", command)
                    if found and "=" not in command.partition("gpukit")[2][:3]:
                        yield found[1].strip(), True
        else:
            for command in re.findall(r"`(?:python -m )?(gpukit(?: [^`]*)?)`", part):
                yield command, False


def check(line: str, complete: bool) -> None:
    """Raise click's UsageError where a shown command line has no such command or option.

    In a block, arguments that are needed must be there, and values must be of their types.
    """
    words = [w for w in shlex.split(line, comments=True)[1:] if w not in EVERYWHERE]
    command: click.Command = app
    context = click.Context(app, info_name="gpukit")
    while isinstance(command, click.Group) and words:
        name, *words = words
        found = command.get_command(context, name)
        if found is None:
            raise click.UsageError(f"{context.command_path} has no command {name!r}")
        command, context = found, click.Context(found, info_name=name, parent=context)
    if any(PLACEHOLDER.fullmatch(word) for word in words):
        complete = False
    if complete:
        command.make_context(context.info_name, words, parent=context.parent)
    else:
        command.make_parser(context).parse_args(words)


CASES = [
    pytest.param(line, complete, id=f"{page.name}: {line}")
    for page in PAGES
    for line, complete in dict.fromkeys(shown_commands(page.read_text(encoding="utf-8")))
]


@pytest.mark.parametrize(("line", "complete"), CASES)
def test_shown_commands_parse(line, complete):
    check(line, complete)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```\npip install . && gpukit train lenet5   # trains\n```", "gpukit train lenet5"),
        ("```sh\n$ gpukit info | head\n```", "gpukit info"),
        ("Try `gpukit data list`.", "gpukit data list"),
    ],
)
def test_commands_are_found(text, found):
    assert [line.partition("#")[0].strip() for line, _ in shown_commands(text)] == [found]


@pytest.mark.parametrize(
    "text", ["```python\nimport gpukit\nx = gpukit.Tensor(a)\n```", "`gpukit.data`"]
)
def test_python_is_no_command(text):
    assert list(shown_commands(text)) == []


@pytest.mark.parametrize(
    "line",
    ["gpukit fly", "gpukit train --wings 2", "gpukit data fly", "gpukit train --epochs many"],
)
def test_wrong_commands_are_refused(line):
    with pytest.raises(click.UsageError):
        check(line, complete=True)


def test_every_command_is_documented():
    page = (CHECKOUT / "docs" / "commands.md").read_text(encoding="utf-8")
    missing = [name for name in app.commands if f"gpukit {name}" not in page]
    assert missing == []


@pytest.mark.parametrize("name", ["train", "evaluate", "predict", "summary", "info", "race"])
def test_every_option_is_documented(name):
    page = (CHECKOUT / "docs" / "commands.md").read_text(encoding="utf-8")
    options = {o for p in app.commands[name].params for o in p.opts if o.startswith("--")}
    assert {option for option in options if option not in page} == set()


def test_pages_are_there():
    assert all(isinstance(page, Path) and page.is_file() for page in PAGES)

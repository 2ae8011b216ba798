"""Command lines that nobody would write, and many that a slip of the finger makes.

Every command and option of the command line takes part, as click knows them.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator

import click
import numpy as np
import pytest
from harness import count
from PIL import Image

from gpukit.cli.app import app

CHUNKS = 8
# What each command gets before it is spoilt. Those that would take long (compilers, downloads) or
# write outside of their folder get a name that is none.
GIVEN = {
    "train": ["lenet5"],
    "evaluate": ["run"],
    "predict": ["run", "photo.png"],
    "summary": ["lenet5"],
    "info": [],
    "data list": [],
    "data fetch": ["mnits"],
    "data show": ["fashion-mnist-small"],
    "data export": ["fashion-mnits", "pictures"],
    "kernels list": [],
    "kernels show": ["con2vd"],
    "kernels check": ["rellu"],
    "kernels new": ["mine"],
    "race": ["conv2dd"],
}
LONG = {"--all", "--update-budgets"}
ENDING = {
    "train": ["--limit", "40", "--epochs", "1", "--quiet"],
    "evaluate": ["--limit", "20"],
    "data show": ["--limit", "5"],
}
VALUES = (
    "", " ", "-1", "0", "1", "3", "1e400", "nan", "inf", "1e39", "9" * 40, "0x10", "1_000", "½",
    "٣", "--", "-", "~", "~nosuch/x", ".", "/dev/null", "/proc/self/mem", "no/such", "a" * 300,
    "$x$", "a\nb", "\x1b[31m", "\x07", "é", "\udcff", "{}", "[]", "None", "True", "cpu:99", "emu:x",
    "cpu", "conv2d=", "=", "conv2d=nosuch", "*", "%s", "{0}", "\\", "'", '"', "2.5", "-0.0",
    "1e-400", "float64", "adam", "settings.json", "run", "run/last.safetensors", "photo.png",
    "lenet5",
)  # fmt: skip


def commands_of(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command by its full name."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands_of(command, f"{path}{name} ")
        else:
            yield path + name, command


COMMANDS = dict(commands_of(app))


def test_every_command_takes_part():
    assert GIVEN.keys() == COMMANDS.keys()


@pytest.fixture(scope="module")
def run(server, tmp_path_factory):
    """A folder with a run and a picture."""
    folder = tmp_path_factory.mktemp("run")
    given = [
        "train",
        "lenet5",
        "--limit",
        "40",
        "--epochs",
        "1",
        "--quiet",
        "--out",
        folder / "run",
    ]
    assert server(*given, cwd=folder).code == 0
    grey = np.arange(28 * 28, dtype=np.uint8).reshape(28, 28)
    Image.fromarray(grey).save(folder / "photo.png")
    return folder


def slip(draw: random.Random, word: str) -> str:
    """`word` with two letters swapped, one lost, doubled or struck beside, or in other case."""
    if len(word) < 4:
        return word * 2
    at = draw.randrange(2, len(word) - 1)
    return draw.choice(
        [
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] * 2 + word[at + 1 :],
            word[:at] + draw.choice("qwxyz-_ ") + word[at + 1 :],
            word.upper(),
        ]
    )


def spoilt(draw: random.Random, name: str) -> list[str]:
    """The arguments of the command `name` after one to three slips."""
    options = [
        option
        for parameter in COMMANDS[name].params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
        if option not in LONG
    ]
    words = name.split()
    arguments = [*words, *GIVEN[name]]
    for _ in range(draw.randint(1, 3)):
        kind = draw.randrange(8)
        option, value = draw.choice([*options, "--help"]), draw.choice(VALUES)
        if kind <= 2:
            arguments += [option, value]
        elif kind == 3:
            arguments.append(f"{option}={value}")
        elif kind == 4:  # an option without its value, or in the place of another's
            arguments.append(option)
        elif kind == 5:
            arguments += [slip(draw, option), value]
        elif kind == 6:
            arguments.insert(draw.randint(len(words), len(arguments)), value)
        else:
            at = draw.randrange(len(arguments))
            arguments[at] = slip(draw, arguments[at])
    return arguments + ENDING.get(name, [])


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_command_lines(commands, survived, run, tmp_path, chunk):
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    env = {"HOME": str(tmp_path), "GPUKIT_DATA_MIRROR": (tmp_path / "nowhere").as_uri()}
    for case in range(count(400, CHUNKS)):
        draw = random.Random(f"command line {chunk} {case}")
        name = draw.choice([*GIVEN, "train", "train", "predict", "evaluate"])
        arguments = spoilt(draw, name)
        outcome = commands(*arguments, env=env)
        survived("command lines", outcome, case=(chunk, case, arguments))

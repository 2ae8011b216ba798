"""Command lines that nobody would write, and some that a slip of the finger makes."""

from __future__ import annotations

import random

import pytest
from harness import count

CHUNKS = 8
COMMANDS = {
    "train": ["lenet5"],
    "evaluate": ["run"],
    "predict": ["run", "photo.png"],
    "summary": ["lenet5"],
    "data show": ["fashion-mnist-small"],
    "info": [],
    "kernels list": [],
}
OPTIONS = {
    "train": "--lr --epochs --batch-size --seed --limit --validation-split --weight-decay "
    "--optimizer --dtype --device --data --out --algo --kernel --resume --devices",
    "evaluate": "--limit --batch-size --data --device",
    "predict": "--device",
    "summary": "--device",
    "data show": "--limit",
    "info": "",
    "kernels list": "",
}
VALUES = (
    "", " ", "-1", "0", "1e400", "nan", "inf", "1e39", "9" * 40, "0x10", "1_000", "½", "٣", "--", "-",
    "~", "~nosuch/x", ".", "/", "/dev/null", "/proc/self/mem", "no/such", "a" * 300, "$x$", "a\nb",
    "\x1b[31m", "\x07", "é", "\udcff", "{}", "[]", "None", "True", "cpu:99", "emu:x", "conv2d=", "=",
    "conv2d=nosuch", "*", "%s", "{0}", "\\", "'", '"', "2.5", "-0.0", "1e-400",
)  # fmt: skip


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_random_command_lines(commands, survived, chunk):
    for case in range(count(400, CHUNKS)):
        draw = random.Random(f"command line {chunk} {case}")
        command = draw.choice(list(COMMANDS))
        arguments = [*command.split(), *COMMANDS[command]]
        for _ in range(draw.randint(1, 3)):
            options = OPTIONS[command].split()
            if options and draw.random() < 0.8:
                arguments += [draw.choice(options), draw.choice(VALUES)]
            else:
                arguments.insert(draw.randint(0, len(arguments)), draw.choice(VALUES))
        if command == "train":  # what is accepted after all ends soon
            arguments += ["--limit", "40", "--epochs", "1", "--quiet"]
        outcome = commands(*arguments)
        survived("command lines", outcome, case=(chunk, case, arguments))

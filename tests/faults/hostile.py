"""Damage for bytes, and hostile values for what is written as JSON; all drawn from a seed."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

# Each is written as it stands, so that what no JSON writer would write is there, too.
HOSTILE = (
    "null", "true", "-1", "0", "1", "2", "0.5", "1e400", "-1e400", "NaN", "Infinity", "1e-400",
    "9" * 400, "4294967296", "18446744073709551616", "-9223372036854775809", "2147483647", '""',
    '"a"', '"' + "x" * 100_000 + '"', r'"\u001b[31m\u0007\u0000"', r'"a\nb\r\nc"', r'"\udcff"',
    '"../../../etc/passwd"', '"/dev/zero"', '"relu"', '"float16"', '"int8"', '"object"', '"cuda:7"',
    '"Sequential"', '"__class__"', '"%s{0}$x$"', "[]", "{}", "[[]]", "[null]", "[1, 2, 3]", "[-1]",
    "[1000000000, 1000000000]", "[" * 3000 + "]" * 3000, "[" * 200_000,
    '{"a":' * 3000 + "1" + "}" * 3000,
    '{"class": "Dense"}', '{"class": "Nosuch"}', '{"class": {"class": "Dense"}}', '{"forward": 5}',
    '{"forward": "nosuch"}', "[" + "0, " * 20_000 + "0]",
)  # fmt: skip

LIKELY = {
    int: ("0", "1", "2", "3", "7", "100", "65536", "1000000", "1000000000", "9223372036854775807"),
    float: ("0.0", "1e-300", "1e300", "0.5", "-1.0", "1.0", "2.0", "1e38", "NaN", "-Infinity"),
    bool: ("true", "false"),
    str: ('"same"', '"valid"', '"relu"', '"softmax"', '"cpu"', '"emu"', '"float64"', '"reference"',
          '"fft"', '"acme"', '"class 3"', r'"\u202e\u001b]0;x"', '"skip"', '"sgd"', '"lenet5"'),
}  # fmt: skip


def damaged(draw: random.Random, content: bytes, head: int) -> bytes:
    """`content` with one to three damages, half of them within its first `head` bytes."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 3)):
        end = min(head, len(data)) if draw.random() < 0.5 else len(data)
        at = draw.randrange(max(end, 1))
        size = draw.choice((1, 2, 8, 64, 512, 4096))
        kind = draw.randrange(10)
        if kind == 0:
            del data[at:]
        elif kind == 1:
            del data[at : at + size]
        elif kind == 2:
            data[at:at] = draw.randbytes(size)
        elif kind == 3:
            data[at : at + size] = bytes(len(data[at : at + size]))
        elif kind == 4:
            data[at : at + size] = data[: len(data[at : at + size])]
        elif kind == 5 and data:
            other = draw.randrange(len(data))
            data[at : at + size] = data[other : other + size]
        elif kind == 6:
            data += draw.randbytes(size)
        elif kind == 7:
            data[:8] = draw.choice((0, 1, 7, 2**31, 2**63, 2**64 - 1, len(data), end)).to_bytes(
                8, "little"
            )
        else:
            for _ in range(size):
                if data:
                    data[draw.randrange(len(data)) if size > 8 else min(at, len(data) - 1)] ^= (
                        1 << draw.randrange(8)
                    )
    return bytes(data)


def hostile_json(draw: random.Random, tree: Any) -> str:
    """The text of `tree`, one to three of its values, keys or entries replaced, gone, or twice."""
    tree = copy.deepcopy(tree)
    put: dict[str, str] = {}
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        at, key = draw.choice(list(_places(tree)) or [([None], 0)])
        kind = draw.randrange(16)
        mark = f"@{len(put)}@"
        if kind == 0 and isinstance(at, dict):
            del at[key]
        elif kind == 1 and isinstance(at, dict):
            at[draw.choice(("class", "name", "\x1b[2J", "x" * 5000, "../up", ""))] = at.pop(key)
        elif kind == 2 and isinstance(at, dict):
            put[f'"{mark}": ""'] = f"{json.dumps(key)}: {draw.choice(HOSTILE)}"
            at[mark] = ""
        elif kind == 3 and isinstance(at, list):
            at[key : key + 1] = [at[key]] * draw.choice((0, 2, 100))
        elif kind == 4:
            others = [a[k] for a, k in _places(tree)]
            at[key] = copy.deepcopy(draw.choice(others))
        elif kind < 10 and type(at[key]) in LIKELY:  # what passes more checks
            put[f'"{mark}"'] = draw.choice(LIKELY[type(at[key])])
            at[key] = mark
        else:
            put[f'"{mark}"'] = draw.choice(HOSTILE)
            at[key] = mark
    text = json.dumps(tree)
    for mark, value in put.items():
        text = text.replace(mark, value)
    return text


def _places(tree: Any) -> Any:
    """(container, key) of every value in a tree, each level as likely as those below it."""
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in list(items):
        yield tree, key
        yield from _places(value)

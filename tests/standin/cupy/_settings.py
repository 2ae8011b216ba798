"""What the environment says of the cards that are stood in for (see cupy/__init__.py)."""

from __future__ import annotations

import os


def _number(name: str, default: int) -> int:
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise ValueError(f"{name}={text!r}: use a whole number")
    return int(text)


DEVICES = _number("STANDIN_DEVICES", 2)
ARCH = _number("STANDIN_ARCH", 90)
PEERS = bool(_number("STANDIN_PEER", 1))
FLUSH = bool(_number("STANDIN_FTZ", 1))

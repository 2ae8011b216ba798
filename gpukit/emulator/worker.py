"""The worker process of check.py: one launch, its arrays in files of a folder.

Replies with the `accesses` that a build "trace" counted. Exits with 3 and the message on stderr for
what the library refuses or the emulator finds.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.core import process
from gpukit.device import get_device, to_host
from gpukit.dispatch.primitive import registry
from gpukit.emulator.check import FAULT_EXIT, read_array
from gpukit.emulator.run import Emulator
from gpukit.errors import GpukitError
from gpukit.launch.kernel import Kernel


def main(order: dict[str, Any], reply: process.Reply) -> int:
    """Run the launch of `order`, write its arrays back."""
    folder = Path(order["folder"])
    device = get_device("emu")
    arrays: dict[int, Any] = {}
    arguments: list[Any] = []
    for value in order["arguments"]:
        if isinstance(value, dict):
            number = value["array"]
            value = arrays[number] = device.asarray(read_array(folder / f"{number}.npy"))
        arguments.append(value)
    template = {k: _template(v) for k, v in order["template"].items()}
    try:
        grid, block = _size(order["grid"]), _size(order["block"])
        kernel = Kernel(order["file"], order["name"])
        kernel.launch(grid, block, *arguments, shared=order["shared"], **template)
    except GpukitError as error:
        print(error, file=sys.stderr)
        return FAULT_EXIT
    for number, array in arrays.items():
        np.save(folder / f"{number}.npy", to_host(array), allow_pickle=False)
    engine = registry.engine(device.kind)
    assert isinstance(engine, Emulator)
    reply(accesses=[asdict(access) for one in engine.launches for access in one.accesses])
    return 0


def _size(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _template(text: str) -> Any:
    return {"true": True, "false": False}.get(text, int(text) if text.isdecimal() else text)


if __name__ == "__main__":
    sys.exit(process.work(main))

"""The child process of check.py: one launch, described by files in a folder.

    python -m gpukit.emulator.child FOLDER

Exits with 3 and the message on stderr for what the library refuses or the emulator finds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.device import get_device, to_host
from gpukit.emulator.check import FAULT_EXIT, read_array
from gpukit.emulator.run import Emulator
from gpukit.emulator.trace import to_json
from gpukit.errors import GpukitError
from gpukit.launch.engine import engine_of
from gpukit.launch.kernel import Kernel


def main(folder: Path) -> int:
    """Run the launch in `folder`, write its arrays back."""
    call = json.loads((folder / "call.json").read_text(encoding="utf-8"))
    device = get_device("emu")
    arrays: dict[int, Any] = {}
    arguments: list[Any] = []
    for value in call["arguments"]:
        if isinstance(value, dict):
            number = value["array"]
            value = arrays[number] = device.asarray(read_array(folder / f"{number}.npy"))
        arguments.append(value)
    template = {k: _template(v) for k, v in call["template"].items()}
    try:
        Kernel(call["file"], call["name"]).launch(
            _size(call["grid"]), _size(call["block"]), *arguments, shared=call["shared"], **template
        )
    except GpukitError as error:
        print(error, file=sys.stderr)
        return FAULT_EXIT
    for number, array in arrays.items():
        np.save(folder / f"{number}.npy", to_host(array), allow_pickle=False)
    engine = engine_of(device)
    if isinstance(engine, Emulator) and engine.mode == "trace":
        accesses = [access for launch in engine.launches for access in launch.accesses]
        (folder / "accesses.json").write_text(json.dumps(to_json(accesses)), encoding="utf-8")
    return 0


def _size(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _template(text: str) -> Any:
    return {"true": True, "false": False}.get(text, int(text) if text.isdecimal() else text)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

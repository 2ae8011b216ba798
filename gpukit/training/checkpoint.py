"""Checkpoints: one safetensors file, written so that a crash leaves the old one or the new one.

Tensors are named `layer/kernel`, `optimizer/layer/kernel/velocity` …; everything else (the model's
configuration, the state of training) is JSON in the file's metadata, under "gpukit". A SHA-256 of
the content tells a damaged file from a good one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.errors import CheckpointError

FORMAT = 1


def write(path: str | Path, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON-able `state` to `path`, atomically and durably.

    The file takes its name only once its bytes are on disk; until then whatever had that name
    stays. Raises CheckpointError when the folder cannot be written or the disk is full.
    """
    import safetensors.numpy

    plain = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    text = json.dumps({"format": FORMAT, **state}, sort_keys=True)
    metadata = {"gpukit": text, "sha256": _digest(plain, text)}
    write_atomically(path, safetensors.numpy.save(plain, metadata))


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and state of the checkpoint at `path`.

    Raises CheckpointError when the file is missing, truncated, damaged, or not gpukit's.
    """
    import safetensors
    import safetensors.numpy

    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; name a .safetensors file in it")
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint {path}")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file ({_first_line(error)}); "
            "use another checkpoint of the run"
        ) from None
    if "gpukit" not in metadata:
        raise CheckpointError(f"{path} holds tensors, but was not written by gpukit")
    try:
        state = json.loads(metadata["gpukit"])
    except ValueError:
        raise CheckpointError(f"{path}: its description is not readable JSON") from None
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found}, this gpukit reads {FORMAT}")
    if metadata.get("sha256") != _digest(tensors, metadata["gpukit"]):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    return tensors, state


def write_atomically(path: str | Path, content: bytes) -> None:
    """Give `path` this content in one step: temporary file, fsync, rename, fsync of the folder."""
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({error.strerror or error}); what was there is unchanged"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _digest(tensors: Mapping[str, np.ndarray], text: str) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__

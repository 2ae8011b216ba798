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
import re
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gpukit.errors import CheckpointError

FORMAT = 1
PART = ".part"


def write(path: str | Path, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> None:
    """Write `tensors` and the JSON-able `state` to `path`, atomically and durably.

    The file takes its name only once its bytes are on disk; until then whatever had that name
    stays. Raises CheckpointError when the folder cannot be written or the disk is full, and for a
    state that is not of JSON's types.
    """
    write_atomically(path, content(path, tensors, state))


def content(path: str | Path, tensors: Mapping[str, np.ndarray], state: Mapping[str, Any]) -> bytes:
    """What `write` puts into the file `path`."""
    import safetensors.numpy

    plain = {name: np.asarray(array, order="C") for name, array in tensors.items()}
    try:
        text = json.dumps({"format": FORMAT, **state})
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not written: what a checkpoint keeps must be of JSON's types ({error})"
        ) from None
    metadata = {"gpukit": text, "sha256": _digest(plain, text)}
    return safetensors.numpy.save(plain, metadata)


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and state of the checkpoint at `path`.

    Raises CheckpointError when the file is missing, truncated, damaged, or not gpukit's.
    """
    import safetensors
    import safetensors.numpy

    path = Path(path)
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise CheckpointError(f"there is no checkpoint {path}") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({_reason(error)})") from None
    if stat.S_ISDIR(mode):
        raise CheckpointError(f"{path} is a folder; name a .safetensors file in it")
    if not stat.S_ISREG(mode):  # reading a pipe or a device might never end
        raise CheckpointError(f"{path} is no regular file; name a .safetensors file")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({_reason(error)})") from None
    # TypeError and AttributeError: safetensors met an element type that NumPy does not have.
    except (safetensors.SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file ({_reason(error)}); "
            "use another checkpoint of the run"
        ) from None
    if "gpukit" not in metadata:
        raise CheckpointError(f"{path} holds tensors, but was not written by gpukit")
    try:
        state = json.loads(metadata["gpukit"])
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: its description is not readable JSON") from None
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found}, this gpukit reads {FORMAT}")
    if metadata.get("sha256") != _digest(tensors, metadata["gpukit"]):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    return tensors, state


def write_atomically(path: str | Path, content: bytes, folder: int | None = None) -> None:
    """Give `path` this content in one step: temporary file, fsync, rename, fsync of the folder.

    `folder` is a descriptor of the folder to write to, whatever has the folder's name by now.
    """
    path = Path(path)
    place = path if folder is None else Path(path.name)
    temporary = place.parent / f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}{PART}"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, place, src_dir_fd=folder, dst_dir_fd=folder)
        _sync_folder(path.parent if folder is None else folder)
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be written ({_reason(error)}); what was there is unchanged"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes left that were killed while they wrote `path`; none may be writing."""
    path = Path(path)
    ours = re.compile(rf"\.{re.escape(path.name)}\.\d+-[0-9a-f]{{8}}{re.escape(PART)}")
    with contextlib.suppress(OSError):
        for found in path.parent.iterdir():
            if ours.fullmatch(found.name):
                found.unlink()


def _sync_folder(folder: Path | int) -> None:
    if isinstance(folder, int):
        os.fsync(folder)
        return
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


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0]

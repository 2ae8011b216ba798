"""Checkpoints: one safetensors file, written so that a crash leaves the old one or the new one.

Tensors are named `layer/kernel`, `optimizer/layer/kernel/velocity` …; everything else (the model's
configuration, the state of training) is JSON in the file's metadata, under "gpukit". A SHA-256 of
the content tells a damaged file from a good one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gpukit.core.files import reading, reason, regular
from gpukit.core.locks import is_at
from gpukit.errors import CheckpointError

FORMAT = 1
PART = ".part"
# The history of 100,000 epochs has room; JSON takes up to 24 times its bytes when it is read.
LONGEST_HEADER = 16 << 20
# Of safetensors' element types, those that NumPy has.
DTYPES = {
    "BOOL": "?", "U8": "u1", "I8": "i1", "U16": "<u2", "I16": "<i2", "U32": "<u4", "I32": "<i4",
    "U64": "<u8", "I64": "<i8", "F16": "<f2", "F32": "<f4", "F64": "<f8",
}  # fmt: skip
_BLOCK = 1 << 20
_WAY_OUT = "use another checkpoint of the run"

Place = tuple[int, np.dtype, tuple[int, ...]]  # first byte, element type, shape


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
    content = safetensors.numpy.save(plain, {"gpukit": text, "sha256": _digest(plain, text)})
    if int.from_bytes(content[:8], "little") > LONGEST_HEADER:
        raise CheckpointError(
            f"{path} is not written: what it says beside tensors is beyond {LONGEST_HEADER} bytes"
        )
    return content


def read(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Tensors and state of the checkpoint at `path`.

    Raises CheckpointError when the file is missing, truncated, damaged, or not gpukit's. Memory for
    tensors is taken when sizes and SHA-256 have turned out right.
    """
    path = Path(path)
    with reading(path, CheckpointError, _WAY_OUT):
        while True:
            try:
                file = regular(path, CheckpointError)
            except FileNotFoundError:
                raise CheckpointError(f"there is no checkpoint {path}") from None
            except CheckpointError as error:
                raise CheckpointError(f"{error}; name a .safetensors file") from None
            with file:
                try:
                    return _read(path, file)
                except CheckpointError:
                    if is_at(file.fileno(), path):
                        raise
            # A newer checkpoint took the name meanwhile: header and tensors were of two files.


def _read(path: Path, file: BinaryIO) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    import safetensors

    length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_HEADER:
        raise CheckpointError(
            f"{path} is no safetensors file: a header of {length} bytes, beyond "
            f"{LONGEST_HEADER}; {_WAY_OUT}"
        )
    try:
        with safetensors.safe_open(path, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            entries = [_entry(opened, name) for name in opened.offset_keys()]
    # TypeError: safetensors met an element type that it does not have.
    except (safetensors.SafetensorError, TypeError) as error:
        raise CheckpointError(
            f"{path} is truncated or no safetensors file ({reason(error)}); {_WAY_OUT}"
        ) from None
    if "gpukit" not in metadata:
        raise CheckpointError(f"{path} holds tensors, but was not written by gpukit")
    places, start = {}, 8 + length
    for name, dtype, shape in entries:
        places[name] = start, dtype, shape
        start += dtype.itemsize * math.prod(shape)
    if metadata.get("sha256") != _hashed(_blocks(file, places), metadata["gpukit"]):
        raise CheckpointError(f"{path} is damaged: its content does not match its SHA-256")
    state = _state(path, metadata["gpukit"])
    return {name: _tensor(file, *place) for name, place in places.items()}, state


def _entry(opened: Any, name: str) -> tuple[str, np.dtype, tuple[int, ...]]:
    found = opened.get_slice(name)
    if found.get_dtype() not in DTYPES:
        raise TypeError(f"elements of type {found.get_dtype()}")
    return name, np.dtype(DTYPES[found.get_dtype()]), tuple(found.get_shape())


def _state(path: Path, text: str) -> dict[str, Any]:
    try:
        state = json.loads(text)
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: its description is not readable JSON") from None
    found = state.get("format") if isinstance(state, dict) else None
    if found != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {found!r}, this gpukit reads {FORMAT}")
    return state


def _blocks(file: BinaryIO, places: Mapping[str, Place]) -> Iterator[tuple[str, Iterator[Any]]]:
    """Of each tensor, by name, what the digest begins with, and its bytes in blocks."""
    for name, (start, dtype, shape) in sorted(places.items()):
        file.seek(start)
        size = dtype.itemsize * math.prod(shape)
        sizes = (min(_BLOCK, size - done) for done in range(0, size, _BLOCK))
        yield f"{name} {dtype} {shape}", (file.read(n) for n in sizes)


def _tensor(file: BinaryIO, start: int, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(shape, dtype)
    file.seek(start)
    if file.readinto(array.reshape(-1).view(np.uint8).data) != array.nbytes:  # type: ignore[attr-defined]
        raise EOFError("it ends early")
    return array


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
            f"{path} cannot be written ({reason(error)}); what was there is unchanged"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)


def remove_leftovers(path: str | Path) -> None:
    """Remove what processes left that were killed while they wrote `path`; none may be writing."""
    path = Path(path)
    written = re.compile(rf"\.{re.escape(path.name)}\.\d+-[0-9a-f]{{8}}{re.escape(PART)}")
    with contextlib.suppress(OSError):
        for found in path.parent.iterdir():
            if written.fullmatch(found.name):
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
    tensors_in_words = (
        (
            f"{name} {array.dtype} {array.shape}",
            [np.asarray(array, order="C").reshape(-1).view(np.uint8).data],
        )
        for name, array in sorted(tensors.items())
    )
    return _hashed(tensors_in_words, text)


def _hashed(tensors: Iterable[tuple[str, Iterable[Any]]], text: str) -> str:
    """SHA-256 of `text` and of tensors, each its name, dtype and shape in words, then its bytes."""
    digest = hashlib.sha256(text.encode())
    for name, blocks in tensors:
        digest.update(name.encode())
        for block in blocks:
            digest.update(block)
    return digest.hexdigest()

"""Checkpoints that are damaged, and those that are whole and hostile."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from harness import count
from hostile import damaged, hostile_json
from PIL import Image
from runs_to_damage import IMAGE, write_models, write_set

CHUNKS = 10
LOAD = """
import sys
from gpukit import models
from gpukit.errors import GpukitError
try:
    models.load_model({path!r})
except GpukitError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


@pytest.fixture(scope="session")
def place(server, tmp_path_factory) -> Path:
    """A folder with `set`, `run`, `photo.png` and `models`."""
    folder = tmp_path_factory.mktemp("checkpoints")
    write_set(folder / "set")
    write_models(folder / "models")
    Image.effect_noise(IMAGE, 60).save(folder / "photo.png")
    done = server(
        "train", "lenet5", "--data", folder / "set", "--epochs", "2", "--batch-size", "8",
        "--quiet", "--out", folder / "run", timeout=300,
    )  # fmt: skip
    assert done.code == 0, done.err
    return folder


def use(commands, place: Path, draw: random.Random, run: Path, file: Path):
    """One of the commands that read `file`, which is in `run`."""
    way = draw.randrange(6)
    if way == 0 and file.name == "last.safetensors":
        return commands("train", "--resume", run, "--quiet")
    if way == 1:
        return commands("predict", file, place / "photo.png", "--json")
    if way == 2:
        return commands("summary", file)
    if way == 3:
        return commands(program=LOAD.format(path=str(file)))
    return commands("evaluate", file, "--data", place / "set")


def base(draw: random.Random, place: Path, folder: Path) -> tuple[Path, Path]:
    """A copy of a run, and the checkpoint in it that is to be damaged."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(place / "run", run)
    file = run / draw.choice(("best.safetensors", "last.safetensors", "last.safetensors"))
    if draw.random() < 0.6:
        file = run / "other.safetensors"
        shutil.copy(draw.choice(sorted((place / "models").iterdir())), file)
    return run, file


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_damaged_ones_are_refused(commands, survived, place, tmp_path, chunk):
    for case in range(count(2000, CHUNKS)):
        draw = random.Random(f"checkpoint {chunk} {case}")
        run, file = base(draw, place, tmp_path)
        content = file.read_bytes()
        head = struct.unpack("<Q", content[:8])[0]
        changed = damaged(draw, content, 8 + head)
        file.write_bytes(changed)
        outcome = use(commands, place, draw, run, file)
        survived("damaged checkpoints", outcome, file, run, case=(chunk, case))
        if changed != content and outcome.arguments[:1] != ("train",):
            assert outcome.code == 2, (
                f"{chunk, case} {outcome.arguments}: a damage that is not seen"
            )


def digest(tensors: dict[str, np.ndarray], text: str) -> str:
    """As gpukit makes it, written anew here: files of old versions must go on to load."""
    found = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        array = tensors[name]
        found.update(f"{name} {array.dtype} {array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def hostile_tensors(draw: random.Random, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors of which one is missing, renamed, of another shape or dtype, or not finite."""
    changed = dict(tensors)
    name = draw.choice(sorted(changed))
    array = changed[name]
    kind = draw.randrange(9)
    if kind == 0:
        del changed[name]
    elif kind == 1:
        other = draw.choice(
            ("", "../up", "\x1b[2J", "x" * 4000, "optimizer/x", "callbacks/x/y", "a\nb")
        )
        changed[other] = changed.pop(name)
    elif kind == 2:
        changed[name] = array.reshape(array.shape[::-1])
    elif kind == 3:
        changed[name] = array.reshape(-1)[: array.size // 2]
    elif kind == 4:
        changed[name] = array.astype(
            draw.choice((np.float64, np.float16, np.int8, np.bool_, np.uint64))
        )
    elif kind == 5:
        changed[name] = np.full_like(array, draw.choice((float("nan"), float("inf"), -1e30, 3e38)))
    elif kind == 6:
        changed[name] = np.zeros((0, *array.shape), array.dtype)
    elif kind == 7:
        changed[name] = array.reshape(
            (*[1] * 40, *array.shape)[-60:][:30] if array.size == 1 else -1
        )
    else:
        changed[draw.choice(("new/kernel", "optimizer/new/velocity", "callbacks/x"))] = array
    return changed


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_hostile_ones_are_refused(commands, survived, place, tmp_path, chunk):
    for case in range(count(1000, CHUNKS)):
        draw = random.Random(f"hostile checkpoint {chunk} {case}")
        run, file = base(draw, place, tmp_path)
        with safetensors.safe_open(file, framework="numpy") as opened:
            text = opened.metadata()["gpukit"]
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if draw.random() < 0.25:
            tensors = hostile_tensors(draw, tensors)
        else:
            text = hostile_json(draw, json.loads(text))
        tensors = {name: np.asarray(array, order="C") for name, array in tensors.items()}
        metadata = {"gpukit": text, "sha256": digest(tensors, text)}
        file.write_bytes(safetensors.numpy.save(tensors, metadata))
        outcome = use(commands, place, draw, run, file)
        survived("hostile checkpoints", outcome, file, run, case=(chunk, case))


@pytest.mark.parametrize("kind", ["tensor", "header", "metadata"])
def test_files_that_are_large_and_hollow_are_read_in_blocks(
    commands, survived, place, tmp_path, kind
):
    """Much that takes no room on disk, and none in memory."""
    path, size = tmp_path / "hollow.safetensors", 700 << 20
    metadata = {"gpukit": json.dumps({"format": 1}), "sha256": "0" * 64}
    header: dict = {"__metadata__": metadata}
    if kind == "tensor":
        header["a/kernel"] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    if kind == "metadata":
        metadata["gpukit"] = "[" + "{}," * (8 << 20) + "{}]"
    text = json.dumps(header).encode()
    length = size - 8 if kind == "header" else len(text)
    with path.open("wb") as file:
        file.write(length.to_bytes(8, "little") + text)
        if kind != "metadata":
            file.truncate(8 + len(text) + size)
    outcome = commands("evaluate", path, "--data", place / "set", timeout=200)
    survived("damaged checkpoints", outcome, path, memory=512 << 20, case=kind)
    assert outcome.code == 2

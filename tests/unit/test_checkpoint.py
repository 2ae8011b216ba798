"""Checkpoints: whole or not at all, and every damaged file is a CheckpointError with its reason."""

from __future__ import annotations

import copy
import errno
import json
import os
import random
import stat
import struct
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from gpukit import callbacks, layers, models
from gpukit.errors import CheckpointError, GpukitError
from gpukit.training import checkpoint

TENSORS = {
    "a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a/bias": np.zeros(0, np.float64),
    "count": np.asarray(7, np.int64),
    "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T,
}
STATE = {"number": 0.1, "text": "ä", "list": [1, None, True]}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "last.safetensors"
    checkpoint.write(path, TENSORS, STATE)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_what_is_written_is_read(saved):
    tensors, state = checkpoint.read(saved)
    assert state == {"format": 1, **STATE}
    assert tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert tensors[name].dtype == array.dtype
        np.testing.assert_array_equal(tensors[name], array)
    assert names(saved.parent) == ["last.safetensors"]


def test_other_programs_read_it(saved):
    np.testing.assert_array_equal(
        safetensors.numpy.load_file(saved)["a/kernel"], TENSORS["a/kernel"]
    )


def test_file_and_folder_are_synced_before_and_after_the_name_changes(saved, monkeypatch):
    steps = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor):
        steps.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def watched_replace(*names, **folders):
        steps.append("rename")
        return replace(*names, **folders)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(os, "replace", watched_replace)
    checkpoint.write(saved, TENSORS, STATE)
    assert steps == ["file", "rename", "folder"]


def test_every_flipped_bit_is_noticed(saved):
    good = saved.read_bytes()
    for place in range(len(good)):
        bad = bytearray(good)
        bad[place] ^= 1 << (place % 8)
        saved.write_bytes(bad)
        with pytest.raises(CheckpointError, match=r"last\.safetensors"):
            checkpoint.read(saved)


def test_every_shorter_or_longer_file_is_noticed(saved):
    good = saved.read_bytes()
    for length in range(len(good)):
        saved.write_bytes(good[:length])
        with pytest.raises(CheckpointError, match=r"last\.safetensors is truncated or no"):
            checkpoint.read(saved)
    saved.write_bytes(good + b"\0")
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        checkpoint.read(saved)


def safetensors_file(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(dtype, shape, size):
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"hello, this is a text\n" * 9, id="a text"),
        pytest.param(b"\xff" * 200, id="a header of 2^64 bytes"),
        pytest.param(struct.pack("<Q", 1 << 40) + b"{}" * 50, id="a header of a terabyte"),
        pytest.param(safetensors_file(tensor("F32", [1 << 40], 1 << 42)), id="4 terabytes"),
        pytest.param(safetensors_file(tensor("F32", [0, 1 << 62], 0)), id="absurd shape"),
        pytest.param(safetensors_file(tensor("BF16", [2], 4), b"1234"), id="bfloat16"),
        pytest.param(safetensors_file(tensor("F8_E4M3", [4], 4), b"1234"), id="float8"),
        pytest.param(safetensors_file(b"[" * 100_000), id="nested header"),
        pytest.param(safetensors_file({"__metadata__": {"gpukit": "{" * 9}}), id="no JSON"),
        pytest.param(safetensors_file({"__metadata__": {"gpukit": "[" * 99_999}}), id="deep JSON"),
        pytest.param(safetensors_file({"__metadata__": {"gpukit": "[]"}}), id="a list"),
        pytest.param(safetensors_file({"__metadata__": {"gpukit": '{"format": 1}'}}), id="no hash"),
    ],
)
def test_files_that_are_no_checkpoints(tmp_path, content):
    path = tmp_path / "odd.safetensors"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"odd\.safetensors") as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory as Linux has them")
def test_absurd_sizes_take_no_memory(tmp_path):
    """A header that claims 4 GiB, in a file that has them only as a hole, within 2 GiB."""
    path = tmp_path / "hole.safetensors"
    for count in (1 << 30, 1 << 50):
        path.write_bytes(safetensors_file(tensor("F32", [count], 4 * count)))
        program = (
            "import resource, sys\n"
            "from gpukit.errors import CheckpointError\n"
            "from gpukit.training import checkpoint\n"
            "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
            "try: checkpoint.read(sys.argv[1])\n"
            "except CheckpointError as error: print(error)\n"
        )
        out = subprocess.run(
            [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
        )
        assert "hole.safetensors is truncated" in out.stdout


def test_tensors_of_another_program(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.numpy.save_file({"a": np.zeros(3)}, path)
    with pytest.raises(CheckpointError, match="not written by gpukit"):
        checkpoint.read(path)


def signed(tensors, state):
    """A checkpoint of any state, right hash included."""
    text = json.dumps(state)
    metadata = {"gpukit": text, "sha256": checkpoint._digest(tensors, text)}
    return safetensors.numpy.save(tensors, metadata)


def test_a_later_format(saved):
    saved.write_bytes(signed({}, {"format": 2}))
    with pytest.raises(CheckpointError, match="has checkpoint format 2, this gpukit reads 1"):
        checkpoint.read(saved)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing.safetensors", "there is no checkpoint"),
        (".", "is a folder"),
        ("last.safetensors/below", "Not a directory"),
        ("n" * 300, "name too long"),
        ("nu\0ll", "null"),
        (os.devnull, "is a device"),
    ],
)
def test_paths_that_are_no_files(saved, path, reason):
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.read(saved.parent / path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_no_permission_to_read(saved):
    saved.chmod(0)
    with pytest.raises(CheckpointError, match="Permission denied"):
        checkpoint.read(saved)


# Writing where it cannot be done: what was there stays, and nothing is left beside it.


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_full_disk_keeps_the_old_file(saved, monkeypatch, step):
    before = saved.read_bytes()

    def full(*arguments, **settings):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, full)
    with pytest.raises(CheckpointError, match=r"No space left on device.*unchanged"):
        checkpoint.write(saved, TENSORS, {"number": 2})
    monkeypatch.undo()
    assert saved.read_bytes() == before
    assert names(saved.parent) == ["last.safetensors"]


@pytest.mark.skipif(os.name == "nt", reason="no limits of file sizes on this system")
def test_a_file_that_may_not_grow_keeps_the_old_one(saved):
    """The system itself refuses in the middle of the file."""
    before = saved.read_bytes()
    program = (
        "import resource, signal, sys\n"
        "import numpy as np\n"
        "from gpukit.errors import CheckpointError\n"
        "from gpukit.training import checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "try: checkpoint.write(sys.argv[1], {'a': np.ones(100_000)}, {})\n"
        "except CheckpointError as error: print(error)\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, saved], capture_output=True, text=True, check=True
    )
    assert "cannot be written (File too large)" in out.stdout
    assert saved.read_bytes() == before
    assert names(saved.parent) == ["last.safetensors"]


@pytest.mark.parametrize("folder", ["missing", "last.safetensors"])
def test_a_folder_that_is_none(saved, folder):
    with pytest.raises(CheckpointError, match="cannot be written"):
        checkpoint.write(saved.parent / folder / "new.safetensors", TENSORS, STATE)
    assert names(saved.parent) == ["last.safetensors"]


def test_ctrl_c_in_the_middle_leaves_nothing_behind(saved, monkeypatch):
    def interrupted(descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    before = saved.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        checkpoint.write(saved, TENSORS, {"number": 2})
    assert saved.read_bytes() == before
    assert names(saved.parent) == ["last.safetensors"]


def test_what_json_cannot_hold(saved):
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match="JSON's types"):
        checkpoint.write(saved, TENSORS, {"callbacks": {1j}})
    assert saved.read_bytes() == before


def test_leftovers_are_removed_and_nothing_else(saved):
    ours = saved.parent / ".last.safetensors.123-0123abcd.part"
    others = [".last.safetensors.part", ".best.safetensors.1-00000000.part", "x.part", ".mine.part"]
    for name in [ours.name, *others]:
        (saved.parent / name).write_bytes(b"half")
    checkpoint.remove_leftovers(saved)
    assert names(saved.parent) == sorted(["last.safetensors", *others])


# Models: a description that was tampered with, and signed again.


def trained(folder):
    """A small model of every kind of state, saved in the middle of things."""
    model = models.Sequential(
        [
            layers.Conv2D(2, 3, input_shape=(6, 6, 1), activation="relu", name="c"),
            layers.BatchNormalization(name="b"),
            layers.Flatten(name="f"),
            layers.Dropout(0.2, name="drop"),
            layers.Dense(3, activation="softmax", name="d", kernel_regularizer="l2"),
        ],
        seed=1,
    )
    model.compile("adam", "sparse_categorical_crossentropy", ["accuracy"])
    model.class_names = ("x", "y", "z")
    x = np.random.default_rng(0).normal(size=(12, 6, 6, 1)).astype(np.float32)
    watchers = [callbacks.EarlyStopping("loss", patience=9), callbacks.ReduceLROnPlateau("loss")]
    model.fit(x, np.arange(12) % 3, batch_size=4, epochs=2, verbose=0, callbacks=watchers)
    path = folder / "model.safetensors"
    model.save(path)
    return path, x


ODD = [
    None, True, -1, 0, 1.5, 1e300, float("nan"), float("inf"), 10**30, "", "relu", "é" * 9,
    [], [[]], [1, 2], {}, {"class": "Dense"}, {"class": "SGD"}, {"class": []}, [None] * 3, -(2**63),
]  # fmt: skip


def mutate(state, pick):
    """One change at a random place of nested dicts and lists."""
    places = []

    def walk(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                walk(value[key])

    walk(state)
    owner, key = pick.choice(places)
    way = pick.randrange(4)
    if way == 0:
        del owner[key]
    elif way == 1 and isinstance(owner, list):
        owner.insert(key, copy.deepcopy(owner[key]))
    else:
        owner[key] = copy.deepcopy(pick.choice(ODD))
    if isinstance(owner, dict) and way == 1:
        owner["unknown"] = 1


CASES = 400 * int(os.environ.get("GPUKIT_TEST_CASES", "1"))


def test_tampered_descriptions_raise_or_work(tmp_path):
    path, x = trained(tmp_path)
    tensors, good = checkpoint.read(path)
    target = models.load_model(path)
    before = target.get_weights()
    pick = random.Random(0)
    worked = 0
    for case in range(CASES):
        state = copy.deepcopy(good)
        for _ in range(pick.choice([1, 1, 2])):
            mutate(state, pick)
        path.write_bytes(signed(tensors, state))
        try:
            models.load_model(path).predict(x[:1])
            worked += 1
        except GpukitError as error:
            assert "\n" not in str(error), f"case {case}"
        except Exception as error:
            raise AssertionError(f"case {case}: {json.dumps(state)}") from error
        try:
            target.load(path)
        except CheckpointError:
            for ours, theirs in zip(target.get_weights(), before):
                np.testing.assert_array_equal(ours, theirs)
        except Exception as error:
            raise AssertionError(f"load, case {case}: {json.dumps(state)}") from error
    assert 0 < worked < CASES


def test_a_description_that_asks_for_more_than_the_file_has(tmp_path):
    path, _ = trained(tmp_path)
    tensors, state = checkpoint.read(path)
    state["model"]["structure"]["layers"][-1]["units"] = 10**9
    path.write_bytes(signed(tensors, state))
    with pytest.raises(CheckpointError, match="Dense 'd': needs more values than there are"):
        models.load_model(path)


def test_tampered_memories_of_callbacks_raise_or_work(tmp_path):
    path, x = trained(tmp_path)
    tensors, good = checkpoint.read(path)
    pick = random.Random(1)
    for case in range(CASES // 8):
        state = copy.deepcopy(good)
        mutate(state["callbacks"], pick)
        path.write_bytes(signed(tensors, state))
        watchers = [callbacks.EarlyStopping("loss"), callbacks.ReduceLROnPlateau("loss")]
        try:
            model = models.load_model(path)
            y = np.arange(12) % 3
            model.fit(x, y, batch_size=12, epochs=3, initial_epoch=2, verbose=0, callbacks=watchers)
        except GpukitError:
            pass
        except Exception as error:
            raise AssertionError(f"case {case}: {json.dumps(state['callbacks'])}") from error


def other(*more, units=3):
    return models.Sequential(
        [layers.Flatten(input_shape=(6, 6, 1)), layers.Dense(units, name="d"), *more]
    )


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (other(layers.Dense(3, name="e")), "it has no 'e/kernel'"),
        (other(units=4), "'d/kernel' is .* there and"),
        (models.Sequential([layers.Flatten(input_shape=(2, 2, 1))]), "has no 'd/"),
    ],
    ids=["a layer more", "other sizes", "layers less"],
)
def test_checkpoints_of_other_models_change_nothing(tmp_path, model, reason):
    path = tmp_path / "model.safetensors"
    other().save(path)
    before = model.get_weights()
    with pytest.raises(
        CheckpointError, match=rf"model\.safetensors.* of another model: .*{reason}"
    ):
        model.load(path)
    for ours, theirs in zip(model.get_weights(), before):
        np.testing.assert_array_equal(ours, theirs)

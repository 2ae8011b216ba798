"""Users without a home, names of users that are not there, too many threads, weights of NaN."""

from __future__ import annotations

import os
import shutil

import numpy as np
import pytest
from harness import SHARE

from gpukit import models
from gpukit.cli import main  # noqa: F401  (what the programs below import)
from gpukit.core import caches

# A user of a container: no entry in passwd, no HOME.
HOMELESS = """
import os, pwd, sys
os.environ.pop("HOME", None)
for name in ("GPUKIT_CACHE", "GPUKIT_DATA", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"):
    os.environ.pop(name, None)
def nobody(*arguments):
    raise KeyError("getpwuid(): uid not found")
pwd.getpwuid = pwd.getpwnam = nobody
import tempfile
tempfile.tempdir = {temporary!r}
from gpukit.cli import main
main({arguments!r})
"""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "lenet5", "--data", "~nosuch/x"], "~nosuch/x"),
        (["data", "show", "~nosuch/x"], "~nosuch/x"),
        (["data", "export", "fashion-mnist-small", "~nosuch/x", "--limit", "2"], "~nosuch/x"),
        (["train", "lenet5", "--kernel", "~nosuch/x.py"], "~nosuch/x.py"),
        (["kernels", "check", "~nosuch/x.py"], "~nosuch/x.py"),
        (["train", "lenet5", "--out", ""], "--out"),
        (["train", "lenet5", "--data", ""], "data is an empty name"),
        (["data", "export", "fashion-mnist-small", ""], "OUT"),
        (["evaluate", ""], "RUN"),
        (["predict", "run", ""], "PICTURES"),
    ],
)
def test_names_that_name_nothing(commands, survived, tmp_path, arguments, words):
    outcome = commands(*arguments)
    survived("surroundings", outcome, words, codes=(2,))
    assert {p.name for p in tmp_path.iterdir()} == {"stdin", "stdout", "stderr"}


@pytest.mark.parametrize("variable", ["GPUKIT_DATA", "GPUKIT_CACHE"])
def test_a_folder_of_no_user_in_the_environment(commands, survived, variable):
    outcome = commands("info", env={variable: "~nosuch/x"})
    survived("surroundings", outcome, "~nosuch/x", codes=(2,))


@pytest.mark.parametrize("threads", ["100000", "9" * 40, "0", "-1", "x", "1025"])
def test_threads_beyond_the_limit(commands, survived, threads):
    outcome = commands("train", "lenet5", "--limit", "40", env={"GPUKIT_THREADS": threads})
    survived("surroundings", outcome, "GPUKIT_THREADS", codes=(2,))


def test_threads_that_cannot_be_started(commands, survived):
    """8 GB of address space hold the stacks of fewer than 1,024."""
    outcome = commands(
        program="import threading\nthreading.stack_size(64 << 20)\n"
        "from gpukit.cli import main\n"
        "main(['train', 'lenet5', '--limit', '40', '--epochs', '1', '--quiet'])",
        env={"GPUKIT_THREADS": "1000"},
    )
    survived("surroundings", outcome, "set GPUKIT_THREADS to fewer", codes=(2,))


def test_a_user_without_a_home(commands, survived, tmp_path):
    ambient = caches.settings.cache_dir() / "numba"
    commands("train", "lenet5", "--limit", "40", "--epochs", "1", "--quiet", timeout=240)
    for arguments in (["info"], ["data", "list"], ["train", "lenet5", "--limit", "40", "--quiet"]):
        if arguments[0] == "train":
            arguments += ["--epochs", "1", "--out", "run"]
            if SHARE < 1:  # what compiles is one function in eight; with a share of 1, all
                cache = tmp_path / f"gpukit-{os.getuid()}" / "user_cache_path" / "numba"
                shutil.copytree(ambient, cache, ignore=lambda _, names: names[::8])
        program = HOMELESS.format(temporary=str(tmp_path), arguments=arguments)
        outcome = commands(program=program, timeout=240)
        survived("surroundings", outcome, codes=(0,), case=arguments)
    assert (tmp_path / "run" / "curves.png").exists()
    assert not (tmp_path / "~" / ".cache").exists()  # CuPy makes a ~ of its own


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="folders have no owners on this system")
def test_a_folder_that_others_may_write_to_is_no_cache(commands, survived, tmp_path):
    """What lies there is run."""
    (tmp_path / f"gpukit-{os.getuid()}").mkdir(mode=0o777)
    (tmp_path / f"gpukit-{os.getuid()}").chmod(0o777)
    program = HOMELESS.format(temporary=str(tmp_path), arguments=["info"])
    survived("surroundings", commands(program=program), "GPUKIT_", codes=(2,))


def test_weights_that_are_no_numbers(commands, survived, tmp_path):
    model = models.lenet5(seed=0, device="cpu")
    model.parameters[0].assign(np.full(model.parameters[0].shape, np.nan, np.float32))
    model.save(tmp_path / "nan.safetensors")
    assert commands("data", "show", "fashion-mnist-small", "--picture", "p.png").code == 0
    outcome = commands("predict", "nan.safetensors", "p.png")
    survived("surroundings", outcome, "nan.safetensors", codes=(2,))


def test_names_of_folders_that_are_no_text(commands, survived, tmp_path):
    """A finished training has its test, whatever its folder is called."""
    from gpukit.data.idx import write_idx

    for number, name in enumerate(("$x^", b"set\xff", "a\nb")):
        folder = tmp_path / os.fsdecode(name)
        folder.mkdir()
        rng = np.random.default_rng(0)
        for part in ("train", "t10k"):
            images = rng.integers(0, 256, (40, 28, 28), dtype=np.uint8)
            for kind, array in (
                ("images-idx3", images),
                ("labels-idx1", (np.arange(40) % 10).astype(np.uint8)),
            ):
                with (folder / f"{part}-{kind}-ubyte").open("wb") as file:
                    write_idx(file, array)
        arguments = ["train", "lenet5", "--data", name, "--epochs", "1", "--out", f"run-{number}"]
        outcome = commands(*arguments, timeout=240)
        survived("surroundings", outcome, codes=(0,), case=name)
        assert "test accuracy" in outcome.out
        assert (tmp_path / f"run-{number}" / "curves.png").exists()

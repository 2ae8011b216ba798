"""Bad input: exit code 2, one line that says the way out, and nothing on disk changes."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import struct
import sys

import numpy as np
import pytest
from command_line import tree
from data_on_disk import write_set

from gpukit.data.idx import write_idx
from gpukit.models import Sequential
from gpukit.runs import SETTINGS


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder, with data folders of the test's own."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("GPUKIT_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("GPUKIT_DATA_MIRROR", raising=False)
    monkeypatch.setenv("GPUKIT_DEVICE", "cpu")
    return work


@pytest.fixture
def refused(gpukit, here):
    """Asserts that a command is refused in one line with these words, and changes nothing."""

    def check(*arguments, words, code=2):
        before = tree(here.parent)
        result = gpukit(*arguments)
        assert result.code == code, result.err
        assert result.out == ""
        assert result.err.startswith("gpukit: ")
        assert result.err.count("\n") == 1, result.err
        assert result.err.endswith("\n")
        for word in [words] if isinstance(words, str) else words:
            assert word in result.err, result.err
        assert tree(here.parent) == before
        return result

    return check


# What is asked for does not exist


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fly"], ["No such command 'fly'", "gpukit --help"]),
        (["train", "lenet5", "--wings"], ["No such option", "--wings", "gpukit train --help"]),
        (["train", "lenet5", "again"], "unexpected extra argument"),
        (["train"], "which model? try: gpukit train lenet5"),
        (["train", "lenet6"], "unknown model 'lenet6'; use alexnet, lenet5"),
        (["train", "lenet5", "--epochs"], "requires an argument"),
        (["train", "lenet5", "--epochs", "many"], ["--epochs", "'many' is not a valid integer"]),
        (["train", "lenet5", "--lr", "fast"], ["--lr", "'fast' is not a valid float"]),
        (["train", "lenet5", "--optimizer", "lion"], ["'lion'", "sgd, adam, rmsprop, adagrad"]),
        (["train", "lenet5", "--dtype", "float16"], ["'float16'", "float32 or float64"]),
        (["train", "lenet5", "--device", "gpu"], ["'gpu'", "cpu, cpu:1"]),
        (["train", "lenet5", "--device", "cpu:99"], "cpu:99"),
        (["train", "lenet5", "--data", "nowhere"], ["nowhere", "fashion-mnist-small, mnist"]),
        (["train", "lenet5", "--data", "mnist"], "gpukit data fetch mnist"),
        (["evaluate"], ["Missing argument 'RUN...'", "gpukit evaluate --help"]),
        (["evaluate", "nowhere"], "there is no checkpoint nowhere"),
        (["evaluate", "."], "holds no trained network"),
        (["predict", "nowhere"], "Missing argument 'PICTURES...'"),
        (["predict", "nowhere", "x.png"], "there is no checkpoint nowhere"),
        (["predict", "n" * 300, "x.png"], "File name too long"),
        (["predict", os.devnull, "x.png"], "no regular file"),
        (["summary"], "Missing argument 'MODEL'"),
        (["summary", "lenet6"], "unknown model 'lenet6'; use alexnet, lenet5"),
        (["summary", "n" * 300], "unknown model"),
        (["data", "fly"], "No such command 'fly'"),
        (["data", "fetch"], "Missing argument 'NAME'"),
        (["data", "fetch", "imagenet"], ["'imagenet'", "mnist, fashion-mnist, cifar10"]),
        (["data", "show", "nowhere"], "neither a data set's name nor a folder"),
        (["info", "--wings"], "No such option"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_what_does_not_exist(refused, arguments, words):
    refused(*arguments, words=words)


NUMBERS = {
    "--lr": ["nan", "inf", "-inf", "0", "-0.1"],
    "--weight-decay": ["nan", "inf", "-1"],
    "--epochs": ["0", "-1"],
    "--batch-size": ["0", "-1"],
    "--seed": ["-1"],
    "--limit": ["0", "-1"],
    "--validation-split": ["nan", "inf", "-0.1", "1", "1.5"],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option in NUMBERS for value in NUMBERS[option]]
)
def test_numbers_out_of_range(refused, option, value):
    refused("train", "lenet5", option, value, words=[option[2:], "use a "])


@pytest.mark.parametrize("command", ["evaluate", "show"])
@pytest.mark.parametrize("value", ["0", "-3"])
def test_limits_of_other_commands(refused, trained, command, value):
    arguments = ["data", "show"] if command == "show" else ["evaluate", trained[0]]
    refused(*arguments, "--limit", value, words=f"limit={value}: use a whole number, 1 or more")


@pytest.mark.parametrize("value", ["0", "-1", "x"])
def test_how_many_classes_to_show(refused, trained, value):
    refused("predict", trained[0], "x.png", "--top", value, words="--top")


@pytest.mark.parametrize("variable", ["GPUKIT_THREADS", "GPUKIT_DEVICE"])
def test_wrong_environment(refused, monkeypatch, variable):
    monkeypatch.setenv(variable, "zero")
    refused("train", "lenet5", words="'zero'")


def test_no_gpu(refused, monkeypatch):
    monkeypatch.setattr("gpukit.device.cuda_count", lambda: 0)
    refused("train", "lenet5", "--device", "cuda", words=["'cuda'", "pip install"])
    refused("train", "lenet5", "--device", "cuda:1", words="pip install")


# Sizes


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ("4,4,1", "lenet5: images of 4×4 are too small; use 12×12 or larger"),
        ("28,28", "use three sizes from 1 to 65536, as 28,28,1"),
        ("28,28,0", "use three sizes"),
        ("28,28,-1", "use three sizes"),
        ("a,b,c", "use three sizes"),
        ("28,28,1.5", "use three sizes"),
        ("9999999,9999999,1", "use three sizes"),
    ],
)
def test_sizes_of_images(refused, shape, words):
    refused("summary", "lenet5", "--input", shape, words=words)


def test_a_model_that_has_its_sizes(refused, trained):
    refused("summary", trained[0], "--input", "28,28,1", words="leave --input and --classes out")


def test_images_smaller_than_the_filters(refused, here):
    folder = write_set(here / "tiny", size=(6, 6))
    refused("train", "lenet5", "--data", folder, words="images of 6×6 are too small; use 12×12")


def test_out_of_memory(refused, monkeypatch):
    def hungry(*arguments, **settings):
        raise MemoryError("Unable to allocate 9 TiB")

    monkeypatch.setattr("gpukit.data.load", hungry)
    refused("train", "lenet5", words=["not enough memory", "--batch-size", "9 TiB"])


# Data files

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def cut(folder):
    (folder / IMAGES).write_bytes((folder / IMAGES).read_bytes()[:-9])


def spoil(folder):
    (folder / IMAGES).write_bytes(b"not IDX at all, but long enough to look at")


def floats(folder):
    header = struct.pack(">BBBBIII", 0, 0, 0x0D, 3, 40, 28, 28)
    (folder / IMAGES).write_bytes(header + bytes(40 * 28 * 28 * 4))


def flat(folder):
    with (folder / IMAGES).open("wb") as file:
        write_idx(file, np.zeros((40, 784), np.uint8))


def fewer(folder):
    with (folder / LABELS).open("wb") as file:
        write_idx(file, np.zeros(39, np.uint8))


def boast(folder):
    (folder / IMAGES).write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, 40, 1 << 30, 1 << 30))


def bad_gzip(folder):
    packed = gzip.compress((folder / IMAGES).read_bytes())
    (folder / IMAGES).unlink()
    (folder / f"{IMAGES}.gz").write_bytes(packed[:-100])


def remove(folder):
    (folder / LABELS).unlink()


@pytest.mark.parametrize(
    "damage", [cut, spoil, floats, flat, fewer, boast, bad_gzip, remove], ids=lambda f: f.__name__
)
@pytest.mark.parametrize("command", ["train", "show"])
def test_damaged_data(refused, here, damage, command):
    folder = write_set(here / "set")
    damage(folder)
    arguments = ["data", "show", folder] if command == "show" else ["train", "lenet5"]
    refused(*arguments, *([] if command == "show" else ["--data", folder]), words=str(folder))


def test_labels_out_of_range(refused, here):
    folder = write_set(here / "set", label=200)
    words = [LABELS, "label 200 of image 39 is out of range 0…9", "correct the file"]
    refused("train", "lenet5", "--data", folder, words=words)


def test_an_empty_folder_and_a_file(refused, here):
    (here / "empty").mkdir()
    (here / "file").write_text("mine")
    refused("train", "lenet5", "--data", "empty", words=["empty", "is empty", "gpukit data fetch"])
    refused("train", "lenet5", "--data", "file", words="is a file")


def test_data_of_another_size_than_the_network(refused, trained, here):
    folder = write_set(here / "set", size=(20, 20))
    words = ["takes inputs (N, 28, 28, 1)", "(40, 20, 20, 1)"]
    refused("evaluate", trained[0], "--data", folder, words=words)


def test_more_classes_than_the_network(refused, trained, here):
    folder = write_set(here / "set", label=10)
    for name in ("train", "t10k"):
        for kind in ("images-idx3", "labels-idx1"):
            assert (folder / f"{name}-{kind}-ubyte").exists()
    shutil.copy(folder / LABELS, folder / "t10k-labels-idx1-ubyte")
    words = "label 10 is out of range: 10 classes"
    refused("evaluate", trained[0], "--data", folder, words=words)


# Runs and checkpoints


@pytest.fixture
def run(trained, here):
    shutil.copytree(trained[0], here / "run")
    return here / "run"


@pytest.mark.parametrize("name", ["best.safetensors", "last.safetensors"])
@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_checkpoints(refused, run, name, keep):
    path = run / name
    path.write_bytes(path.read_bytes()[:keep])
    words = [name, "truncated or no safetensors file", "use another checkpoint"]
    if name == "last.safetensors":
        (run / "best.safetensors").write_bytes(b"")  # which would be gone on from
        words = [*words, "no other checkpoint of the run is good"]
        refused("train", "--resume", run, words=words)
    else:
        refused("evaluate", run, words=words)
        refused("predict", run, "x.png", words=words)
        refused("summary", run, words=words)


def test_a_checkpoint_of_another_model(refused, run):
    from gpukit import layers

    other = Sequential([layers.Flatten(input_shape=(28, 28, 1)), layers.Dense(10, name="only")])
    other.save(run / "last.safetensors")
    refused("train", "--resume", run, words="of another model")
    flat = Sequential([layers.Dense(3, input_shape=(4,), activation="softmax", name="only")])
    flat.save(run / "best.safetensors")
    refused("predict", run, "x.png", words="not of pictures")
    refused("evaluate", run, words="takes inputs (N, 4)")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "4"], "--epochs 3, not 4"),
        (["--lr", "0.5"], "--lr 0.02, not 0.5"),
        (["--seed", "1"], "--seed 0, not 1"),
        (["--batch-size", "8"], "--batch-size 64, not 8"),
        (["--optimizer", "adam"], "--optimizer sgd, not adam"),
        (["--limit", "10"], "--limit 1200, not 10"),
        (["--epochs", "-4"], "epochs=-4"),
        (["--out", "elsewhere"], "differ; give one of them"),
    ],
)
def test_resuming_with_other_settings(refused, run, options, words):
    refused("train", "--resume", run, *options, words=words)


def test_resuming_another_model_or_nothing(refused, run, here):
    (here / "empty").mkdir()
    refused("train", "--resume", "nowhere", words="holds no run: there is no settings.json in it")
    refused("train", "--resume", "empty", words="holds no run: there is no settings.json in it")
    refused("train", "--resume", run / SETTINGS, words="holds no run")
    refused("train", "--resume", "auto", words="of which model? try: gpukit train lenet5")
    refused("train", "lenet6", "--resume", run, words="unknown model 'lenet6'")
    refused("train", "lenet5", "--out", run, words=["holds a run already", "--resume"])


def test_a_checkpoint_by_itself_does_not_say_its_data(refused, run, here):
    shutil.move(run / "best.safetensors", here / "alone.safetensors")
    refused("evaluate", "alone.safetensors", words="name it with --data")


@pytest.mark.parametrize("out", ["file/run", "file", "/proc/gpukit/run"])
def test_folders_that_cannot_be_made(refused, here, out):
    if out.startswith("/proc") and sys.platform != "linux":
        pytest.skip("no /proc on this system")
    (here / "file").write_text("mine")
    refused("train", "lenet5", "--limit", "50", "--out", out, words=["cannot be", "another --out"])


def test_a_full_disk(refused, monkeypatch, run):
    """The folder of a run and its files stay as they were."""

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    refused("train", "--resume", run, "--quiet", words="cannot be written (No space left")


# Pictures


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no such file"),
        (b"", "is not a picture"),
        (b"text", "is not a picture of a known kind"),
        (b"\x89PNG\r\n\x1a\n", "x.png"),
    ],
    ids=["missing", "empty", "text", "only a header"],
)
def test_pictures_that_are_none(refused, trained, here, content, words):
    if content is not None:
        (here / "x.png").write_bytes(content)
    refused("predict", trained[0], "x.png", words=["x.png", words])


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_truncated_pictures(refused, trained, here, kind):
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (40, 40), dtype=np.uint8)
    path = here / f"x.{kind}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused("predict", trained[0], path, words=str(path))


def test_a_folder_as_picture(refused, trained, here):
    (here / "x.png").mkdir()
    refused("predict", trained[0], "x.png", words="x.png")


def test_a_sheet_that_cannot_be_written(refused, here):
    refused("data", "show", "--picture", "missing/x.png", words="cannot be written")


def test_a_mirror_that_is_none(refused, monkeypatch):
    monkeypatch.setenv("GPUKIT_DATA_MIRROR", "nonsense")
    refused("data", "fetch", "mnist", words="use an http://, https:// or file:// address")


# Options in company


def test_json_and_quiet_change_nothing_about_errors(refused, run):
    refused("train", "lenet6", "--json", words="unknown model")
    refused("evaluate", "nowhere", "--json", words="there is no checkpoint")
    refused("train", "lenet5", "--lr", "nan", "--quiet", "--json", words="lr=nan")


def test_verbose_shows_where_an_error_came_from(gpukit, here):
    result = gpukit("train", "lenet6", "--verbose")
    assert result.code == 2
    assert "Traceback" in result.err
    assert result.err.splitlines()[-1].startswith("gpukit: unknown model")


def test_a_fault_of_gpukits_asks_for_a_report(gpukit, here, monkeypatch):
    def broken(*arguments, **settings):
        raise ZeroDivisionError("planted\nfault")

    monkeypatch.setattr("gpukit.data.load", broken)
    result = gpukit("train", "lenet5")
    assert result.code == 1
    assert result.out == ""
    assert result.err.count("\n") == 1
    for word in ("gpukit: ", "ZeroDivisionError: planted fault", "report it at https://", "--verb"):
        assert word in result.err
    result = gpukit("--verbose", "train", "lenet5")
    assert result.code == 1
    assert "Traceback" in result.err
    assert "in broken" in result.err
    assert list(here.iterdir()) == []


def test_training_that_diverges(gpukit, here):
    result = gpukit("train", "lenet5", "--limit", "100", "--lr", "1e30", "--quiet")
    assert result.code == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert "in epoch 1, step 2" in result.err
    assert "smaller --lr" in result.err


def test_a_file_that_ends_too_early_is_no_ctrl_c(refused, monkeypatch):
    def read():
        raise EOFError("Ran out of input")

    monkeypatch.setattr("gpukit.data.catalogue", read)
    refused("data", "list", words="EOFError: Ran out of input", code=1)


@pytest.mark.parametrize("variable", ["GPUKIT_CACHE", "GPUKIT_DATA"])
def test_the_folder_of_a_user_who_is_not(refused, monkeypatch, variable):
    monkeypatch.setenv(variable, "~nosuch/x")
    refused("info", words=[f"{variable}=~nosuch/x", f"name a folder with {variable}"])

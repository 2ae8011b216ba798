"""What commands print: results on stdout, progress on stderr, one JSON object as the last line."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from command_line import TRAIN, process, settings_of, tree
from data_on_disk import write_set

from gpukit import __version__, data
from gpukit.data.idx import write_idx

LINE = (
    r"epoch [123]/3  loss \d\.\d{4}  accuracy \d\.\d{4}  val_loss \d\.\d{4}  "
    r"val_accuracy \d\.\d{4}  [\d,]+ images/s"
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPUKIT_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("GPUKIT_DATA_MIRROR", raising=False)
    return tmp_path


# train


def test_train_ends_with_results_and_one_object(trained):
    out, result = trained
    lines = result.out.splitlines()
    assert len(lines) == 5
    assert re.fullmatch(r"test accuracy 0\.\d{4}   \(3 epochs in .* images/s on \S+\)", lines[0])
    assert lines[3] == f"use it: gpukit predict {out} photo.png"
    facts = result.json
    keys = ["test_accuracy", "seconds", "images_per_second", "epochs", "device", "out"]
    assert list(facts) == [*keys, "crops", "colour"]
    assert (facts["crops"], facts["colour"]) == (1, [])
    assert facts["test_accuracy"] > 0.5
    assert facts["epochs"] == 3
    assert facts["out"] == str(out)


def test_train_tells_an_epoch_a_line_where_stderr_is_no_terminal(trained):
    first, *epochs, last = trained[1].err.splitlines()
    assert first.startswith("lenet5 on fashion-mnist-small: 1,080 images to train, 120 to validate")
    assert len(epochs) == 3
    assert all(re.fullmatch(LINE, line) for line in epochs)
    assert re.fullmatch(r"best epoch [123] of 3; reading the test set once", last)


def test_quiet_says_nothing_on_stderr(gpukit):
    result = gpukit("train", "lenet5", "--limit", 60, "--epochs", 1, "--quiet", "--json")
    assert (result.code, result.err) == (0, "")
    assert result.json["out"] == "runs/lenet5-1"
    assert result.json["epochs"] == 1
    assert Path("runs/lenet5-1/best.safetensors").exists()


def test_without_json_there_is_none(gpukit):
    result = gpukit("train", "lenet5", "--limit", 60, "--epochs", 1, "--validation-split", 0)
    assert result.code == 0
    assert "{" not in result.out
    assert "val_loss" not in result.err


def test_every_option_of_train_reaches_the_run(gpukit, here):
    write_set(here / "mine")
    options = {
        "data": "mine", "device": "cpu:1", "dtype": "float64", "epochs": 2, "batch_size": 16,
        "lr": 0.001, "optimizer": "adam", "weight_decay": 0.01, "seed": 7, "limit": 30,
        "validation_split": 0.2,
    }  # fmt: skip
    given = [x for name, value in options.items() for x in (f"--{name.replace('_', '-')}", value)]
    result = gpukit("train", "lenet5", *given, "--out", "o", "--quiet", "--json")
    assert result.code == 0, result.err
    assert result.json["device"] == "cpu:1"
    saved = json.loads(Path("o/settings.json").read_text())
    assert datetime.fromisoformat(saved.pop("started")) <= datetime.now(UTC)
    assert saved == {
        "model": "lenet5", **options, "data": str((here / "mine").resolve()),
        "recipe": "default", "schedule": "cosine", "keep": 1, "kernel": {}, "algo": {},
    }  # fmt: skip


def test_the_same_command_twice_gives_the_same_bits(gpukit, trained):
    result = gpukit(*TRAIN, "--quiet", "--out", "again", "--json")
    for name in ("best", "last"):
        path = f"{name}.safetensors"
        assert weights(Path("again") / path) == weights(trained[0] / path)
    assert result.json["test_accuracy"] == trained[1].json["test_accuracy"]


def weights(path):
    from gpukit.training import checkpoint

    return {name: array.tobytes() for name, array in checkpoint.read(path)[0].items()}


def test_resume_auto(gpukit, trained):
    """Nothing there: a new run. A finished one: its result again. --out: that one."""
    new = ["train", "lenet5", "--limit", 60, "--epochs", 1, "--quiet", "--json"]
    first = gpukit(*new, "--resume", "auto")
    assert first.json["out"] == "runs/lenet5-1"
    before = tree(Path("runs/lenet5-1"))
    settings = settings_of(Path("runs/lenet5-1"))
    assert gpukit(*new, "--resume", "auto").json == first.json
    assert gpukit("train", "lenet5", "--resume", "auto", "--json").json == first.json
    after = tree(Path("runs/lenet5-1"))
    kept = {"history.jsonl", "best.safetensors", "last.safetensors"}
    assert {k: after[k] for k in kept} == {k: before[k] for k in kept}
    assert set(after) == set(before)
    assert settings_of(Path("runs/lenet5-1")) == settings
    assert gpukit(*new, "--resume", "auto", "--out", "other").json["out"] == "other"
    assert gpukit("train", "--resume", "auto", "--out", "other", "--json").json["out"] == "other"
    assert sorted(p.name for p in Path("runs").iterdir()) == ["lenet5-1"]


def test_resume_by_folder_or_checkpoint_also_on_another_device(gpukit, trained):
    shutil.copytree(trained[0], "run")
    settings = settings_of(Path("run"))
    for path in ("run", "run/last.safetensors"):
        result = gpukit("train", "--resume", path, "--json")
        assert result.json["test_accuracy"] == trained[1].json["test_accuracy"]
        assert "going on after epoch 3, step 0 of 3" in result.err
    result = gpukit("train", "--resume", "run", "--device", "cpu:1", "--json")
    assert result.json["device"] == "cpu:1"
    assert settings_of(Path("run")) == settings


# evaluate and predict


def test_evaluate_agrees_with_train(gpukit, trained):
    result = gpukit("evaluate", trained[0], "--limit", 1200, "--json")
    assert result.code == 0
    assert result.err == ""
    facts = result.json
    assert list(facts) == ["test_accuracy", "test_loss", "images", "data", "device", "crops"]
    assert facts["test_accuracy"] == trained[1].json["test_accuracy"]
    assert facts["images"] == 1200
    assert re.match(r"lenet5 on fashion-mnist-small: test accuracy 0\.\d{4}, loss ", result.out)


def test_evaluate_a_checkpoint_and_other_data(gpukit, trained, here):
    last = gpukit("evaluate", trained[0] / "last.safetensors", "--limit", 100, "--json")
    assert last.json["images"] == 100
    mine = gpukit("evaluate", trained[0], "--data", write_set(here / "mine"), "--json")
    assert mine.json["images"] == 40
    assert mine.json["data"] == str(here / "mine")


def test_evaluate_weights_alone(gpukit, trained):
    from gpukit.models import load_model

    load_model(trained[0] / "best.safetensors").save_weights("weights.safetensors")
    arguments = ["--data", "fashion-mnist-small", "--limit", 1200, "--json"]
    result = gpukit("evaluate", "weights.safetensors", *arguments)
    assert result.json["test_accuracy"] == trained[1].json["test_accuracy"]


@pytest.fixture(scope="module")
def recognised(trained):
    """Test images that the network is sure of and right about, of several classes."""
    from gpukit.runs import load_best

    dataset = data.load(limit=300)
    model = load_best(trained[0])
    probabilities = model.predict(dataset.test_images)
    right = probabilities.argmax(1) == dataset.test_labels
    sure = np.flatnonzero(right & (probabilities.max(1) > 0.9))
    chosen = {int(dataset.test_labels[i]): i for i in reversed(sure)}
    assert len(chosen) >= 3
    return [(dataset.test_images[i, ..., 0], dataset.class_names[k]) for k, i in chosen.items()]


@pytest.mark.parametrize("way", ["as it is", "inverted", "large, dark on light", "colour"])
def test_predict_names_what_a_picture_shows(gpukit, trained, recognised, way):
    from PIL import Image

    hits = 0
    for number, (image, name) in enumerate(recognised):
        picture = Image.fromarray(image if way == "as it is" else 255 - image)
        if way == "large, dark on light":
            picture = picture.resize((280, 280), Image.Resampling.BICUBIC)
        if way == "colour":
            picture = picture.resize((140, 140), Image.Resampling.BICUBIC).convert("RGB")
        picture.save(f"{number}.png")
        result = gpukit("predict", trained[0], f"{number}.png", "--json")
        assert (result.code, result.err) == (0, "")
        (found,) = result.json["predictions"]
        assert found["picture"] == f"{number}.png"
        assert [set(entry) for entry in found["classes"]] == [{"class", "probability"}] * 3
        hits += found["classes"][0]["class"] == name
        told = result.out.splitlines()[0]
        if way == "as it is":
            assert told == f"{number}.png: used as it is"
        else:
            assert "inverted" in told
        if way == "large, dark on light":
            assert "280×280" in told or "28×28" in told
    assert hits >= len(recognised) - (way != "as it is")


def test_predict_several_pictures_and_more_classes(gpukit, trained, recognised):
    from PIL import Image

    for name in ("a.png", "b.jpg"):
        Image.fromarray(recognised[0][0]).save(name)
    result = gpukit("predict", trained[0], "a.png", "b.jpg", "--top", 50, "--json")
    assert [p["picture"] for p in result.json["predictions"]] == ["a.png", "b.jpg"]
    classes = result.json["predictions"][0]["classes"]
    assert len(classes) == 10
    assert sum(entry["probability"] for entry in classes) == pytest.approx(1)
    assert len(result.out.splitlines()) == 2 * 11 + 1


# summary, info, data


def test_summary(gpukit, trained):
    table = gpukit("summary", "lenet5")
    assert (table.code, table.err) == (0, "")
    for word in ("c1", "s2", "c3", "f5", "output", "61,706"):
        assert word in table.out
    facts = gpukit("summary", "lenet5", "--json").json
    assert facts["model"] == "lenet5"
    assert [layer["name"] for layer in facts["layers"]][:2] == ["c1", "s2"]
    assert gpukit("summary", trained[0], "--json").json == facts
    larger = gpukit("summary", "lenet5", "--input", "32,32,3", "--classes", 100, "--json").json
    assert larger != facts


def test_info(gpukit):
    facts = gpukit("info", "--json").json
    assert facts["gpukit"] == __version__
    assert "cpu" in facts["devices"]
    for name in (
        "python",
        "libraries",
        "BLAS",
        "BLAS core type",
        "threads",
        "cache",
        "data",
        "GPU",
    ):
        assert facts[name]
    result = gpukit("info")
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == len(facts)


def test_data_list_and_show(gpukit, here):
    sets = gpukit("data", "list", "--json").json["sets"]
    assert {entry["name"]: entry["here"] for entry in sets} == {
        "fashion-mnist-small": True, "fashion-mnist": False, "mnist": False, "cifar10": False,
    }  # fmt: skip
    assert "gpukit data fetch mnist" in gpukit("data", "list").out
    facts = gpukit("data", "show", "--limit", 50, "--json").json
    assert (facts["train"], facts["test"], facts["image_shape"]) == (50, 50, [28, 28, 1])
    result = gpukit("data", "show", write_set(here / "mine"), "--picture", "sheet.png")
    assert result.out.splitlines()[-1] == "examples: sheet.png"
    assert Path("sheet.png").read_bytes().startswith(b"\x89PNG")


def test_data_fetch_from_a_mirror(gpukit, here, monkeypatch):
    """A whole way: what was fetched is what is trained on."""
    from dataclasses import replace

    from gpukit.data import sources

    mirror = here / "mirror" / "mnist"
    write_set(mirror, 20, 20)
    files = []
    for file in sources.SOURCES["mnist"].files:
        plain = mirror / file.name.removesuffix(".gz")
        content = plain.read_bytes()
        (mirror / file.name).write_bytes(gzip.compress(content))
        plain.unlink()
        checksum = hashlib.new(file.algorithm, content).hexdigest()
        files.append(replace(file, checksum=checksum, unpacked=len(content)))
    small = replace(sources.SOURCES["mnist"], files=tuple(files))
    monkeypatch.setitem(sources.SOURCES, "mnist", small)
    monkeypatch.setenv("GPUKIT_DATA_MIRROR", (here / "mirror").as_uri())

    result = gpukit("data", "fetch", "mnist", "--json")
    assert result.code == 0, result.err
    assert result.json == {"name": "mnist", "folder": str(here / "data" / "mnist")}
    assert [line.split(",")[0] for line in result.err.splitlines()] == [
        f"fetching {file.name}" for file in files
    ]
    again = gpukit("data", "fetch", "mnist")  # nothing to do
    assert (again.code, again.err) == (0, "")
    trained = gpukit("train", "lenet5", "--data", "mnist", "--epochs", 1, "--quiet", "--json")
    assert trained.json["epochs"] == 1


# The whole program


@pytest.mark.parametrize(
    "command",
    ["", "train", "evaluate", "predict", "summary", "info", "data", "data list", "data fetch"],
)
def test_help(gpukit, command):
    result = gpukit(*command.split(), "--help")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith(f"Usage: gpukit{' ' if command else ''}{command}")
    assert "..." not in result.out.partition("Commands:")[2], "a summary that is cut off"


def test_no_command_is_help(gpukit):
    assert gpukit().out == gpukit("--help").out
    assert gpukit("data").out == gpukit("data", "--help").out


def test_version(gpukit):
    assert gpukit("--version").out == f"gpukit {__version__}\n"


def test_a_reader_that_goes_away():
    """`gpukit summary lenet5 | head -1`, with a pipe that is closed at once."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "gpukit", "summary", "lenet5"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.stderr == b""


def test_the_module_is_the_program():
    assert process("--version").out == f"gpukit {__version__}\n"


# A terminal

CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.mark.skipif(os.name == "nt", reason="no pseudo-terminals on this system")
@pytest.mark.parametrize("columns", [80, 120])
def test_the_bar_on_a_terminal(columns):
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    command = [sys.executable, "-m", "gpukit", *TRAIN, "--epochs", "12", "--out", "run", "--json"]
    env = {**os.environ, "TERM": "xterm", "COLUMNS": str(columns), "NO_COLOR": "1"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env, text=True)
    os.close(theirs)
    shown = read_until_closed(ours)
    assert running.stdout is not None
    with running.stdout:
        facts = json.loads(running.stdout.read().splitlines()[-1])
    assert running.wait(timeout=60) == 0
    assert facts["epochs"] == 12

    bars = [line for line in re.split(r"[\r\n]+", CONTROL.sub("", shown)) if "ETA" in line]
    assert bars, shown
    number = r"\d+\.\d{4}"
    for bar in bars:
        assert re.search(rf"^epoch +\d+/12 .*%.*loss {number}  accuracy {number}", bar), bar
        assert re.search(r" [\d,]+ images/s  ETA \d+:\d\d\s*$", bar), bar
        assert len(bar.rstrip()) <= columns
    # What stays: the line of each epoch, whole, and no rest of a bar.
    left = screen(shown)
    assert len([line for line in left if re.match(r"epoch +\d+/12  loss", line)]) == 12
    assert not any("ETA" in line or "━" in line for line in left)
    assert left[-1].startswith("best epoch")
    assert "\x1b[?25h" in shown, "the cursor is back"


def read_until_closed(descriptor):
    content, until = b"", time.monotonic() + 60
    try:
        while time.monotonic() < until:
            if select.select([descriptor], [], [], 1)[0]:
                chunk = os.read(descriptor, 65536)
                if not chunk:
                    break
                content += chunk
    except OSError:  # Linux's way to say that the other end is closed
        pass
    finally:
        os.close(descriptor)
    return content.decode()


def screen(shown):
    """The lines that a terminal is left with: \\r, line up and erasing carried out."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", shown):
        if part == "\n":
            row += 1
            if row == len(lines):
                lines.append("")
        elif re.fullmatch(r"\x1b\[\d*A", part):
            row = max(0, row - int(part[2:-1] or 1))
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part == "\r" or part.startswith("\x1b"):
            continue
        else:
            lines[row] += part
    return [line.rstrip() for line in lines if line.strip()]


def test_written_sets_are_read_back(here):
    """The helper of these tests itself."""
    folder = write_set(here / "set", label=3)
    assert data.load(folder).train_labels[-1] == 3
    with (folder / "x").open("wb") as file:
        write_idx(file, np.zeros((2, 2), np.uint8))

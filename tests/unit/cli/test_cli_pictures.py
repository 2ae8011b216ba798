"""Commands on folders of pictures: AlexNet trained, tested, asked, shown; bad input in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from command_line import process, settings_of, tree
from data_on_disk import write_pictures

NARROW = ["--width", 0.05, "--input-size", 67, "--workers", 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "set")


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run of both columns, and what the command printed."""
    out = tmp_path_factory.mktemp("columns") / "run"
    result = process("train", "alexnet", "--data", folder, *NARROW, "--epochs", 2, "--lr", 0.002,
                     "--devices", "cpu:0,cpu:1", "--out", out, "--json")  # fmt: skip
    assert result.code == 0, result.err
    return out, result


@pytest.fixture
def here(tmp_path, monkeypatch):
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("GPUKIT_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("GPUKIT_DEVICE", "cpu")
    return work


@pytest.fixture
def refused(gpukit, here):
    """Asserts that a command is refused in one line with these words, and changes nothing."""

    def check(*arguments, words):
        before = tree(here.parent)
        result = gpukit(*arguments)
        assert (result.code, result.out) == (2, ""), result.err
        assert result.err.startswith("gpukit: ") and result.err.count("\n") == 1, result.err
        assert words in result.err
        assert tree(here.parent) == before

    return check


def test_train_says_where_it_trains_and_what_the_filters_became(run, folder):
    _, result = run
    first = result.err.splitlines()[0]
    assert first == (
        f"alexnet on {folder}: 43 images to train, 5 to validate, 18 to test; cpu, cpu:1, float32"
    )
    facts = result.json
    assert (facts["device"], facts["crops"], facts["epochs"]) == ("cpu, cpu:1", 1, 2)
    assert facts["colour"] == result.out.splitlines()[1:3]
    assert facts["colour"][1].startswith("conv1b on cpu:1: colour share 0.")
    assert facts["colour"][1].endswith("(random filters: 0.67)")


def test_every_option_reaches_the_run(gpukit, here, folder):
    options = {
        "recipe": "paper", "schedule": "cosine", "columns": 1, "groups": True, "width": 0.04,
        "input_size": 70, "dropout": 0.1, "init": "he", "workers": 0, "bad_images": "skip",
        "devices": ["cpu:3"], "validation_split": 0.25, "epochs": 1, "lr": 1e-4,
    }  # fmt: skip
    given: list[object] = []
    for name, value in options.items():
        given.append(f"--{name.replace('_', '-')}")
        if value is not True:
            given.append(value[0] if isinstance(value, list) else value)
    result = gpukit("train", "alexnet", "--data", folder, *given, "--out", "o", "--json")
    assert result.code == 0, result.err
    saved = json.loads(Path("o/settings.json").read_text())
    assert {name: saved[name] for name in options} == options
    assert saved["device"] == "cpu:3" and saved["batch_size"] == 128
    assert "test accuracy" in result.out and "by 10 crops" in result.out
    assert result.json["crops"] == 10


def test_a_run_goes_on_elsewhere(gpukit, here, run):
    shutil.copytree(run[0], "run")
    settings = settings_of(Path("run"))
    for where in (["--device", "cpu:2"], ["--devices", "cpu:1,cpu:2"], ["--workers", 1]):
        result = gpukit("train", "--resume", "run", *where, "--json")
        assert result.code == 0, result.err
        assert "going on after epoch 2" in result.err
    assert settings_of(Path("run")) == settings


def test_a_run_that_began_otherwise(refused, run):
    words = "was begun with --width 0.05, not 0.5; leave --width out"
    refused("train", "--resume", run[0], "--width", 0.5, words=words)
    refused("train", "--resume", run[0], "--recipe", "paper", words="begun with --recipe small")
    refused("train", "lenet5", "--resume", run[0], words="was begun with the model alexnet")


def test_evaluate_one_and_an_ensemble(gpukit, here, run):
    alone = gpukit("evaluate", run[0], "--workers", 0, "--json")
    assert alone.json["test_accuracy"] == run[1].json["test_accuracy"]
    spread = gpukit("evaluate", run[0], "--devices", "cpu:0,cpu:1", "--workers", 0, "--json")
    assert spread.json["device"] == "cpu, cpu:1"
    assert spread.json["test_accuracy"] == alone.json["test_accuracy"]
    both = gpukit("evaluate", run[0], run[0] / "last.safetensors", "--ten-crop", "--workers", 0,
                  "--limit", 9, "--json")  # fmt: skip
    assert both.code == 0, both.err
    lines = both.out.splitlines()
    assert lines[0].startswith(f"{run[0]}: alexnet on ")
    assert lines[2].startswith("ensemble of 2: alexnet on ")
    assert all("(10 crops)" in line and "9 images" in line for line in lines[:3])
    facts = both.json
    assert [entry["run"] for entry in facts["runs"]] == [str(run[0]), f"{run[0]}/last.safetensors"]
    assert facts["crops"] == 10


def test_a_bad_test_image(gpukit, refused, here, run, folder):
    shutil.copytree(folder, here / "set")
    (here / "set" / "val" / "red" / "2.png").write_text("no picture")
    tested = ["evaluate", run[0], "--data", here / "set", "--workers", 0]
    refused(*tested, words="red/2.png: is not a picture")
    assert "17 images" in gpukit(*tested, "--bad-images", "skip").out


def test_predict(gpukit, here, run, folder):
    path = folder / "val" / "red" / "0.png"
    result = gpukit("predict", run[0], path, "--top", 9, "--json")
    assert result.code == 0, result.err
    assert result.out.splitlines()[0] == (
        f"{path}: brought its central square to 76×76, cut 67×67 from the middle"
    )
    classes = {entry["class"] for entry in result.json["predictions"][0]["classes"]}
    assert classes == {"blue", "green", "red"}


def test_summary_of_both_columns_and_of_a_run(gpukit, here, run):
    facts = gpukit("summary", "alexnet", "--json").json
    assert [entry["device"] for entry in facts["devices"]] == ["cpu", "cpu:1"]
    assert facts["batch"] == 128
    assert [round((t["forward"] + t["backward"]) / 1e6) for t in facts["traffic"]] == [31, 31]
    assert len(facts["notes"]) == 2
    halves = gpukit("summary", "alexnet", "--batch", 64, "--json").json["traffic"]
    assert [t["forward"] * 2 for t in halves] == [t["forward"] for t in facts["traffic"]]
    form = ["--columns", 1, "--groups", "--width", 0.5, "--input-size", 67, "--classes", 10]
    grouped = gpukit("summary", "alexnet", *form, "--json").json
    assert grouped["traffic"] == [] and len(grouped["devices"]) == 1
    assert grouped["layers"][0]["output_shape"] == [15, 15, 48]
    assert gpukit("summary", "alexnet", "--groups", "--json").json["traffic"] == []
    one = gpukit("summary", run[0], "--json").json
    two = gpukit("summary", run[0], "--devices", "cpu:0,cpu:1", "--json").json
    assert (len(one["devices"]), len(two["devices"])) == (1, 2)
    text = gpukit("summary", "alexnet", "--batch", 128).out
    for words in ("60,965,224 parameters", "724,406,816", "659,272", "31.3 MB cross"):
        assert words in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--devices", "cpu:0"], "--columns 2 with --devices cpu: name one device for each column"),
        (["--devices", "cpu:0,cpu:99"], "cpu:99"),
        (["--device", "cpu", "--devices", "cpu,cpu:1"], "--device and --devices: give one of them"),
        (["--columns", 3], "columns=3: use 1 or 2"),
        (["--columns", 2, "--groups"], "columns=2 with groups=True"),
        (["--recipe", "large"], "'large': for alexnet use small, paper"),
        (["--input-size", 32], "images of 32×32 are too small; use 67×67"),
        (["--data", "nowhere"], "there is no such folder"),
        (["--data", "cifar10"], "gpukit data export cifar10 DIR"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, list) else "",
)
def test_bad_settings(refused, folder, arguments, words):
    refused("train", "alexnet", "--data", folder, *NARROW, *arguments, words=words)


@pytest.mark.parametrize("option", ["width", "columns", "input-size"])
def test_a_zero_is_no_default(refused, option):
    refused("summary", "alexnet", f"--{option}", 0, words=f"{option.replace('-', '_')}=0")


def test_no_gpu_for_a_column(refused, folder, monkeypatch):
    monkeypatch.setattr("gpukit.device.cuda_count", lambda: 0)
    where = ["--devices", "cuda:0,cuda:1"]
    refused("train", "alexnet", "--data", folder, *where, words="pip install")
    refused("summary", "alexnet", *where, words="column a: device 'cuda:0'")


def test_options_of_other_networks(refused, trained):
    refused("train", "lenet5", "--columns", 2, words="--columns does not apply to lenet5")
    refused("train", "lenet5", "--recipe", "paper", words="'paper': for lenet5 use default")
    refused("summary", "lenet5", "--width", 2, words="lenet5 has one form; leave --width out")
    refused("evaluate", trained[0], "--ten-crop", words="--ten-crop does not apply to lenet5")


def test_bad_folders(refused, here):
    one = write_pictures(here / "one", classes=("red",))
    refused("train", "alexnet", "--data", one, *NARROW, words="images of one class only, 'red'")
    (here / "none" / "train" / "cat").mkdir(parents=True)
    refused("train", "alexnet", "--data", here / "none", *NARROW, words="holds no images")
    bad = write_pictures(here / "bad")
    (bad / "train" / "red" / "1.png").write_text("no picture")
    result = process("train", "alexnet", "--data", bad, *NARROW, "--out", here / "run")
    assert (result.code, result.out) == (2, "")
    assert "red/1.png: is not a picture" in result.err.splitlines()[-1]
    assert "--bad-images skip" in result.err.splitlines()[-1]
    lenient = process("train", "alexnet", "--data", bad, *NARROW, "--epochs", 1, "--lr", 1e-4,
                      "--bad-images", "skip", "--out", here / "lenient")  # fmt: skip
    assert lenient.code == 0
    assert "images could not be read" in lenient.err


def test_runs_on_other_sets(refused, run, trained, here):
    refused("evaluate", run[0], trained[0], words="choose with --data")
    two = write_pictures(here / "two", classes=("green", "red"))
    refused("evaluate", run[0], "--data", two, words="its classes are green, red")
    refused("predict", run[0], here / "no.png", words="there is no such file")

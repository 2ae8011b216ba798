"""`--kernel` and `--algo`: a run keeps users' kernels, and finds them or says where it cannot."""

from __future__ import annotations

import json

import pytest
from command_line import call

from gpukit.plugins import loaded, unload

PLUGIN = """import numpy as np

from gpukit import primitives as p


@p.relu.on("cpu", name="mine")
def mine(x):
    return np.maximum(x, 0)
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a plug-in, and a memory of given kernels that is the test's own."""
    monkeypatch.setenv("GPUKIT_CACHE", str(tmp_path / "cache"))
    (tmp_path / "mine.py").write_text(PLUGIN)
    yield tmp_path
    for plugin in list(loaded.values()):
        if plugin.path.is_relative_to(tmp_path):
            unload(plugin)


def forget():
    """As in another process."""
    for plugin in list(loaded.values()):
        unload(plugin)


def test_a_run_keeps_its_kernel(place, capsys):
    def gpukit(*arguments):
        return call(list(arguments), capsys)

    file, run = place / "mine.py", place / "run"
    train = ("train", "lenet5", "--limit", 64, "--epochs", 1, "--device", "cpu", "--out", run)
    done = gpukit(*train, "--kernel", file, "--algo", "relu=mine")
    assert done.code == 0, done.err
    saved = json.loads((run / "settings.json").read_text())
    assert list(saved["kernel"]) == [str(file)]
    assert saved["algo"] == {"relu": "mine"}

    forget()
    evaluate = ("evaluate", run, "--limit", 20, "--device", "cpu")
    done = gpukit(*evaluate)
    assert done.code == 0
    assert done.err == ""
    assert file in loaded

    forget()
    file.write_text(PLUGIN + "# changed\n")
    done = gpukit(*evaluate)
    assert done.code == 0
    assert "was never given here as it is now; look at it, then name it by --kernel" in done.err
    assert file not in loaded
    done = gpukit("train", "--resume", run)
    assert done.code == 2
    assert "was never given here as it is now" in done.err
    done = gpukit("train", "--resume", run, "--kernel", file)
    assert done.code == 2
    assert "has changed since the run began" in done.err

    forget()
    file.unlink()
    done = gpukit("train", "--resume", run)
    assert done.code == 2
    assert f"the kernel {file} is gone; name its new place by --kernel FILE.py" in done.err
    elsewhere = place / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine.py").write_text(PLUGIN)
    assert gpukit("train", "--resume", run, "--kernel", elsewhere / "mine.py").code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--algo", "relu"], "use PRIMITIVE=NAME"),
        (["--algo", "rely=mine"], "use PRIMITIVE=NAME"),
        (["--algo", "relu=nothing"], "relu has no algo 'nothing' on cpu; use"),
        (["--kernel", "nowhere.py"], "no kernel 'nowhere.py': there is no such file"),
    ],
)
def test_what_is_refused(place, capsys, arguments, words):
    train = ["train", "lenet5", "--limit", 64, "--device", "cpu", "--out", place / "run"]
    done = call([*train, *arguments], capsys)
    assert done.code == 2
    assert words in done.err
    assert not (place / "run").exists()


def test_one_that_nothing_asks_for_is_said(place, capsys):
    train = ["train", "lenet5", "--limit", 64, "--epochs", 1, "--device", "cpu"]
    done = call([*train, "--out", place / "run", "--kernel", place / "mine.py"], capsys)
    assert done.code == 0
    assert "nothing asks for it; add --algo relu=mine" in done.err

"""Runs of AlexNet on folders of pictures: recipes, exact resume, columns, ensembles, bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from data_on_disk import write_pictures

from gpukit import models, runs
from gpukit.data import Normalise
from gpukit.data.image_feed import resized
from gpukit.errors import CheckpointError, DataError, DeviceError, GpukitError, SettingError
from gpukit.layers import Dropout
from gpukit.runs import RunSettings, evaluation
from gpukit.runs.datasets import load_sets, read_as_tested
from gpukit.runs.recipes import RECIPES
from gpukit.runs.saver import RunSaver
from gpukit.training import checkpoint

TINY = {
    "width": 0.05,
    "input_size": 67,
    "epochs": 3,
    "batch_size": 16,
    "workers": 0,
    "seed": 3,
    "lr": 0.002,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "set")


def settings_for(folder, **changes):
    return RunSettings("alexnet", data=str(folder), **{**TINY, **changes})


@pytest.fixture(scope="module")
def trained(folder, tmp_path_factory):
    """A run of two columns on two CPU twins, unbroken."""
    out = tmp_path_factory.mktemp("trained") / "run"
    settings = settings_for(folder, devices=("cpu:0", "cpu:1"), schedule="plateau")
    return settings, out, runs.train(settings, out, verbose=0)


def history(out):
    lines = (out / "history.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


def weights(out, name="last"):
    return checkpoint.read(out / f"{name}.safetensors")[0]


def assert_same(a, b):
    ours, theirs = weights(a), weights(b)
    assert ours.keys() == theirs.keys()
    assert all(ours[key].tobytes() == theirs[key].tobytes() for key in ours)
    assert history(a) == history(b)


# Recipes


def test_every_network_has_recipes():
    assert set(RECIPES) == set(models.ZOO)


def test_the_papers_recipe(folder):
    paper = RunSettings("alexnet", data=str(folder), recipe="paper")
    expected = {
        "columns": 2, "groups": False, "width": 1.0, "input_size": 227, "dropout": 0.5,
        "init": "gaussian", "batch_size": 128, "optimizer": "sgd", "lr": 0.01,
        "weight_decay": 5e-4, "schedule": "plateau", "epochs": 90,
    }  # fmt: skip
    assert {name: getattr(paper, name) for name in expected} == expected
    assert paper.how.ten_crop
    assert "kernel_initializer" not in paper.options(), "Gaussian 0.01, as the network has it"


def test_options_override_a_recipe(folder):
    changes = {"lr": 0.5, "epochs": 2, "width": 0.25, "init": "he", "schedule": "cosine"}
    mine = RunSettings("alexnet", data=str(folder), recipe="paper", **changes)
    assert {name: getattr(mine, name) for name in changes} == changes
    assert (mine.batch_size, mine.weight_decay, mine.recipe) == (128, 5e-4, "paper")
    adam = RunSettings("alexnet", data=str(folder), optimizer="adam")
    assert (adam.lr, adam.weight_decay) == (0.002, 0.0), "of the optimiser, not of the recipe"
    assert RunSettings("alexnet", data=str(folder), groups=True).columns == 1


def test_crops_come_from_256():
    assert [resized(size) for size in (224, 227, 67)] == [256, 256, 76]


@pytest.mark.parametrize("init", ["gaussian", "he"])
def test_images_are_prepared_for_the_first_values(folder, init):
    with load_sets(settings_for(folder, init=init)) as sets:
        batches = [batch.x for batch in sets.train.epoch()]
    levels = np.concatenate(batches).reshape(-1, 3).astype(np.float64)
    normalised = sets.normalise(np.concatenate(batches)).reshape(-1, 3)
    # Random crops of the training images, against central ones by which it is set.
    assert np.abs(normalised.mean(0)).max() < (0.05 if init == "he" else 4)
    deviation = (1, 1, 1) if init == "he" else levels.std(0)
    np.testing.assert_allclose(normalised.std(0), deviation, rtol=0.05)
    if init == "gaussian":
        assert sets.normalise == Normalise(1.0, sets.normalise.mean, (1.0, 1.0, 1.0))


def test_the_recipe_reaches_the_network(folder, tmp_path):
    settings = settings_for(folder, epochs=1, dropout=0.25, init="gaussian", limit=12, lr=1e-4)
    runs.train(settings, tmp_path / "run", verbose=0)
    model = runs.load_best(tmp_path / "run", "cpu")
    assert {layer.rate for layer in model.layers if isinstance(layer, Dropout)} == {0.25}
    optimizer = model.optimizer.get_config()
    assert (optimizer["momentum"], optimizer["weight_decay"]) == (0.9, 5e-4)
    assert 0.95 < model.get_layer("conv2a").get_weights()[1].mean() < 1.05, "biases begin at one"
    options = settings_for(folder, init="he").options()
    made = models.alexnet((67, 67, 3), 3, device="cpu", **options)
    assert (made.get_layer("conv2a").get_weights()[1] == 0).all()
    kernels = [made.get_layer(name).get_weights()[0] for name in ("conv1a", "conv2a")]
    he = (2 / kernels[1][..., 0].size) ** 0.5
    assert [k.std() for k in kernels] == pytest.approx([0.01, he], rel=0.1)


# A run


def test_what_a_run_leaves(trained):
    settings, out, result = trained
    saved = json.loads((out / "settings.json").read_text())
    expected = {
        "model": "alexnet", "recipe": "small", "columns": 2, "groups": False, "width": 0.05,
        "input_size": 67, "devices": ["cpu", "cpu:1"], "device": "cpu", "dropout": 0.3,
        "init": "he", "workers": 0, "bad_images": "raise", "schedule": "plateau",
        "weight_decay": 5e-4, "validation_split": 0.1,
    }  # fmt: skip
    assert {name: saved[name] for name in expected} == expected
    assert RunSettings.read(out) == settings
    assert result.device == "cpu, cpu:1"
    assert [line.split(" on ")[0] for line in result.colour] == ["conv1a", "conv1b"]
    assert len(history(out)) == 3
    for name in ("curves.png", "filters.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    model = runs.load_best(out, devices=("cpu:0", "cpu:1"))
    assert model.class_names == ("blue", "green", "red")


def test_the_validation_images_are_of_the_train_part(folder):
    with load_sets(settings_for(folder)) as sets:
        assert sets.validation is not None
        counts = [feed.count for feed in (sets.train, sets.validation, sets.test)]
        assert counts == [43, 5, 18]
        train, kept = sets.train._items.names, sets.validation._items.names
        assert not set(train) & set(kept) and len(set(train) | set(kept)) == 48
        assert sets.test._items.root.name == "val"


def test_one_level_keeps_the_same_test_images_for_every_seed(tmp_path):
    folder = write_pictures(tmp_path / "flat", train=20, val=0)
    tested = []
    for seed in (0, 1):
        with load_sets(settings_for(folder, seed=seed)) as sets:
            names = [set(feed._items.names) for feed in (sets.train, sets.validation)]
            tested.append(sets.test._items.names)
            assert not (names[0] | names[1]) & set(tested[-1])
            assert len(names[0] | names[1]) + len(tested[-1]) == 60
    assert tested[0] == tested[1]


# Exact resume


@pytest.mark.skipif(os.name == "nt", reason="signals as POSIX has them")
@pytest.mark.parametrize("place", [(0, 1), (1, 0), (1, 2)], ids=str)
def test_stopped_and_resumed_in_the_middle_of_an_epoch(tmp_path, monkeypatch, trained, place):
    settings, unbroken, result = trained

    class Stopping(RunSaver):
        def on_train_batch_end(self, number, logs=None):
            if (self.model.training_state.epoch, number) == place:
                os.kill(os.getpid(), signal.SIGTERM)
            super().on_train_batch_end(number, logs)

    with monkeypatch.context() as patch:
        patch.setattr("gpukit.runs.run.RunSaver", Stopping)
        with pytest.raises(runs.Interrupted):
            runs.train(settings, tmp_path / "run", verbose=0)
    again = runs.train(settings, tmp_path / "run", resume=True, verbose=0)
    assert_same(tmp_path / "run", unbroken)
    assert again.test_accuracy == result.test_accuracy


def test_the_plateau_is_remembered(tmp_path, monkeypatch, folder):
    """Validation that never improves: the rate falls by ten after `patience` epochs, three times,
    as often in a run that was stopped in between."""
    recipe = replace(RECIPES["alexnet"]["small"], patience=2)
    monkeypatch.setitem(RECIPES["alexnet"], "small", recipe)
    settings = settings_for(folder, schedule="plateau", epochs=10, lr=1e-9, limit=9)
    runs.train(settings, tmp_path / "whole", verbose=0)
    rates = [entry["lr"] for entry in history(tmp_path / "whole")]
    assert rates == pytest.approx([1e-9] * 3 + [1e-10] * 2 + [1e-11] * 2 + [1e-12] * 3, rel=1e-9)

    class Broken(Exception):
        pass

    class Breaking(RunSaver):
        def on_epoch_end(self, epoch, logs=None):
            super().on_epoch_end(epoch, logs)
            if epoch == 3:
                raise Broken

    with monkeypatch.context() as patch:
        patch.setattr("gpukit.runs.run.RunSaver", Breaking)
        with pytest.raises(Broken):
            runs.train(settings, tmp_path / "run", verbose=0)
    runs.train(settings, tmp_path / "run", resume=True, verbose=0)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_a_run_moves_to_other_devices_and_workers(tmp_path, trained):
    settings, unbroken, result = trained
    shutil.copytree(unbroken, tmp_path / "run")
    (tmp_path / "run" / "settings.json").write_text(settings.to_json())
    elsewhere = RunSettings.read(tmp_path / "run", device="cpu:2", workers=1)
    assert (elsewhere.devices, elsewhere.device, elsewhere.workers) == (None, "cpu:2", 1)
    again = runs.train(elsewhere, tmp_path / "run", resume=True, verbose=0)
    assert again.device == "cpu:2"
    assert again.test_accuracy == pytest.approx(result.test_accuracy)


def test_resuming_with_other_pictures_is_refused(tmp_path, trained, folder):
    settings, unbroken, _ = trained
    shutil.copytree(unbroken, tmp_path / "run")
    shutil.copytree(folder, tmp_path / "set")
    (tmp_path / "set" / "train" / "red" / "0.png").unlink()
    with pytest.raises(CheckpointError, match="images"):
        runs.train(
            replace(settings, data=str(tmp_path / "set")), tmp_path / "run", resume=True, verbose=0
        )


# Testing


def test_one_run_is_tested_as_it_was_at_its_end(trained):
    _, out, result = trained
    (figures,) = evaluation.evaluate([out], device="cpu", workers=0)
    assert figures.accuracy == result.test_accuracy
    assert (figures.images, figures.crops) == (18, 1)


def test_an_ensemble_is_the_mean_of_the_probabilities(tmp_path, trained, folder):
    _, first, _ = trained
    second = tmp_path / "second"
    runs.train(settings_for(folder, seed=9, epochs=1), second, verbose=0)
    one, other, both = evaluation.evaluate([first, second], device="cpu", workers=0)
    outputs, targets = [], None
    for out in (first, second):
        model = runs.load_best(out, "cpu")
        with load_sets(settings_for(folder)) as sets:
            outputs.append(model.predict(sets.test))
            targets = sets.test.targets
    for figures, p in ((one, outputs[0]), (other, outputs[1]), (both, sum(outputs) / 2)):
        assert figures.accuracy == pytest.approx((p.argmax(1) == targets).mean())
        loss = -np.log([p[i, t] for i, t in enumerate(targets)]).mean()
        assert figures.loss == pytest.approx(loss, rel=1e-5)
    assert both.name == "ensemble of 2"


def test_ten_crops_by_hand(trained, folder):
    from PIL import Image

    _, out, _ = trained
    (figures,) = evaluation.evaluate([out], device="cpu", ten_crop=True, workers=0)
    assert figures.crops == 10
    model = runs.load_best(out, "cpu")
    right = 0
    for label, name in enumerate(model.class_names):
        for path in sorted((folder / "val" / name).iterdir()):
            picture = Image.open(path).convert("RGB")  # 40×36: its middle 36×36
            square = picture.resize((76, 76), Image.Resampling.BILINEAR, (2, 0, 38, 36))
            pixels = np.asarray(square)
            crops = [pixels[t : t + 67, s : s + 67] for t in (0, 9) for s in (0, 9)]
            crops.append(pixels[4:71, 4:71])
            views = np.stack([*crops, *(crop[:, ::-1] for crop in crops)])
            right += model.predict(views).mean(0).argmax() == label
    assert figures.accuracy == pytest.approx(right / 18)


def test_a_picture_is_cut_as_the_test_images_are(folder):
    with load_sets(settings_for(folder)) as sets:
        first = next(sets.test.epoch()).x[0]
    pixels, notes = read_as_tested(folder / "val" / "blue" / "0.png", 67)
    np.testing.assert_array_equal(pixels, first)
    assert notes == ["brought its central square to 76×76, cut 67×67 from the middle"]


def test_runs_of_other_classes_make_no_ensemble(tmp_path, trained):
    two = write_pictures(tmp_path / "two", classes=("green", "red"))
    runs.train(settings_for(two, epochs=1), tmp_path / "run", verbose=0)
    with pytest.raises(SettingError, match=r"trained on .* and on .*--data"):
        evaluation.evaluate([trained[1], tmp_path / "run"], device="cpu")
    with pytest.raises(DataError, match="its classes are green, red"):
        evaluation.evaluate([trained[1], tmp_path / "run"], name=str(two), device="cpu")


# Bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": 3}, "columns=3: use 1 or 2"),
        ({"columns": 0}, "columns=0"),
        ({"devices": ("cpu:0",)}, "--columns 2 with --devices cpu: name one device for each"),
        ({"devices": "cpu:0,cpu:1,cpu:2"}, "--columns 2 with --devices"),
        ({"columns": 1, "devices": "cpu:0,cpu:1"}, "--columns 1 with --devices"),
        ({"devices": "cpu:0,"}, "name one for each column"),
        ({"columns": 2, "groups": True}, "columns=2 with groups=True"),
        ({"width": 0}, "width=0: use"),
        ({"width": float("nan")}, "width=nan"),
        ({"input_size": 66}, "images of 66×66 are too small; use 67×67"),
        ({"dropout": 1.0}, "dropout=1.0: use"),
        ({"init": "xavier"}, "init 'xavier': use gaussian or he"),
        ({"recipe": "default"}, "'default': for alexnet use small, paper"),
        ({"schedule": "linear"}, "schedule 'linear': use cosine or plateau"),
        ({"schedule": "plateau", "validation_split": 0.0}, "--validation-split above 0"),
        ({"workers": -1}, "workers=-1: use"),
        ({"bad_images": "ignore"}, "bad-images 'ignore': use raise or skip or quarantine"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_settings_that_do_not_work(folder, tmp_path, changes, words):
    with pytest.raises(GpukitError) as caught:
        runs.train(settings_for(folder, **changes), tmp_path / "run", verbose=0)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_columns_device_is_missing(folder, monkeypatch):
    monkeypatch.setattr("gpukit.device.cuda_count", lambda: 0)
    with pytest.raises(DeviceError, match="'cuda:1'"):
        settings_for(folder, devices=("cpu:0", "cuda:1"))


@pytest.mark.parametrize(
    "option", ["columns", "groups", "width", "input_size", "devices", "dropout", "init", "workers",
               "bad_images"],
)  # fmt: skip
def test_options_that_do_not_apply(option):
    value = {"groups": True, "devices": ("cpu:0", "cpu:1"), "init": "he", "bad_images": "skip"}
    name = option.replace("_", "-")
    with pytest.raises(SettingError, match=f"--{name} does not apply to lenet5"):
        RunSettings("lenet5", **{option: value.get(option, 1)})


def test_a_checkpoint_of_another_width(tmp_path, trained):
    settings, out, _ = trained
    shutil.copytree(out, tmp_path / "run")
    with pytest.raises(CheckpointError, match=r"of another model: 'conv1/kernel' is"):
        runs.train(replace(settings, width=0.1), tmp_path / "run", resume=True, verbose=0)


def test_sets_and_folders_that_do_not_suit_the_network(folder, tmp_path):
    with pytest.raises(DataError, match="gpukit data export fashion-mnist-small DIR"):
        runs.train(RunSettings("alexnet"), tmp_path / "run", verbose=0)
    with pytest.raises(DataError, match="is a folder of pictures, and lenet5 trains on sets"):
        runs.train(RunSettings("lenet5", data=str(folder)), tmp_path / "run", verbose=0)


def test_images_of_one_class_only(tmp_path):
    folder = write_pictures(tmp_path / "set", classes=("red",))
    with pytest.raises(DataError, match="images of one class only, 'red'"):
        runs.train(settings_for(folder), tmp_path / "run", verbose=0)


def test_a_folder_with_no_images(tmp_path):
    (tmp_path / "set" / "train" / "cat").mkdir(parents=True)
    with pytest.raises(DataError, match="holds no images"):
        runs.train(settings_for(tmp_path / "set"), tmp_path / "run", verbose=0)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_no_image(tmp_path, workers):
    folder = write_pictures(tmp_path / "set")
    bad = folder / "train" / "red" / "3.png"
    bad.write_bytes(b"no picture")
    settings = settings_for(folder, workers=workers, epochs=1)
    with pytest.raises(DataError, match=r"red/3\.png: is not a picture .*--bad-images skip"):
        runs.train(settings, tmp_path / "run", verbose=0)
    lenient = replace(settings, bad_images="skip")
    result = runs.train(lenient, tmp_path / "other", verbose=0)
    assert result.epochs == 1
    listed = replace(settings, bad_images="quarantine")
    same = runs.train(listed, tmp_path / "third", verbose=0)
    assert same.test_accuracy == result.test_accuracy
    (line,) = (tmp_path / "third" / "quarantine.jsonl").read_text().splitlines()
    assert json.loads(line)["picture"] == str(bad) and bad.read_bytes() == b"no picture"
    weights = [p / "best.safetensors" for p in (tmp_path / "other", tmp_path / "third")]
    first, second = (safetensors.numpy.load_file(w) for w in weights)
    assert all(np.array_equal(first[name], second[name]) for name in first)

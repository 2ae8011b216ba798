"""Runs on pictures some of which cannot be read, and on folders of other names."""

from __future__ import annotations

import json

import numpy as np
import pytest
from data_on_disk import write_pictures

from gpukit import runs
from gpukit.data import Augment, ImageFeed, scan
from gpukit.data.whole import unreadable
from gpukit.errors import DataError
from gpukit.runs import evaluation
from gpukit.runs.settings import RunSettings

TINY = {
    "epochs": 1, "batch_size": 16, "width": 0.05, "input_size": 67, "workers": 0, "lr": 1e-3,
}  # fmt: skip


def settings_for(folder, **changes):
    return RunSettings("alexnet", data=str(folder), **{**TINY, **changes})


@pytest.fixture
def damaged(tmp_path):
    """Of 18 pictures to test on, the third of the green ones is no picture."""
    folder = write_pictures(tmp_path / "set", train=6)
    (folder / "val" / "green" / "2.png").write_bytes(b"no picture")
    return folder


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("policy", ["skip", "quarantine"])
@pytest.mark.parametrize("crops", ["centre", "ten"])
def test_a_bad_picture_is_left_out_where_it_would_count_twice(damaged, workers, policy, crops):
    items = scan(damaged).val
    whole = items.take(np.delete(np.arange(18), 8))
    how = {"size": 20, "augment": Augment(crops, flip=False)}
    expected = list(ImageFeed(whole, 5, **how).epoch())
    with ImageFeed(items, 5, workers=workers, bad_images=policy, **how) as feed:
        for _ in range(2):
            found = list(feed.epoch())
            for name in ("x", "y"):
                np.testing.assert_array_equal(
                    np.concatenate([getattr(batch, name) for batch in found]),
                    np.concatenate([getattr(batch, name) for batch in expected]),
                )
            assert feed.left_out == [8]
            assert "1 of 18 images could not be read and were left out" in feed.remarks()[0]


def test_in_training_another_one_takes_its_place(damaged):
    items = scan(damaged).val
    feed = ImageFeed(items, 18, 20, Augment("random", flip=True), bad_images="skip")
    (batch,) = feed.epoch()
    assert len(batch.x) == 18 and feed.left_out == [] and feed.bad[8].instead == 9


def test_a_batch_of_nothing_is_not_given(damaged):
    feed = ImageFeed(scan(damaged).val, 1, 20, bad_images="skip")
    assert len(list(feed.epoch())) == 17


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_none_of_which_can_be_read_is_named(damaged, workers):
    items = scan(damaged).val.take([8])
    with ImageFeed(items, 4, 20, workers=workers, bad_images="skip") as feed:
        with pytest.raises(DataError, match=r"set/val: none of its 1 images can be read"):
            list(feed.epoch())
        with pytest.raises(DataError, match="none of its 1 images"):
            feed.check()


def test_a_bad_test_picture_is_found_before_training(damaged, tmp_path):
    with pytest.raises(DataError, match=r"green/2\.png: is not a picture.*--bad-images skip"):
        runs.train(settings_for(damaged), tmp_path / "run", verbose=0)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("policy", ["skip", "quarantine"])
def test_the_test_figure_is_of_the_pictures_that_can_be_read(damaged, tmp_path, policy):
    said: list[str] = []
    settings = settings_for(damaged, bad_images=policy)
    result = runs.train(settings, tmp_path / "run", verbose=0, tell=said.append)
    assert any("1 of 18 images in" in line and "cannot be read" in line for line in said)
    # `evaluate` reads pictures as the run did, without being told.
    (figures,) = evaluation.evaluate([tmp_path / "run"])
    assert figures.accuracy == result.test_accuracy and figures.images == 17
    (damaged / "val" / "green" / "2.png").unlink()
    settings = settings_for(damaged, bad_images="raise")
    assert runs.train(settings, tmp_path / "b", verbose=0).test_accuracy == result.test_accuracy
    with pytest.raises(DataError, match="not a picture"):
        (damaged / "val" / "green" / "2.png").write_bytes(b"no picture")
        evaluation.evaluate([tmp_path / "run"], bad_images="raise")
    both = evaluation.evaluate([tmp_path / "run", tmp_path / "run"])
    assert both[-1].images == 17 and both[-1].accuracy == figures.accuracy
    if policy == "quarantine":
        (line,) = (tmp_path / "run" / "quarantine.jsonl").read_text().splitlines()
        assert json.loads(line)["picture"].endswith("green/2.png")


def test_pictures_that_look_whole_are_not_decoded(tmp_path, monkeypatch):
    from PIL import Image

    folder, rng = tmp_path / "a", np.random.default_rng(0)
    for number in range(3):
        for suffix in ("png", "jpg", "bmp", "webp"):
            for name in ("a", "b"):
                (tmp_path / name).mkdir(exist_ok=True)
                pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / name / f"{number}.{suffix}")
    for name in ("0.png", "1.jpg", "1.bmp", "2.webp"):
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
    flipped = bytearray((folder / "2.png").read_bytes())
    flipped[len(flipped) // 2] ^= 255
    (folder / "2.png").write_bytes(flipped)
    (folder / "2.jpg").write_bytes(b"")
    from gpukit.data import whole

    decoded = []
    opened = whole.opened
    monkeypatch.setattr(
        whole, "opened", lambda path, *a, **k: [decoded.append(path.name), opened(path, *a, **k)]
    )
    items = scan(tmp_path).train
    items = type(items)(tmp_path, tuple(f"a/{p.name}" for p in sorted(folder.iterdir())),
                        np.zeros(12, np.int64), ("a",))  # fmt: skip
    found = unreadable(items)
    expected = ["0.png", "1.bmp", "1.jpg", "2.jpg", "2.png", "2.webp"]
    assert [items.path(index).name for index in found] == expected
    assert not {"1.png", "0.jpg"} & set(decoded)


@pytest.mark.parametrize(
    "train, held",
    [("Train", "Val"), ("TRAIN", "valid"), ("train", "Validation"), ("train", "test")],
)
def test_folders_of_other_names(tmp_path, train, held):
    folder = write_pictures(tmp_path / "set", train=4, val=2)
    (folder / "train").rename(folder / train)
    (folder / "val").rename(folder / held)
    found = scan(folder)
    assert (len(found.train), len(found.val)) == (12, 6)
    assert found.remarks == (f"{folder}: trains on {train}, validates and tests on {held}",)


def test_what_is_not_used_is_said(tmp_path):
    folder = write_pictures(tmp_path / "set", train=4, val=2)
    write_pictures(tmp_path / "more", train=1, val=0, classes=("red", "blue"))
    (tmp_path / "more").rename(folder / "test")
    (folder / "train" / "red" / "old").mkdir()
    (folder / "train" / "red" / "3.png").rename(folder / "train" / "red" / "old" / "3.png")
    (folder / "train" / "red" / "2.png").rename(folder / "train" / "2.png")
    found = scan(folder)
    assert len(found.train) == 10
    assert found.remarks == (
        f"{folder}/train: 2.png lie in no class folder and are not used",
        f"{folder}/train/red: old/3.png lie a level too deep and are not used",
        f"{folder}: trains on train, validates and tests on val, not on test",
    )


def test_pictures_a_level_too_deep(tmp_path):
    folder = write_pictures(tmp_path / "set" / "inner", train=4, val=0)
    with pytest.raises(DataError, match=r"a level too deep, as inner/blue/0\.png; give .*inner"):
        scan(folder.parent)
    (folder / "red" / "photos").mkdir()
    for picture in list((folder / "red").glob("*.png")):
        picture.rename(folder / "red" / "photos" / picture.name)
    with pytest.raises(DataError, match=r"red: holds no images but a level too deep, as photos/0"):
        scan(folder)


def test_a_class_called_train_is_a_class(tmp_path):
    folder = write_pictures(tmp_path / "set", train=4, val=0, classes=("red", "blue"))
    (folder / "red").rename(folder / "train")
    assert scan(folder).class_names == ("blue", "train")

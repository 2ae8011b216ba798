"""Batches of pictures: the same for any number of workers, and again where a run goes on."""

from __future__ import annotations

import gc
import json
import os

import numpy as np
import pytest
from photos import damage, folder

from gpukit.data import Augment, ColourNoise, ImageFeed, colours, scan
from gpukit.data.quarantine import Quarantine
from gpukit.errors import CheckpointError, DataError, SettingError

NOISE = ColourNoise.from_covariance(np.diag([900.0, 400, 100]) + 50)
TRAINING = Augment(colour=NOISE)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return scan(folder(tmp_path_factory.mktemp("pictures")))


def feed(items, workers=0, augment=TRAINING, **settings) -> ImageFeed:
    return ImageFeed(items, 8, 32, augment, seed=5, workers=workers, **settings)


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        (x.x == y.x).all()
        and (x.y == y.y).all()
        and (x.shift is None) == (y.shift is None)
        and (x.shift is None or (x.shift == y.shift).all())
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize(
    "augment", [TRAINING, None, Augment("ten", False), Augment("centre", False, NOISE)]
)
def test_workers_change_no_bit(images, augment):
    expected = [list(feed(images.train, 0, augment).epoch(e)) for e in (0, 3)]
    for workers in (1, 2, 3):
        with feed(images.train, workers, augment) as source:
            assert same(list(source.epoch(0)), expected[0])
            assert same(list(source.epoch(3)), expected[1])
    assert same(*expected) == (augment is None or not augment.random)


def test_batches(images):
    source = feed(images.train)
    found = list(source.epoch(0))
    assert source.steps == len(found) == 5 and source.count == 36
    assert [len(b.y) for b in found] == [8, 8, 8, 8, 4]
    assert all(b.x.dtype == np.uint8 and b.y.dtype == np.int64 for b in found)
    assert found[0].x.shape == (8, *source.image_shape) == (8, 32, 32, 3)
    assert found[0].shift.shape == (8, 3) and found[0].shift.dtype == np.float32
    assert source.class_names == ("a", "b", "c")
    labels = np.concatenate([b.y for b in found])
    assert np.bincount(labels).tolist() == [12, 12, 12] and (np.diff(labels) < 0).any()
    ordered = feed(images.train, augment=None)
    assert np.concatenate([b.y for b in ordered.epoch(0)]).tolist() == sorted(labels)
    assert next(ordered.epoch(0)).shift is None
    ten = feed(images.val, augment=Augment("ten", False))
    assert ten.views == 10 and next(ten.epoch(0)).x.shape == (80, 32, 32, 3)
    assert ImageFeed(images.train).image_shape == (227, 227, 3)


def test_what_is_drawn_for_a_picture_does_not_depend_on_its_place(images):
    def drawn(**settings):
        batches = list(feed(images.train, **settings).epoch(4))
        rows = zip(
            np.concatenate([b.x for b in batches]),
            np.concatenate([b.shift for b in batches]),
            strict=True,
        )
        return [x.tobytes() + shift.tobytes() for x, shift in rows]

    shuffled, ordered = drawn(), drawn(shuffle=False)
    assert shuffled != ordered and sorted(shuffled) == sorted(ordered)
    few = feed(images.train.take(range(7)), shuffle=False)
    assert [x.tobytes() for x in next(few.epoch(4)).x] == [
        row[: 32 * 32 * 3] for row in ordered[:7]
    ]


def test_an_epoch_goes_on_where_it_was_left(images):
    whole = list(feed(images.train).epoch(2))
    for start in (0, 1, 4, 5, 9):
        for workers in (0, 2):
            with feed(images.train, workers) as source:
                assert same(list(source.epoch(2, start)), whole[start:])


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_left_early_leaves_the_feed_usable(images, workers):
    expected = list(feed(images.train).epoch(1))
    with feed(images.train, workers) as source:
        for _ in range(3):
            begun = source.epoch(0)
            next(begun)
            begun.close()
        pids = source.pids
        assert same(list(source.epoch(1)), expected) and source.pids == pids
        source.close()
        assert source.pids == []
        assert same(list(source.epoch(1)), expected)


def test_one_epoch_at_a_time(images):
    with feed(images.train, 1) as source:
        begun = source.epoch(0)
        next(begun)
        with pytest.raises(SettingError, match="an epoch already"):
            next(source.epoch(1))
        assert len(list(begun)) == 4


def test_batches_are_kept_when_workers_are_gone(images):
    with feed(images.train, 2) as source:
        found = list(source.epoch(0))
    assert same(found, list(feed(images.train).epoch(0)))


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_workers_end_with_the_feed(images):
    closed, dropped = feed(images.train, 2), feed(images.train, 2)
    pids = []
    for source in (closed, dropped):
        list(source.epoch(0))
        pids += source.pids
    assert len(set(pids)) == 4 and all(map(exists, pids))
    closed.close()
    del dropped, source
    gc.collect()
    assert not any(map(exists, pids))


@pytest.fixture
def damaged(tmp_path):
    root = folder(tmp_path / "bad", train=8)
    for file in ("train/a/002.jpg", "train/c/007.jpg"):
        damage(root / file)
    (root / "train/b/000.jpg").write_bytes(b"")
    return scan(root).train


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_file_is_named_and_ends_the_epoch(damaged, workers):
    with feed(damaged, workers, None) as source:
        begun = source.epoch(0)
        with pytest.raises(DataError, match=r"train/a/002\.jpg: .*truncated.*--bad-images skip"):
            list(begun)
        assert source.pids == []


def test_bad_files_are_skipped_and_counted(damaged):
    found = {}
    for workers in (0, 1, 3):
        with feed(damaged, workers, bad_images="skip") as source:
            found[workers] = list(source.epoch(0))
            assert sorted(source.bad) == [2, 8, 23]
            assert [source.bad[i].instead for i in (2, 8, 23)] == [3, 9, 16]
            (text,) = source.remarks()
            assert text.startswith("3 of 24 images could not be read")
            assert "002.jpg" in text and "and 2 more" in text and "\n" not in text
            list(source.epoch(1, 2))
            assert len(source.bad) <= 3
    assert same(found[0], found[1]) and same(found[0], found[3])
    assert [len(b.y) for b in found[0]] == [8, 8, 8]
    assert np.bincount(np.concatenate([b.y for b in found[0]])).tolist() == [8, 8, 8]
    assert feed(damaged, bad_images="skip").remarks() == []


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_in_quarantine_is_not_tried_again(damaged, tmp_path, workers, monkeypatch):
    written: list[bytes] = []
    list_of_them = Quarantine()
    list_of_them.keep(tmp_path / "list.jsonl", written.append)
    with feed(damaged, workers, bad_images="quarantine", quarantine=list_of_them) as source:
        found = [list(source.epoch(0)), list(source.epoch(1))]
        (text,) = source.remarks()
        assert f"not tried again: {tmp_path / 'list.jsonl'} lists them" in text
    entries = [json.loads(line) for line in written[-1].splitlines()]
    assert {e["picture"] for e in entries} == {str(damaged.path(i)) for i in (2, 8, 23)}
    skipping = feed(damaged, bad_images="skip")
    assert all(same(found[n], list(skipping.epoch(n))) for n in (0, 1))
    # Another process finds the list, and does not open what is in it: not even what is whole now.
    (tmp_path / "list.jsonl").write_bytes(written[-1])
    damaged.path(2).write_bytes(damaged.path(3).read_bytes())
    again = Quarantine()
    again.keep(tmp_path / "list.jsonl", written.append)
    with feed(damaged, workers, bad_images="quarantine", quarantine=again) as source:
        assert same(list(source.epoch(0)), found[0])
        assert sorted(source.bad) == [2, 8, 23]
    (tmp_path / "list.jsonl").write_bytes(b"[1]\n")
    with pytest.raises(DataError, match=r"list\.jsonl: damaged.*remove it"):
        Quarantine().keep(tmp_path / "list.jsonl", written.append)


def test_what_a_run_must_find_again(images, tmp_path):
    source = feed(images.train)
    config = json.loads(json.dumps(source.config()))
    source.take_up(config)
    for name, value in (
        ("files", "0" * 64),
        ("images", 35),
        ("batch_size", 16),
        ("seed", 1),
        ("size", 31),
        ("resize", 44),
    ):
        with pytest.raises(CheckpointError, match="began with"):
            source.take_up({**config, name: value})
    for augment in (Augment("centre", True, NOISE), Augment(flip=False), None):
        with pytest.raises(CheckpointError, match="began with"):
            feed(images.train, augment=augment, shuffle=True).take_up(config)
    with pytest.raises(CheckpointError):
        source.take_up({})
    # Colours are the beginning's, also where the sample would now give others.
    other = feed(images.train, augment=Augment(colour=ColourNoise.from_covariance(np.eye(3))))
    expected = list(source.epoch(0))
    assert not same(list(other.epoch(0)), expected)
    other.take_up(config)
    assert same(list(other.epoch(0)), expected)


def test_colours_are_those_of_the_pixels(images):
    for augment in (None, Augment("ten", False)):
        source = feed(images.train, augment=augment)
        pixels = np.concatenate([b.x.reshape(-1, 3) for b in source.epoch()]).astype(np.float64)
        mean, covariance = colours(source)
        np.testing.assert_allclose(mean, pixels.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(covariance, np.cov(pixels.T, bias=True), rtol=1e-9)
    bits = [colours(ImageFeed(images.train, n, 32)) for n in (1, 7, 100)]
    assert all((a == b).all() for other in bits for a, b in zip(bits[0], other, strict=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 0},
        {"size": 0},
        {"resize": 226},
        {"workers": -1},
        {"bad_images": "ignore"},
        {"seed": -1},
    ],
)
def test_settings_out_of_range(images, settings):
    with pytest.raises(SettingError):
        ImageFeed(images.train, **settings)


def test_places_before_the_beginning(images):
    with pytest.raises(SettingError):
        feed(images.train).epoch(-1)

"""Folders of pictures are found, in a fixed order, and what is wrong with one is said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from gpukit.data import is_image_folder, scan
from gpukit.data.images import opened
from gpukit.errors import DataError, SettingError


def tree(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def many(part: str, name: str, count: int) -> list[str]:
    return [f"{part}{name}/{i:03}.jpg" for i in range(count)]


def message(folder: Path, **settings) -> str:
    with pytest.raises(DataError) as caught:
        scan(folder, **settings)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_two_parts_in_order(tmp_path):
    files = ("b/2.jpg", "b/10.PNG", "b/1.jpeg", "a/z.webp", "c/x.gif")
    tree(tmp_path, *(f"train/{f}" for f in files), "val/a/1.jpg", "val/b/1.jpg", "val/c/1.jpg")
    tree(tmp_path, "train/.hidden/1.jpg", "train/a/.DS_Store", "train/a/notes.txt", "train/x.jpg")
    found = scan(tmp_path)
    assert found.class_names == found.val.class_names == ("a", "b", "c")
    assert found.train.names == ("a/z.webp", "b/1.jpeg", "b/10.PNG", "b/2.jpg", "c/x.gif")
    assert found.train.labels.tolist() == [0, 1, 1, 1, 2] and found.train.labels.dtype == np.int64
    assert found.train.path(2) == tmp_path / "train" / "b" / "10.PNG"
    assert found.val.names == ("a/1.jpg", "b/1.jpg", "c/1.jpg")


@pytest.mark.parametrize("part", ["", "train/"])
def test_one_level_is_split_class_by_class(tmp_path, part):
    tree(tmp_path, *many(part, "a", 30), *many(part, "b", 5), *many(part, "c", 2))
    found = scan(tmp_path, split=0.2, seed=3)
    assert np.bincount(found.val.labels).tolist() == [6, 1, 1]
    assert np.bincount(found.train.labels).tolist() == [24, 4, 1]
    both = (*found.train.names, *found.val.names)
    assert len(set(both)) == 37 and found.train.names == tuple(sorted(found.train.names))
    again, other = scan(tmp_path, split=0.2, seed=3), scan(tmp_path, split=0.2, seed=4)
    assert again.val.names == found.val.names != other.val.names
    # Written down, so that a later version cannot move pictures between the parts unseen.
    assert [name[2:5] for name in found.val.names] == EXPECTED


EXPECTED = ["006", "013", "017", "021", "024", "027", "001", "001"]


def test_a_class_that_grows_moves_no_picture_of_another(tmp_path):
    tree(tmp_path, *many("", "a", 30), *many("", "b", 10))
    before = scan(tmp_path).val.names
    tree(tmp_path, *many("", "b", 20))
    after = scan(tmp_path).val.names
    assert [n for n in before if n[0] == "a"] == [n for n in after if n[0] == "a"]


def test_limit_is_spread_over_the_classes(tmp_path):
    tree(tmp_path, *(f for c in "abcd" for part in ("train/", "val/") for f in many(part, c, 40)))
    found = scan(tmp_path, limit=50)
    assert len(found.train) == len(found.val) == 50
    assert np.bincount(found.train.labels).min() > 5
    assert found.train.names == tuple(sorted(found.train.names))
    assert scan(tmp_path, limit=50).train.digest() == found.train.digest()
    assert len(scan(tmp_path, limit=1000).train) == 160


def test_links_are_followed_and_pipes_left_out(tmp_path):
    store = tree(tmp_path / "store", "1.jpg", "2.jpg")
    data = tree(tmp_path / "data", "a/1.jpg", "a/2.jpg")
    (data / "b").symlink_to(store)
    (data / "a" / "3.jpg").symlink_to(store / "1.jpg")
    os.mkfifo(data / "a" / "pipe.jpg")
    (data / "a" / "gone.jpg").symlink_to(tmp_path / "nowhere.jpg")
    found = scan(data)
    names = sorted((*found.train.names, *found.val.names))
    assert names == ["a/1.jpg", "a/2.jpg", "a/3.jpg", "a/gone.jpg", "b/1.jpg", "b/2.jpg"]


def test_digest_tells_sets_of_files_apart(tmp_path):
    def digest(*files: str) -> str:
        root = tmp_path / str(len(list(tmp_path.iterdir())))
        return scan(
            tree(root, *(f"train/{f}" for f in files), "val/a/1.jpg", "val/b/1.jpg")
        ).train.digest()

    one = digest("a/1.jpg", "b/2.jpg")
    assert one == digest("b/2.jpg", "a/1.jpg")
    assert one not in (digest("a/1.jpg", "b/3.jpg"), digest("a/1.jpg", "a/2.jpg", "b/2.jpg"))


def test_names_that_are_no_text(tmp_path):
    tree(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "val/b/1.jpg")
    try:
        (tmp_path / "train" / "a" / os.fsdecode(b"\xff\xfe.jpg")).touch()
    except OSError:
        pytest.skip("the file system takes text only")
    train = scan(tmp_path).train
    assert len(train) == 3 and len(train.digest()) == 64


def test_folders_without_pictures(tmp_path):
    assert "there is no such folder" in message(tmp_path / "none")
    (tmp_path / "photo.jpg").touch()
    assert "is a file" in message(tmp_path / "photo.jpg")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "holds no images; it has no folders" in message(empty)
    flat = tree(tmp_path / "flat", "1.jpg", "2.jpg", "3.jpg")
    assert "1.jpg and 2 more beside them" in message(flat)
    other = tree(tmp_path / "other", "a/notes.txt", "b/movie.mp4")
    assert "holds no images (a/notes.txt and 1 more of other kinds)" in message(other)


def test_classes_that_do_not_fit(tmp_path):
    one = tree(tmp_path / "one", *many("", "cat", 9))
    assert "one class only, 'cat'" in message(one)
    one = tree(tmp_path / "parts", *many("train/", "cat", 9), *many("val/", "cat", 3))
    assert "one class only, 'cat'" in message(one)
    hollow = tree(tmp_path / "hollow", *many("", "a", 3), *many("", "b", 3), "dog/readme.txt")
    assert f"{hollow / 'dog'}: holds no images (but readme.txt)" in message(hollow)
    tree(tmp_path / "differ", *many("train/", "a", 3), *many("train/", "b", 3))
    differ = tree(tmp_path / "differ", *many("val/", "a", 3), *many("val/", "c", 3))
    assert "train has a class 'b' that val lacks" in message(differ)
    tree(tmp_path / "more", *many("train/", "a", 3), *many("train/", "b", 3))
    more = tree(tmp_path / "more", *(f for c in "abcd" for f in many("val/", c, 3)))
    assert "val has a class 'c' and 1 more that train lacks" in message(more)
    val = tree(tmp_path / "val-only", *many("val/", "a", 3))
    assert "has val but no train" in message(val)
    single = tree(tmp_path / "single", *many("", "a", 3), "b/1.jpg")
    assert f"{single / 'b'}: holds one image only" in message(single)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    tree(tmp_path, *many("train/", "a", 2), *many("train/", "b", 2))
    real = os.scandir

    def scandir(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert f"{tmp_path / 'train' / 'b'}: cannot be read (Permission denied)" in message(tmp_path)


def test_links_in_a_circle_are_pictures_that_cannot_be_read(tmp_path):
    tree(tmp_path, *many("train/", "a", 2), *many("train/", "b", 2))
    tree(tmp_path, *many("val/", "a", 2), *many("val/", "b", 2))
    (tmp_path / "train" / "loop").symlink_to("loop")
    (tmp_path / "train" / "a" / "loop.jpg").symlink_to("loop.jpg")
    found = scan(tmp_path).train
    assert "a/loop.jpg" in found.names and found.class_names == ("a", "b")
    with pytest.raises(DataError, match=r"loop\.jpg: cannot be read \(Too many levels"):
        opened(tmp_path / "train" / "a" / "loop.jpg", [])


def test_settings_out_of_range(tmp_path):
    tree(tmp_path, *many("", "a", 3), *many("", "b", 3))
    for settings in ({"split": 0}, {"split": 1.0}, {"limit": 0}):
        with pytest.raises(SettingError):
            scan(tmp_path, **settings)


def test_which_folders_are_of_pictures(tmp_path):
    assert is_image_folder(tree(tmp_path / "1", "a/1.jpg"))
    assert is_image_folder(tree(tmp_path / "2", "train/a/1.jpg"))
    assert not is_image_folder(tree(tmp_path / "3", "train-images-idx3-ubyte", "a/1.txt"))
    assert not is_image_folder(tmp_path / "4")

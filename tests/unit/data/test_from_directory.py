"""`data.from_directory` obeys the arguments of Keras's function, or refuses them by name."""

from __future__ import annotations

import numpy as np
import pytest
from data_on_disk import write_pictures
from PIL import Image

from gpukit import data, layers
from gpukit.data.resizing import resize
from gpukit.errors import CheckpointError, DataError, SettingError
from gpukit.models import Sequential


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_pictures(tmp_path_factory.mktemp("pictures") / "set", train=5, val=0)


def made(folder, **settings):
    return data.from_directory(folder, **{"verbose": False, "image_size": (12, 10), **settings})


def whole(feed, number=0):
    batches = list(feed.epoch(number))
    return np.concatenate([b.x for b in batches]), np.concatenate([b.y for b in batches])


def naive(image, size, interpolation):
    """Each pixel by itself, in float64."""
    height, width = image.shape[:2]
    out = np.zeros((*size, image.shape[2]))
    for i in range(size[0]):
        for j in range(size[1]):
            y, x = (i + 0.5) * height / size[0], (j + 0.5) * width / size[1]
            if interpolation == "nearest":
                out[i, j] = image[min(int(y), height - 1), min(int(x), width - 1)]
                continue
            y, x = max(y - 0.5, 0), max(x - 0.5, 0)
            for a in (int(y), int(y) + 1):
                for b in (int(x), int(x) + 1):
                    weight = (1 - abs(y - a)) * (1 - abs(x - b))
                    out[i, j] += weight * image[min(a, height - 1), min(b, width - 1)]
    return out


@pytest.mark.parametrize("interpolation", ["bilinear", "nearest"])
@pytest.mark.parametrize("size", [(12, 10), (36, 40), (50, 7), (1, 1), (80, 90)])
def test_pictures_are_resized_as_a_whole(folder, interpolation, size):
    feed = made(folder, shuffle=False, interpolation=interpolation, image_size=size)
    x, y = whole(feed)
    assert (
        x.dtype == np.float32
        and x.shape == (15, *size, 3)
        and y.tolist() == [0] * 5 + [1] * 5 + [2] * 5
    )
    pixels = np.asarray(Image.open(folder / "green" / "1.png"))
    np.testing.assert_allclose(x[6], naive(pixels, size, interpolation), rtol=1e-4, atol=1e-3)


def test_bilinear_values_are_pytorchs(folder):
    torch = pytest.importorskip("torch")
    pixels = np.asarray(Image.open(folder / "green" / "1.png")).astype(np.float32)
    for size in ((12, 10), (90, 33)):
        theirs = torch.nn.functional.interpolate(
            torch.from_numpy(pixels).permute(2, 0, 1)[None], size, mode="bilinear"
        )[0]
        ours = resize(pixels, size, "bilinear")
        np.testing.assert_allclose(ours, theirs.permute(1, 2, 0).numpy(), rtol=1e-4, atol=1e-3)


def test_crop_to_aspect_ratio(folder):
    x, _ = whole(made(folder, shuffle=False, image_size=(10, 20), crop_to_aspect_ratio=True))
    pixels = np.asarray(Image.open(folder / "blue" / "0.png"))  # 36×40
    np.testing.assert_allclose(
        x[0], naive(pixels[8:28], (10, 20), "bilinear"), rtol=1e-4, atol=1e-3
    )


def test_colours(folder, tmp_path):
    picture = Image.new("RGBA", (4, 4), (200, 100, 50, 0))
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        picture.save(tmp_path / name / "0.png")
    how = {"image_size": (4, 4), "shuffle": False}
    assert whole(made(tmp_path, color_mode="rgba", **how))[0][0, 0, 0].tolist() == [200, 100, 50, 0]
    assert whole(made(tmp_path, **how))[0].min() == 255
    grey = made(folder, color_mode="grayscale", **how)
    assert grey.image_shape == (4, 4, 1) and whole(grey)[0].shape == (15, 4, 4, 1)


def test_labels(folder):
    _, y = whole(made(folder, shuffle=False, label_mode="categorical"))
    np.testing.assert_array_equal(y, np.repeat(np.eye(3), 5, axis=0))
    feed = made(folder, shuffle=False, class_names=["red", "green", "blue"])
    assert feed.class_names == ("red", "green", "blue") and "red/0.png" in feed.file_paths[0]
    given = list(range(15))
    assert whole(made(folder, labels=given, shuffle=False))[1].tolist() == given
    with pytest.raises(SettingError, match="'binary' is for 2 classes, not 3"):
        made(folder, label_mode="binary")


def test_binary_labels_train(tmp_path):
    folder = write_pictures(tmp_path / "set", train=4, val=0, classes=("red", "blue"))
    feed = made(folder, label_mode="binary", batch_size=3)
    assert whole(feed)[1].shape == (8, 1) and feed.steps == 3
    model = Sequential([layers.Flatten(), layers.Dense(1, activation="sigmoid")])
    model.compile("sgd", "binary_crossentropy")
    model.fit(feed, epochs=2, verbose=0)


def test_without_labels_only_predict_takes_it(folder):
    feed = made(folder, labels=None)
    model = Sequential([layers.Flatten(), layers.Dense(3, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert model.predict(feed).shape == (15, 3)
    for call in (model.fit, model.evaluate):
        with pytest.raises(DataError, match="the feed has no labels; only predict takes it"):
            call(feed)
    assert made(folder, label_mode=None).labelled is False


@pytest.mark.parametrize("shuffle", [True, False])
def test_subsets_share_no_picture(folder, shuffle):
    how = {"validation_split": 0.2, "seed": 4, "shuffle": shuffle}
    train, held = made(folder, subset="both", **how)
    alone = made(folder, subset="training", **how), made(folder, subset="validation", **how)
    assert (train.count, held.count) == (12, 3)
    assert train.file_paths == alone[0].file_paths and held.file_paths == alone[1].file_paths
    assert sorted(train.file_paths + held.file_paths) == sorted(made(folder).file_paths)
    if not shuffle:  # the end of the files, as in Keras
        assert all("red" in path for path in held.file_paths)


def test_orders_follow_from_seed_and_epoch(folder):
    one, two = made(folder, seed=3), made(folder, seed=3)
    np.testing.assert_array_equal(whole(one, 2)[0], whole(two, 2)[0])
    assert (whole(one, 0)[1] != whole(one, 1)[1]).any()
    rest = list(one.epoch(1, 0))[0:]
    (again,) = made(folder, seed=3, batch_size=8).epoch(1, 1)
    np.testing.assert_array_equal(again.x, rest[0].x[8:])
    two.take_up(one.config())
    with pytest.raises(CheckpointError, match="seed is 3 instead of 4"):
        one.take_up(made(folder, seed=4).config() | {"files": one.config()["files"]})


def test_what_is_found_is_said(folder, capsys):
    data.from_directory(folder, validation_split=0.2, subset="both", seed=1)
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "Found 15 files belonging to 3 classes.",
        "Using 12 files for training.",
        "Using 3 files for validation.",
    ]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"pad_to_aspect_ratio": True}, "pad_to_aspect_ratio=True is not supported"),
        ({"data_format": "channels_first"}, "channels are last"),
        ({"interpolation": "lanczos3"}, "interpolation='lanczos3': use 'bilinear', 'nearest'"),
        ({"color_mode": "hsv"}, "color_mode='hsv': use 'grayscale'"),
        ({"label_mode": "float"}, "label_mode='float': use 'int'"),
        ({"subset": "training"}, "give both, or neither"),
        ({"validation_split": 0.2}, "give both, or neither"),
        ({"subset": "test", "validation_split": 0.2}, "subset='test': use 'training'"),
        ({"subset": "both", "validation_split": 1.2}, "validation_split=1.2"),
        ({"subset": "both", "validation_split": 0.01}, "leaves a subset empty"),
        ({"labels": "none"}, "labels='none': use 'inferred'"),
        ({"labels": [1, 2]}, "a class number from 0 for each of the 15 files"),
        ({"labels": None, "class_names": ["a"]}, "class_names are for labels='inferred'"),
        ({"class_names": ["red", "blue"]}, "they must be the same"),
        ({"image_size": 12}, r"use \(height, width\)"),
        ({"batch_size": 0}, "batch size"),
        ({"seed": -1}, "seed"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(folder, settings, message):
    with pytest.raises((SettingError, DataError), match=message):
        made(folder, **settings)


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(DataError, match="holds no pictures"):
        made(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        made(tmp_path / "none")

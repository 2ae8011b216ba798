"""`gpukit data export` writes folders of pictures."""

from __future__ import annotations

from PIL import Image


def test_export(gpukit, tmp_path):
    out = tmp_path / "pictures"
    done = gpukit("data", "export", "fashion-mnist-small", out, "--limit", 30, "--json")
    assert done.code == 0 and done.err == f"writing {out}: 60 images\n"
    assert done.json["train"] == done.json["val"] == 30 and len(done.json["classes"]) == 10
    assert len(list(out.glob("train/*/*.jpg"))) == len(list(out.glob("val/*/*.jpg"))) == 30
    shown = gpukit("data", "show", out, "--json").json
    assert (shown["train"], shown["val"], len(shown["classes"])) == (30, 30, 10)
    assert sum(entry["train"] for entry in shown["classes"]) == 30
    text = gpukit("data", "show", out).out
    assert text.startswith(f"{out}: 30 images to train, 30 to validate, pictures, 10 classes\n")
    for command in (
        ("data", "show", out, "--picture", "x.png"),
        ("train", "lenet5", "--data", out),
    ):
        refused = gpukit(*command)
        assert refused.code == 2 and "pictures" in refused.err and refused.err.count("\n") == 1
    again = gpukit("data", "export", "fashion-mnist-small", out)
    assert again.code == 2 and "is there already" in again.err and again.err.count("\n") == 1


def test_export_as_png(gpukit, tmp_path):
    out = tmp_path / "pictures"
    options = ("--format", "png", "--limit", 10, "--quiet")
    done = gpukit("data", "export", "fashion-mnist-small", out, *options)
    assert done.code == 0 and done.err == ""
    with Image.open(next(out.glob("train/*/00001.png"))) as picture:
        assert picture.size == (28, 28)


def test_export_refuses(gpukit, tmp_path):
    assert gpukit("data", "export", "mnist", tmp_path / "x", "--quality", 0).code == 2
    assert gpukit("data", "export", "mnist", tmp_path / "x", "--format", "gif").code == 2
    unknown = gpukit("data", "export", tmp_path / "nowhere", tmp_path / "x")
    assert unknown.code == 2 and "neither a data set's name nor a folder" in unknown.err

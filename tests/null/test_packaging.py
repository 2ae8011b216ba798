"""The wheel holds every package, every kernel source and the embedded images, and no tests."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from sources import CHECKOUT

MEBIBYTE = 1 << 20
MOST_WHEEL, MOST_EMBEDDED = 14 * MEBIBYTE, 12 * MEBIBYTE

# A new kernel is one dropped file: these stand for it.
PLANTED = ("planted.cu", "planted.cuh", "planted.py")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what a wheel is built of, with new kernel sources in it."""
    copy = tmp_path_factory.mktemp("packaging") / "tree"
    leave = shutil.ignore_patterns("__pycache__", "*.egg-info")
    copy.mkdir()
    for name in ("gpukit", "kernels", "tests"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    for name in PLANTED:
        (copy / "kernels" / name).write_text("// planted\n" if "cu" in name else '"""Planted."""\n')
    return copy


@pytest.fixture(scope="module")
def wheel(tree: Path) -> Path:
    """The wheel of `tree`, built by pip; skipped where that needs a network that is not there."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "--wheel-dir"]
    command += [str(tree.parent / "wheel")]
    if _setuptools_is_new_enough():
        command.append("--no-build-isolation")
    done = subprocess.run(
        [*command, str(tree)], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    said = done.stdout + done.stderr
    if "No module named pip" in said:
        pytest.skip("no pip in this environment to build a wheel with")
    if done.returncode and "No matching distribution found for setuptools" in said:
        pytest.skip("setuptools 77 is neither installed nor to be had from here to build a wheel")
    assert done.returncode == 0, said
    (built,) = (tree.parent / "wheel").glob("gpukit-*.whl")
    return built


@pytest.fixture(scope="module")
def contents(wheel: Path) -> dict[str, int]:
    """Size of every file in the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {entry.filename: entry.file_size for entry in archive.infolist()}


def _setuptools_is_new_enough() -> bool:
    try:
        return int(version("setuptools").partition(".")[0]) >= 77
    except PackageNotFoundError:
        return False


def test_every_kernel_source_is_in_the_wheel(tree, contents):
    kernels = tree / "kernels"
    sources = {
        path.relative_to(kernels).as_posix()
        for suffix in ("cu", "cuh", "py")
        for path in kernels.rglob(f"*.{suffix}")
    }
    assert sources >= set(PLANTED)
    assert {f"gpukit/kernels/{name}" for name in sources} - contents.keys() == set()


def test_every_module_is_in_the_wheel(tree, contents):
    modules = {path.relative_to(tree).as_posix() for path in (tree / "gpukit").rglob("*.py")}
    assert modules - contents.keys() == set()


def test_every_package_is_listed():
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        listed = set(tomllib.load(file)["tool"]["setuptools"]["packages"])
    folders = {path.parent for path in (CHECKOUT / "gpukit").rglob("__init__.py")}
    packages = {".".join(folder.relative_to(CHECKOUT).parts) for folder in folders}
    inside = {
        f"gpukit.{f.parent.relative_to(CHECKOUT)}".replace("/", ".")
        for f in (CHECKOUT / "kernels").rglob("__init__.py")
    }
    assert packages | inside == listed


def test_type_marker_images_and_notices_are_in_the_wheel(tree, contents):
    embedded = tree / "gpukit" / "data" / "embedded"
    wanted = {path.relative_to(tree).as_posix() for path in embedded.iterdir()}
    assert any(name.endswith(".xz") for name in wanted)
    assert "gpukit/data/embedded/LICENSE.txt" in wanted
    assert (wanted | {"gpukit/py.typed"}) - contents.keys() == set()
    assert any(re.fullmatch(r"gpukit-.*\.dist-info/licenses/LICENSE", name) for name in contents)


def test_skeletons_are_in_the_wheel(tree, contents):
    folder = tree / "gpukit" / "scaffold" / "skeletons"
    wanted = {path.relative_to(tree).as_posix() for path in folder.iterdir()}
    assert len(wanted) > 10
    assert wanted - contents.keys() == set()


def test_sizes(wheel, contents):
    embedded = [n for name, n in contents.items() if name.startswith("gpukit/data/embedded/")]
    assert sum(embedded) <= MOST_EMBEDDED
    assert wheel.stat().st_size <= MOST_WHEEL


def test_nothing_else_is_in_the_wheel(contents):
    assert {name.partition("/")[0].partition("-")[0] for name in contents} == {"gpukit"}
    assert [name for name in contents if re.search(r"(^|/)tests?(/|_|\.)|_test\.", name)] == []
    assert [name for name in contents if "__pycache__" in name or name.endswith(".pyc")] == []

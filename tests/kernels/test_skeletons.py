"""`gpukit kernels new` writes plug-ins that are right, for every primitive that it knows.

Skeletons of one family differ by an expression: one of them gets the whole check, the others some
cases. GPUKIT_TEST_INSTANCES=all checks all of them.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from gpukit.cli.app import app
from gpukit.dispatch.primitive import registry
from gpukit.emulator import compiler_problem
from gpukit.errors import GpukitError, SettingError
from gpukit.launch.nvrtc import compile_source, version
from gpukit.plugins import load_kernel, unload
from gpukit.scaffold.new import SKELETONS, write
from gpukit.verify import run_case
from gpukit.verify.coverage import targets
from gpukit.verify.plugins import check_plugin


def missing() -> str:
    try:
        version()
    except GpukitError as error:
        return str(error)
    return compiler_problem()


needs_compilers = pytest.mark.skipif(bool(missing()), reason=missing())


def test_the_families_are_there():
    wanted = {"conv2d", "relu", "sigmoid", "max_pool2d", "avg_pool2d", "add", "softmax", "matmul"}
    assert wanted <= set(SKELETONS)


@pytest.mark.parametrize("primitive", sorted(registry))
def test_every_primitive_has_a_start_that_loads(tmp_path, primitive):
    files = write("mine", primitive, tmp_path)
    words = ("NAME", "PRIMITIVE", "EXPRESSION", "PARAMETERS", "COVERED", "BODY")
    assert not [word for word in words for f in files if word in f.read_text()]
    loaded = load_kernel(files[1])
    assert loaded.names == (f"{primitive}:mine",)
    assert [kernel.name for kernel in loaded.kernels] == ["mine"]
    unload(loaded)


FIRST = {skeleton.family: name for name, skeleton in sorted(SKELETONS.items(), reverse=True)}
EVERY = os.environ.get("GPUKIT_TEST_INSTANCES") == "all"
CHECKED = sorted(SKELETONS if EVERY else FIRST.values())
# The others are made from signatures: one of each kind of argument and result.
MADE = (
    "adagrad_update", "all_finite", "batch_norm_grad", "bias_relu_lrn_pool_grad", "index",
    "normalise_images", "split",
)  # fmt: skip


@needs_compilers
@pytest.mark.parametrize("primitive", [*CHECKED, *MADE])
def test_a_skeleton_is_right(tmp_path, primitive):
    files = write("mine", primitive, tmp_path)
    assert [f.name for f in files] == ["mine.cu", "mine.py", "test_mine.py"]
    assert all("NAME" not in f.read_text() and "PRIMITIVE" not in f.read_text() for f in files)
    modes = ("plain", "cheats")
    outcome = check_plugin(files[1], architectures=[80], modes=modes, cases=12, seed=1, limit=300)
    assert outcome.ok, str(outcome)
    assert outcome.cases == {"plain": 12, "cheats": 1}
    assert outcome.targets == (f"{primitive}:mine",)


@needs_compilers
@pytest.mark.parametrize("primitive", sorted(set(SKELETONS) - set(CHECKED)))
def test_an_expression_is_right(tmp_path, primitive):
    loaded = load_kernel(write("mine", primitive, tmp_path)[1])
    try:
        assert compile_source(loaded.kernels[0].source, 80).warnings == ()
        (target,) = targets(f"{primitive}:mine")
        assert [run_case.run(target, 1, number) for number in range(12)] == [""] * 12
    finally:
        unload(loaded)


@needs_compilers
def test_its_own_test_passes(tmp_path):
    write("mine", "relu", tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    whole = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert whole.returncode == 0, whole.stdout


def test_what_is_refused(tmp_path):
    write("mine", "relu", tmp_path)
    for name, primitive, words in [
        ("mine", "relu", "is there already"),
        ("1st", "relu", "cannot be the name"),
        ("a-b", "relu", "cannot be the name"),
        ("class", "relu", "cannot be the name"),
        ("template", "relu", "cannot be the name"),
        ("other", "conv", "no primitive 'conv'; there are conv2d"),
        ("cuda", "relu", "has an implementation cuda already"),
    ]:
        with pytest.raises(SettingError, match=words):
            write(name, primitive, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "letters, digits and _"),
        ("_mine", "letters, digits and _"),
        ("größe", "letters, digits and _"),
        ("lambda", "a word of Python"),
        *((name, r"a word of C\+\+") for name in ("auto", "struct", "void", "typename", "xor")),
        *((name, "a function of C") for name in ("exp", "expf", "sqrt", "max", "tanh", "fmaf")),
        *((name, r"C\+\+ or CUDA knows it") for name in ("float4", "dim3", "int32_t", "threadIdx")),
        *((name, "capitals") for name in ("T", "BLOCK", "NAN", "M_PI")),
        *((name, "Python's own module") for name in ("random", "queue", "json")),
        *((name, "the installed package") for name in ("numpy", "click", "gpukit")),
        *((name, "its own files use") for name in ("divide_up", "supports", "contiguous", "p")),
    ],
)
def test_names_that_cannot_work_are_refused(tmp_path, name, why):
    with pytest.raises(SettingError, match="cannot be the name of a kernel: .*" + why) as raised:
        write(name, "softmax", tmp_path)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("primitive", sorted(SKELETONS))
def test_plain_names_are_not_refused(tmp_path, primitive):
    for name in (
        "mine",
        "tiled",
        "fast_one",
        "myKernel2",
        "row",
        "x",
        f"my_{primitive}",
        primitive,
    ):
        if name not in ("exp", "log", "sqrt", "tanh"):
            write(name, primitive, tmp_path)


def test_the_command_says_what_to_do_next(tmp_path):
    arguments = ["kernels", "new", "mine", "--primitive", "softmax", "--out", str(tmp_path / "new")]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert f"check it: gpukit kernels check {tmp_path}/new/mine.py" in result.stdout

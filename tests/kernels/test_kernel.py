"""A kernel's own declaration checks its launches, before anything is compiled or run."""

# ruff: noqa: E501  (tables, a case a line)
from __future__ import annotations

import enum
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from gpukit.device import get_device, to_host
from gpukit.dispatch.primitive import registry
from gpukit.emulator.build import compiler_problem
from gpukit.errors import DeviceError, DTypeError, GpukitError, ShapeError
from gpukit.launch.engine import Call
from gpukit.launch.kernel import Kernel
from gpukit.launch.sources import load

FEATURES = Path(__file__).parent / "features.cu"

SUMS = Kernel(FEATURES, "sums")


def emu(shape=(8,), dtype=np.float32, device="emu"):
    return get_device(device).zeros(shape, dtype)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((emu(), emu()), GpukitError, r"sums<float> \(features.cu:\d+\) takes 3 arguments \(x, y, n\), got 2"),
        ((emu(), emu(dtype=np.float64), 8), DTypeError, "argument y has elements of float64, the kernel's are float32"),
        ((emu((4, 4))[:, ::2], emu(), 8), ShapeError, "argument x of shape .* is not contiguous; pass contiguous"),
        ((np.zeros(8, np.float32), np.zeros(8, np.float32), 8), DeviceError, "is on cpu; kernels take arrays on cuda or emu"),
        ((emu(), emu(device="emu:1"), 8), DeviceError, "emu:0 and emu:1 in one call"),
        ((None, emu(), 8), GpukitError, "argument x is None"),
        ((emu(), 3, 8), DTypeError, "argument y is int; pass an array"),
        ((emu(), emu(), 8.0), DTypeError, "argument n takes a int .*got 8.0"),
        ((emu(), emu(), True), DTypeError, "argument n takes a int"),
        ((emu(), emu(), 2**31), DTypeError, "n=2147483648 does not fit into int32"),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        SUMS.launch(1, 32, *arguments, T=np.float32)


@pytest.mark.parametrize(
    ("grid", "block"),
    [(0, 32), (1, 0), (1, 2048), ((1, 70000), 1), (1, (64, 32)), ((1, 1, 1, 1), 1)],
)
def test_impossible_grids_are_refused(grid, block):
    with pytest.raises(ShapeError, match="sums<float>"):
        SUMS.launch(grid, block, emu(), emu(), 8, T=np.float32)


@pytest.mark.parametrize("template", [{}, {"U": np.float32}, {"T": np.float32, "N": 4}])
def test_template_parameters_are_the_kernels_own(template):
    with pytest.raises(GpukitError, match=r"template parameters \(T\)"):
        SUMS.launch(1, 32, emu(), emu(), 8, **template)


class Four(enum.IntEnum):
    FOUR = 4


@pytest.fixture
def calls(monkeypatch):
    """What reaches the engine of emu, which runs nothing."""
    found: list[Call] = []
    monkeypatch.setitem(registry.engines, "emu", SimpleNamespace(launch=found.append))
    return found


@pytest.mark.parametrize("n", [4, np.int64(4), np.uint8(4), Four.FOUR])
def test_whole_numbers_of_any_class_are_the_kernels_own(calls, n):
    x = emu()
    SUMS.launch(1, 32, x, x, n, T=np.float32)
    (call,) = calls
    assert call.arguments[0] is call.arguments[1] is x
    assert type(call.arguments[2]) is np.int32 and call.arguments[2] == 4
    assert (call.grid, call.block) == ((1, 1, 1), (32, 1, 1))


def test_what_was_taken_once_lets_nothing_else_through(calls):
    x = emu()
    SUMS.launch(1, 32, x, x, 1, T=np.float32)
    for n in (True, 1.0, np.float32(1), np.True_, "1", None):
        with pytest.raises(DTypeError, match="argument n takes a int"):
            SUMS.launch(1, 32, x, x, n, T=np.float32)
    for block in (2048, 2048, (64, 32), (64, 32)):
        with pytest.raises(ShapeError, match="sums<float>"):
            SUMS.launch(1, block, x, x, 1, T=np.float32)
    assert len(calls) == 1


def test_only_some_numbers_are_remembered(calls):
    x = emu()
    for n in range(-300, 700):
        SUMS.launch(1, 32, x, x, n, T=np.float32)
    assert [int(call.arguments[2]) for call in calls] == list(range(-300, 700))
    assert {call.bound for call in calls} == {SUMS.bind(T=np.float32)}, "one for all launches"


class Counts(NamedTuple):
    n: int
    scale: float
    wide: int


COUNTS = """
struct Counts {
    int n;
    float scale;
    long long wide;
};
extern "C" __global__ void counted(double* y, Counts counts) {
    y[0] = counts.n;
    y[1] = counts.scale;
    y[2] = counts.wide;
}
struct Many {
    int n[4];
};
extern "C" __global__ void unreadable(double* y, Many many) {}
"""


@pytest.fixture
def counted(tmp_path):
    (tmp_path / "counts.cu").write_text(COUNTS)
    return Kernel(tmp_path / "counts.cu", "counted")


@pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
def test_structs_go_by_value_with_c_s_layout(counted):
    y = emu(dtype=np.float64)
    counted.launch(1, 1, y, Counts(7, 0.5, 2**40))
    np.testing.assert_array_equal(to_host(y)[:3], [7, 0.5, 2**40])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            (7, 0.5, 2),
            "argument counts takes a Counts with the members n, scale, wide, got a tuple",
        ),
        (Counts(2**31, 0.5, 2), "argument counts.n=2147483648 does not fit into int32"),
        (Counts(7, 0.5, 2.0), "argument counts.wide takes a int64"),
    ],
)
def test_wrong_structs_are_refused(calls, counted, given, words):
    counted.launch(1, 1, emu(dtype=np.float64), Counts(7, 0.5, 2))
    with pytest.raises(DTypeError, match=words):
        counted.launch(1, 1, emu(dtype=np.float64), given)
    with pytest.raises(DTypeError, match="'Many', which cannot be passed"):
        Kernel(counted.file, "unreadable").bind()


def test_unknown_kernels_and_files_are_named():
    with pytest.raises(GpukitError, match=r"no kernel 'nothing'; it has sums"):
        Kernel(FEATURES, "nothing").bind()
    with pytest.raises(GpukitError, match=r"no kernel source 'nothing.cu'"):
        Kernel("nothing.cu", "nothing").bind()


def test_declarations_are_read_from_the_text(tmp_path):
    file = tmp_path / "a.cu"
    file.write_text(
        '#include "b.cuh"\n'
        "// __global__ void comment(int a);\n"
        "// instances: f<T, 4, true>, f<float, 8, false>\n"
        "template <typename T, int N, bool FLAG = false>\n"
        "__global__ void __launch_bounds__(Tile<N, 2>::THREADS, 2)\n"
        "    f(const T* __restrict__ x, T* y_or_null, unsigned int n, long long m, T scale) {}\n"
        'extern "C" __global__ void g(const unsigned char *x) {}\n'
    )
    (tmp_path / "b.cuh").write_text(
        "#pragma once\ntemplate <typename T> __global__ void h(T* y) {}\n"
    )
    source = load(file)
    assert list(source.kernels) == ["h", "f", "g"]
    f = source.kernels["f"]
    assert f.place == "a.cu:5" and source.kernels["h"].place == "b.cuh:2"
    assert [(p.type, p.name, p.is_pointer, p.is_const) for p in f.parameters] == [
        ("T", "x", True, True),
        ("T", "y_or_null", True, False),
        ("unsigned int", "n", False, False),
        ("long long", "m", False, False),
        ("T", "scale", False, False),
    ]
    assert [i.expression for i in source.instances] == [
        "h<float>",
        "h<double>",
        "f<float, 4, true>",
        "f<double, 4, true>",
        "f<float, 8, false>",
        "g",
    ]
    assert not source.kernels["g"].template

"""The device emu means by CUDA C what a card does: shuffles, votes, atomics, mma, positions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from gpukit.device import get_device
from gpukit.emulator import KernelFault, compiler_problem
from gpukit.errors import GpukitError
from gpukit.launch.kernel import Kernel
from gpukit.launch.wheels import nvidia_folder

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

FEATURES = Path(__file__).parent / "features.cu"


def on_emu(array):
    return get_device("emu").asarray(array)


def kernel(name):
    return Kernel(FEATURES, name)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("seed", ["0", "1", "7"])
def test_a_block_sum_is_the_same_in_every_thread_and_order(dtype, seed, monkeypatch):
    monkeypatch.setenv("GPUKIT_EMU_SEED", seed)
    x = np.arange(1000, dtype=dtype)
    y = get_device("emu").empty((256,), dtype)
    kernel("sums").launch(1, 256, on_emu(x), y, x.size, T=dtype)
    np.testing.assert_array_equal(y.data, np.full(256, x.sum()))


@pytest.mark.parametrize("width", [32, 16, 8, 2])
@pytest.mark.parametrize("argument", [0, 1, 5, 31])
def test_shuffles(argument, width):
    x = np.arange(100, 132, dtype=np.int32)
    y = get_device("emu").empty((4, 32), np.int32)
    kernel("shuffles").launch(1, 32, on_emu(x), y, argument, width)
    lanes = np.arange(32)
    first = lanes // width * width
    up, down, other = lanes - argument, lanes + argument, lanes ^ argument
    expected = [
        x[first + argument % width],
        x[np.where(up < first, lanes, up)],
        x[np.where(down >= first + width, lanes, np.minimum(down, 31))],
        x[np.where(other >= first + width, lanes, other)],
    ]
    np.testing.assert_array_equal(y.data, expected)


def test_votes():
    x = np.zeros(64, np.int32)
    x[[3, 31]] = 1
    x[32:] = 1
    y = get_device("emu").empty((2, 6), np.uint32)
    kernel("votes").launch(1, 64, on_emu(x), y)
    np.testing.assert_array_equal(
        y.data, [[1 << 3 | 1 << 31, 1, 0, 34, 0, 1], [2**32 - 1, 1, 1, 34, 0, 1]]
    )


def test_atomics_over_many_blocks():
    x = np.random.default_rng(0).integers(-1000, 1000, 10_000).astype(np.int32)
    device = get_device("emu")
    y, total, big = (device.zeros(s, t) for s, t in (((4,), np.int32), ((1,), float), ((1,), "u8")))
    kernel("atomics").launch(40, 256, on_emu(x), y, total, big, x.size)
    np.testing.assert_array_equal(y.data, [x.sum(), x.max(), x.min(), 7])
    assert total.data[0] == x.sum() and big.data[0] == x.size << 33


def test_positions_in_three_dimensions():
    y = get_device("emu").empty((2 * 3 * 2, 4 * 2 * 3), np.int32)
    kernel("positions").launch((2, 3, 2), (4, 2, 3), y, shared=4 * 24)
    np.testing.assert_array_equal(y.data, 1000 * np.arange(12)[:, None] + np.arange(24))


def test_dynamic_shared_memory_must_be_asked_for():
    y = get_device("emu").empty((32,), np.int32)
    with pytest.raises(KernelFault, match=r"positions at features.cu:\d+.*launch with shared="):
        kernel("positions").launch(1, 32, y)


def test_mma_tf32_is_a_product():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-8, 9, s).astype(np.float32) for s in ((16, 8), (8, 8)))
    c = get_device("emu").empty((16, 8))
    kernel("product_tf32").launch(1, 32, on_emu(a), on_emu(b), c)
    np.testing.assert_array_equal(c.data, a @ b)


ROUNDED = {  # bits of a float, and of what to_tf32 makes of it
    0x00000000: 0x00000000,
    0x80000000: 0x80000000,
    0x3F800FFF: 0x3F800000,  # below the middle
    0x3F801000: 0x3F802000,  # ties go away from zero
    0xBF801000: 0xBF802000,
    0x3FFFF000: 0x40000000,  # a carry into the exponent
    0x00000FFF: 0x00000000,  # subnormals are rounded, not flushed
    0x00001000: 0x00002000,
    0x80402345: 0x80402000,
    0x007FFFFF: 0x00800000,  # to the smallest normal number
    0x7F7FEFFF: 0x7F7FE000,  # the largest
    0x7F7FF000: 0x7F800000,  # beyond it
    0x7F800000: 0x7F800000,
    0xFF800000: 0xFF800000,
    0x7FC00000: 0x7FC00000,
    0xFFFFFFFF: 0xFFFFE000,  # no carry out of NaN
    0x7F802000: 0x7F802000,
    0x7F800001: 0x7F800000,  # NaN by low bits alone becomes an infinity
    0xFF801FFF: 0xFF800000,
    0x7F803FFF: 0x7F802000,
}


def test_to_tf32_to_the_bit():
    x = np.array([*ROUNDED], np.uint32).view(np.float32)
    y = get_device("emu").empty((len(ROUNDED),))
    kernel("round_tf32").launch(1, len(ROUNDED), on_emu(x), y)
    made = [int(bits) for bits in y.data.view(np.uint32)]
    assert dict(zip(map(hex, ROUNDED), map(hex, made))) == {
        hex(a): hex(b) for a, b in ROUNDED.items()
    }


@pytest.mark.parametrize("half", [True, False])
def test_mma_16_bit_by_ldmatrix_and_async_copies_is_a_product(half):
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-8, 9, s).astype(np.float32) for s in ((16, 16), (16, 8)))

    def bits(x):
        return x.astype(np.float16).view(np.uint16) if half else (x.view(np.uint32) >> 16)

    c = get_device("emu").empty((16, 8))
    device_arrays = [on_emu(np.ascontiguousarray(bits(m).astype(np.uint16))) for m in (a, b)]
    kernel("product_16bit").launch(1, 32, *device_arrays, c, HALF=half)
    np.testing.assert_array_equal(c.data, a @ b)


@pytest.mark.skipif(nvidia_folder() is None, reason="pip install 'gpukit[kernels]'")
def test_half_and_bfloat16_by_nvidias_headers():
    x = np.arange(100).astype(np.float16)
    y = get_device("emu").empty((100,))
    Kernel(FEATURES.with_name("halves.cu"), "halves").launch(1, 128, on_emu(x), y, 100)
    np.testing.assert_array_equal(y.data, np.arange(100) + 0.5)


def test_a_failed_assertion_names_kernel_line_block_and_thread():
    x = np.ones(32, np.float32)
    x[9] = -1
    expected = r"checked at features.cu:\d+, block \(0,0,0\), thread \(9,0,0\): assertion failed"
    with pytest.raises(KernelFault, match=expected):
        kernel("checked").launch(1, 32, on_emu(x), None, True)
    kernel("checked").launch(1, 32, on_emu(abs(x)), None, True)  # the next launch is not harmed


@pytest.mark.parametrize("blocks", [1, 40])
def test_an_endless_loop_is_cut_and_the_next_launch_unharmed(blocks, monkeypatch):
    monkeypatch.setenv("GPUKIT_EMU_LIMIT", "0.5")
    endless = Kernel(FEATURES.with_name("planted") / "waiting.cu", "endless")
    x, y = on_emu(np.ones(32, np.float32)), get_device("emu").empty((32,))
    with pytest.raises(KernelFault, match=r"endless<true>, block \(.*took more than 0.5 s"):
        endless.launch(blocks, 32, x, y, BUG=True)
    endless.launch(1, 32, x, y, BUG=False)
    np.testing.assert_array_equal(y.data, 4.0)


def test_compiler_errors_name_the_source_line(tmp_path):
    source = tmp_path / "wrong.cu"
    source.write_text("__global__ void wrong(float* y) {\n    y[0] = nothing;\n}\n")
    with pytest.raises(GpukitError, match=r"(?s)cannot compile wrong for emu.*wrong.cu:2:12"):
        Kernel(source, "wrong").launch(1, 1, get_device("emu").empty((1,)))


BUILD = """
import sys
from gpukit.emulator.build import kernel_library
from gpukit.launch.kernel import Kernel

bound = Kernel(sys.argv[1], "positions").bind()
sys.stdin.read(1)
print(kernel_library(bound, "plain"))
"""


def test_processes_may_build_one_library_at_once(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", BUILD, str(FEATURES)],
            env={**os.environ, "GPUKIT_CACHE": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for process in processes:
        process.stdin.write("!")
        process.stdin.flush()
    made = {process.communicate(timeout=120)[0].strip() for process in processes}
    assert all(process.returncode == 0 for process in processes)
    assert {str(path) for path in (tmp_path / "emulator").iterdir()} == made
    assert len(made) == 1


def test_without_a_compiler_the_message_says_what_to_install(monkeypatch):
    from gpukit.emulator import build

    monkeypatch.setenv("GPUKIT_CXX", "no-such-compiler")
    build.compiler.cache_clear()
    try:
        assert "apt install g++" in build.compiler_problem()
    finally:
        build.compiler.cache_clear()


def test_empty_memory_is_nan_and_aligned_as_on_a_card():
    for dtype in (np.float32, np.float64):
        array = get_device("emu:1").empty((3, 5), dtype)
        assert np.isnan(array.data).all() and array.data.ctypes.data % 256 == 0
    assert get_device("emu") is get_device("emu:0") is not get_device("emu:1")

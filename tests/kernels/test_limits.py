"""What a card refuses, emu refuses: blocks beyond launch bounds, too much shared memory."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from gpukit.device import get_device
from gpukit.emulator import compiler_problem
from gpukit.emulator.run import Emulator
from gpukit.errors import GpukitError
from gpukit.launch import nvrtc
from gpukit.launch.kernel import Kernel
from gpukit.launch.limits import too_much_shared
from gpukit.launch.wheels import nvidia_folder

pytestmark = pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())

HERE = Path(__file__).parent / "bad_plugins"


def launch(file: str, name: str, block: int, shared: int = 0, dtype=np.float32) -> np.ndarray:
    emu = get_device("emu")
    x = np.arange(-2, block - 2, dtype=dtype)
    y = emu.zeros(x.shape, dtype)
    Kernel(HERE / file, name).launch(1, block, emu.asarray(x), y, block, shared=shared, T=dtype)
    np.testing.assert_array_equal(y.data, np.maximum(x, 0))


def refused(match: str, *arguments, **settings) -> None:
    with pytest.raises(GpukitError, match=match) as found:
        launch(*arguments, **settings)
    assert "\n" not in str(found.value)


def test_static_and_dynamic_shared_memory_count_together():
    launch("blocks.cu", "staged", 64, shared=12 << 10)  # 52 KB: every card gives them, if asked
    launch("blocks.cu", "staged", 64, shared=187 << 10)  # 227 KB: only some do
    refused(
        r"kernel staged<float> \(blocks.cu:2\): 40960 \+ 191489 bytes of static and dynamic shared "
        "memory, the largest card has 232448 for a block: use less",
        "blocks.cu", "staged", 64, shared=(187 << 10) + 1,
    )  # fmt: skip


def test_static_shared_memory_has_a_limit_of_its_own():
    match = r"kernel greedy<float> \(shared.cu:2\): 65536 bytes of static shared memory, 49152 may"
    refused(match, "shared.cu", "greedy", 64)


def test_both_kinds_on_one_card():
    assert too_much_shared(40 << 10, 24 << 10, 64 << 10, "cuda:0") == ""
    assert "cuda:0 has 65536 for a block" in too_much_shared(40 << 10, 25 << 10, 64 << 10, "cuda:0")


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 128), (np.float64, 64)])
def test_a_block_beyond_its_launch_bounds(dtype, most):
    """Which may depend on a template argument."""
    launch("blocks.cu", "bounded", most, dtype=dtype)
    refused(
        rf"bounded<\w+> \(blocks.cu:12\): block \({most + 1}, 1, 1\) has {most + 1} threads, the "
        rf"kernel is built for {most} at most; use a smaller block, or raise its __launch_bounds__",
        "blocks.cu", "bounded", most + 1, dtype=dtype,
    )  # fmt: skip


@pytest.mark.skipif(nvidia_folder() is None, reason="pip install 'gpukit[kernels]'")
@pytest.mark.parametrize("file", ["random.cu", "linear.cu", "conv/implicit.cu"])
def test_bounds_are_read_as_the_compiler_reads_them(file):
    source = Kernel(file, "").source
    by_kernel = {i.kernel: i for i in source.instances if source.kernels[i.kernel].bounds}
    instance = by_kernel[max(by_kernel)]
    kernel = Kernel(file, instance.kernel)
    names = [t.name for t in kernel.declaration.template]
    bound = kernel.bind(**dict(zip(names, instance.arguments)))
    made = nvrtc.compile_text(source.text, [bound.expression], 90, name=file)
    (most,) = re.findall(rb"\.maxntid (\d+)", made.ptx)
    assert Emulator()._load(bound)[1] == int(most)

"""NVIDIA's compiler, from its wheel: what it makes, what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpukit.backends import nvrtc, wheels
from gpukit.backends.sources import load
from gpukit.errors import GpukitError

HERE = Path(__file__).parent

needs_wheel = pytest.mark.skipif(
    wheels.nvidia_folder() is None, reason="pip install 'gpukit[kernels]'"
)


@needs_wheel
@pytest.mark.parametrize("arch", [80, 120])
def test_everything_that_the_emulator_is_tested_with_compiles_for_cards(arch):
    for file in ("features.cu", "halves.cu", *(p.name for p in (HERE / "planted").glob("*.cu"))):
        path = HERE / file if (HERE / file).exists() else HERE / "planted" / file
        text = load(path).text
        names = [i.expression for i in load(path).instances]
        made = nvrtc.compile_text(text, names, arch, name=file)
        assert made.cubin[:4] == b"\x7fELF" and made.ptx and not made.warnings
        assert all(r.registers > 0 for r in made.resources.values())


@needs_wheel
def test_resources_are_read_from_the_log():
    text = "__global__ void k(float* y) { __shared__ float s[64]; s[threadIdx.x] = y[0];"
    text += " __syncthreads(); y[threadIdx.x] = s[63 - threadIdx.x]; }"
    found = nvrtc.compile_text(text, ["k"], 80).resources["k"]
    assert found.shared == 256 and found.spill_stores == found.local == 0


@needs_wheel
def test_errors_bring_the_whole_log():
    with pytest.raises(nvrtc.CompileError, match=r"(?s)a.cu does not compile for sm_80:.*nothing"):
        nvrtc.compile_text("__global__ void k() { nothing; }", ["k"], 80, name="a.cu")


@needs_wheel
def test_warnings_are_listed():
    made = nvrtc.compile_text("__global__ void k() { int unused = 1; }", ["k"], 80)
    assert any("unused" in w for w in made.warnings)


def test_without_the_wheel_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(wheels, "nvidia_folder", lambda: None)
    with pytest.raises(GpukitError, match=r"pip install 'gpukit\[kernels\]'"):
        wheels.nvidia_file("lib/libnvrtc.so.*", "NVIDIA's run-time compiler")

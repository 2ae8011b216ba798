"""NVIDIA's compiler, from its wheel: what it makes, what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpukit.errors import GpukitError
from gpukit.launch import nvrtc, options, wheels
from gpukit.launch.sources import load
from gpukit.static import sass

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
@pytest.mark.parametrize("headers", [False, True])
def test_options_are_those_that_cupy_passes(headers, monkeypatch):
    """CuPy itself puts its options around ours; NVRTC gets the same here, in the same order."""
    core = pytest.importorskip("cupy._core.core")
    compiler = pytest.importorskip("cupy.cuda.compiler")
    if not hasattr(core, "assemble_cupy_compiler_options"):
        pytest.skip("not the real CuPy")
    cuda, _ = wheels.include_folders()
    nvrtc.version()  # loads the library: CuPy finds it under its name, wherever it lies
    told = []

    class Program:
        def __init__(self, *_, **__):
            pass

        def compile(self, given, log_stream=None):
            told.append(given)
            raise StopIteration

    monkeypatch.setattr(compiler, "_NVRTCProgram", Program)
    monkeypatch.setattr(compiler, "_preprocess", lambda *_: "")
    monkeypatch.setattr(
        compiler, "_get_arch_for_options_for_nvrtc", lambda arch: (f"-arch=sm_{arch}", "cubin")
    )
    monkeypatch.setenv("CUPY_CACHE_IN_MEMORY", "1")
    with pytest.raises(StopIteration):
        compiler._compile_module_with_cache(
            "", core.assemble_cupy_compiler_options(options.OURS), arch="90"
        )
    (theirs,) = told
    # The last of CuPy's folders is the toolkit's that it finds: here, the wheels'.
    own = f"-I{options.cupy_headers()}"
    toolkit = [o for o in theirs if o.startswith("-I") and not o.startswith(own)]
    assert len(toolkit) == 1
    theirs = tuple(f"-I{cuda}" if o in toolkit else o for o in theirs)
    if not headers:
        theirs = tuple(o for o in theirs if not o.startswith("-I"))
    assert options.for_nvrtc(90, headers) == theirs
    assert options.FLUSH in theirs and options.DEVICE in theirs


@needs_wheel
def test_subnormals_are_flushed_as_on_a_card():
    text = """
        template <typename T> __global__ void k(const T* x, T* y) {
            y[0] = x[0] * x[1] + x[2];
            if (x[3] > T(0)) y[1] = T(1);
            y[2] = x[4];
        }"""
    listings = sass.disassemble(nvrtc.compile_text(text, ["k<float>", "k<double>"], 80))
    names = [[i.name for i in listings[f"k<{t}>"]] for t in ("float", "double")]
    assert [n for n in names[0] if n.startswith("FFMA")] == ["FFMA.FTZ"]
    compared = [n for n in names[0] if n.startswith("FSETP")]
    assert compared and all(".FTZ" in n for n in compared)
    assert "DFMA" in names[1] and not any(".FTZ" in n for n in names[1])


@needs_wheel
def test_a_function_without_a_space_is_a_device_function():
    text = "float twice(float x) { return 2 * x; } __global__ void k(float* y) { *y = twice(*y); }"
    assert nvrtc.compile_text(text, ["k"], 80).cubin


def test_another_compiler_is_named_by_its_folder(monkeypatch, tmp_path):
    for place in (tmp_path / "nvidia" / "cu13" / "lib", tmp_path / "lib", tmp_path):
        place.mkdir(parents=True, exist_ok=True)
        library = place / "libnvrtc.so.13"
        library.touch()
        monkeypatch.setenv("GPUKIT_NVRTC", str(tmp_path))
        assert wheels.nvrtc_library() == library
        library.unlink()
    with pytest.raises(GpukitError, match=r"GPUKIT_NVRTC=.* holds no libnvrtc.so: pip install"):
        wheels.nvrtc_library()


@needs_wheel
def test_errors_bring_the_whole_log():
    with pytest.raises(nvrtc.CompileError, match=r"(?s)a.cu does not compile for sm_80:.*nothing"):
        nvrtc.compile_text("__global__ void k() { nothing; }", ["k"], 80, name="a.cu")


@needs_wheel
def test_warnings_are_listed():
    made = nvrtc.compile_text("__global__ void k() { int unused = 1; }", ["k"], 80)
    assert any("unused" in w for w in made.warnings)


@needs_wheel
@pytest.mark.parametrize("arch", [80, 90, 120])
def test_cards_round_to_tf32_as_the_stand_in_does(arch):
    """ptx.cuh on a CPU: what is not finite is not added to, but masked with all others."""
    source = load(HERE / "features.cu")
    made = nvrtc.compile_text(source.text, ["round_tf32"], arch, name="features.cu")
    listing = sass.disassemble(made)["round_tf32"]
    steps = [i.name for i in listing if i.opcode in ("FSETP", "IMAD", "IADD3", "LOP3", "F2F")]
    compared = next(n for n, name in enumerate(steps) if name.startswith("FSETP.GEU"))
    assert [name.partition(".")[0] for name in steps[compared:]] == ["FSETP", "IMAD", "LOP3"]


def test_without_the_wheel_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setattr(wheels, "nvidia_folder", lambda: None)
    with pytest.raises(GpukitError, match=r"pip install 'gpukit\[kernels\]'"):
        wheels.nvidia_file("lib/libnvrtc.so.*", "NVIDIA's run-time compiler")

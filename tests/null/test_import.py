"""`import gpukit` loads little more than NumPy, touches no GPU, no network and no other process."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

HEAVY = {
    "PIL",
    "click",
    "cupy",
    "llvmlite",
    "matplotlib",
    "numba",
    "onnx",
    "rich",
    "safetensors",
    "scipy_openblas32",
    "torch",
}
NETWORK = {"asyncio", "ftplib", "http", "requests", "smtplib", "socket", "ssl", "xmlrpc"}
CUDA = ("libcuda.", "libcudart", "libnvrtc", "libcublas", "libcudnn", "nvcuda.dll")

# What Python itself reports of a process: sockets, look-ups, other processes, libraries, writes.
PROGRAM = """
import json, sys
{before}
events = []
def watch(event, arguments):
    if event.startswith(("socket.", "urllib.", "http.", "ftplib.", "smtplib.")):
        events.append(event)
    elif event in ("subprocess.Popen", "os.system", "os.fork", "os.exec", "os.posix_spawn"):
        events.append(event)
    elif event == "ctypes.dlopen":
        events.append(f"{{event}} {{arguments[0]}}")
    elif event == "open" and isinstance(arguments[1], str) and set("wax+") & set(arguments[1]):
        events.append(f"write {{arguments[0]}}")
sys.dont_write_bytecode = True
sys.addaudithook(watch)
{under_test}
sys.stdout.write(json.dumps({{"modules": sorted(sys.modules), "events": events, "maps": maps()}}))
"""
MAPS = """
def maps():
    try:
        with open("/proc/self/maps") as file:
            return file.read()
    except OSError:
        return ""
"""


def observe(under_test: str, before: str = "") -> dict:
    """Run `under_test` in a Python of its own: modules there at the end, and what it did."""
    program = MAPS + PROGRAM.format(before=before, under_test=under_test)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def roots(observed: dict) -> set[str]:
    return {name.partition(".")[0] for name in observed["modules"]}


@pytest.fixture(scope="module")
def numpy_alone() -> dict:
    return observe("import numpy")


@pytest.fixture(scope="module")
def gpukit_alone() -> dict:
    return observe("import gpukit", before="import numpy")


def test_no_heavy_module(gpukit_alone):
    assert roots(gpukit_alone) & HEAVY == set()


def test_no_networking_module(gpukit_alone, numpy_alone):
    assert roots(gpukit_alone) & NETWORK <= roots(numpy_alone)


def test_no_connection_no_process_no_library_no_write(gpukit_alone):
    assert gpukit_alone["events"] == []


def test_no_cuda_library(gpukit_alone):
    assert [name for name in CUDA if name in gpukit_alone["maps"]] == []


def test_layers_and_models_need_no_compiler_and_no_pictures():
    """What a program names at its top loads none of what it may not need at all."""
    observed = observe("from gpukit import Tensor, callbacks, data, layers, models, optimizers")
    unneeded = HEAVY - {"safetensors"}
    assert roots(observed) & unneeded == set()
    assert [name for name in CUDA if name in observed["maps"]] == []
    assert [event for event in observed["events"] if not event.startswith("ctypes")] == []


def test_help_compiles_nothing_and_draws_nothing():
    observed = observe("from gpukit.cli.app import app")
    assert roots(observed) & {"cupy", "llvmlite", "matplotlib", "numba", "torch"} == set()

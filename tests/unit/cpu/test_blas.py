"""The private BLAS: right kernels, one thread, and NumPy's left alone."""

import json
import os
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np
import pytest

from gpukit.backends.cpu.runtime import blas
from gpukit.backends.cpu.runtime.jit import jit


def _python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@jit
def _product(transpose_a, transpose_b, a, b, beta, c, k):
    m, n = c.shape
    left, right, out = (a, a.shape[1]), (b, b.shape[1]), (c, c.shape[1])
    blas.gemm(transpose_a, transpose_b, (m, n, k), left, right, beta, out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_gemm_agrees_with_numpy(dtype, transpose_a, transpose_b):
    random = np.random.default_rng(0)
    a, b, c = (random.standard_normal(s).astype(dtype) for s in ((17, 31), (31, 23), (17, 23)))
    expected = a @ b + c
    left = np.ascontiguousarray(a.T) if transpose_a else a
    right = np.ascontiguousarray(b.T) if transpose_b else b
    _product(transpose_a, transpose_b, left, right, 1, c, 31)
    np.testing.assert_allclose(c, expected, rtol=100 * np.finfo(dtype).eps, atol=1e-5)


def test_core_type_suits_the_cpu():
    wanted = blas.suitable_core_type()
    if wanted is not None:
        assert blas.core_type() == wanted
    elif llvm.get_host_cpu_features().get("avx512f", False):
        assert blas.core_type() not in ("Haswell", "Zen", "Sandybridge")


def test_environment_is_restored_and_numpy_keeps_its_blas():
    code = """
import json, os
os.environ["OPENBLAS_CORETYPE"] = "Haswell"
os.environ.pop("OPENBLAS_NUM_THREADS", None)
import numpy as np
def blases():
    return sorted(line.split()[-1] for line in open("/proc/self/maps") if "openblas" in line)
before = set(blases())
np.ones((200, 200)) @ np.ones((200, 200))
from gpukit.backends.cpu.runtime import blas
own = str(blas.library_path())
assert own not in before and own in set(blases()), (own, before)
print(json.dumps([os.environ.get("OPENBLAS_CORETYPE"), os.environ.get("OPENBLAS_NUM_THREADS"),
                  blas.suitable_core_type(), blas.core_type()]))
"""
    if not sys.platform.startswith("linux"):
        pytest.skip("looks into /proc")
    core, threads, wanted, used = json.loads(_python(code))
    assert (core, threads) == ("Haswell", None)
    assert used == (wanted or "Haswell")


def test_version_names_openblas():
    assert "OpenBLAS" in blas.version()

"""Compiled functions are cached in gpukit's folder; the user's Numba settings are left alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpukit.backends.cpu.runtime.jit import jit

_CODE = """
import numba
import numpy as np
before = numba.config.CACHE_DIR, numba.config.DISABLE_JIT
from gpukit import primitives as p
from gpukit.backends.cpu.activation import piecewise as activation
x = np.linspace(-1, 1, 100, dtype=np.float32)
assert (p.relu_grad(x, x) == np.where(x > 0, x, 0)).all()
assert (numba.config.CACHE_DIR, numba.config.DISABLE_JIT) == before
print(sum(activation._relu_grad.stats.cache_hits.values()))
"""


def _run(cache: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", _CODE],
        env={**os.environ, "GPUKIT_CACHE": str(cache), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_second_process_finds_the_first_ones_code(tmp_path):
    assert _run(tmp_path) == "0"
    assert len(list((tmp_path / "numba").iterdir())) == 1
    assert _run(tmp_path) == "1"


def test_an_unwritable_cache_still_computes(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert _run(blocked) == "0"
    assert blocked.read_text() == "not a folder"


def test_users_numba_settings_do_not_matter(tmp_path):
    theirs = tmp_path / "theirs"
    assert _run(tmp_path / "ours", NUMBA_DISABLE_JIT="1", NUMBA_CACHE_DIR=str(theirs)) == "0"
    assert not theirs.exists()
    assert len(list((tmp_path / "ours" / "numba").iterdir())) == 1


def test_a_closure_over_more_than_numbers_has_no_key():
    def factory(values):
        def function(x):
            return x + values[0]

        return function

    with pytest.raises(TypeError, match="closes over more than numbers"):
        jit(factory((1, 2)))
    assert jit(_adds(2))(1) == 3 and jit(_adds(5))(1) == 6


def _adds(number):
    def function(x):
        return x + number

    return function

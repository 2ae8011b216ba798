"""Plug-ins: loaded by path or found in packages, chosen by name, and what falls back is said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gpukit
from gpukit import ops, plugins
from gpukit import primitives as p
from gpukit.dispatch.preference import FallbackWarning, prefer
from gpukit.errors import SettingError
from gpukit.launch.kernel import Kernel
from gpukit.plugins import PluginError, load_kernel, loaded, unload

PLUGIN = """import numpy as np

from gpukit import primitives as p


@p.relu.on("cpu", name="mine", supports=lambda x: x.dtype == np.float32)
def mine(x):
    return np.maximum(x, 0) + {more}
"""

X = np.array([[-1.0, 2.0, 3.0]], np.float32)


@pytest.fixture
def plugin(tmp_path):
    """Write the plug-in, whose relu adds `more`; it is unloaded after the test."""
    path = tmp_path / "mine.py"

    def write(more: float = 5) -> Path:
        path.write_text(PLUGIN.format(more=more))
        return path

    yield write
    if path.resolve() in loaded:
        unload(loaded[path.resolve()])


def test_a_loaded_one_is_chosen_by_name(plugin):
    found = gpukit.load_kernel(plugin())
    assert found.names == ("relu:mine",)
    np.testing.assert_array_equal(p.relu(X, algo="mine"), [[5, 7, 8]])
    np.testing.assert_array_equal(p.relu(X), [[0, 2, 3]])  # never the default
    assert p.relu.implementations("cpu")["mine"].origin == str(found.path)


def test_it_is_loaded_once_and_anew_when_it_has_changed(plugin):
    first = load_kernel(plugin())
    assert load_kernel(plugin()) is first
    second = load_kernel(plugin(more=6))
    assert second.digest != first.digest
    np.testing.assert_array_equal(p.relu(X, algo="mine"), [[6, 8, 9]])


def test_its_cuda_lies_beside_it_and_counts_for_its_digest(tmp_path):
    (tmp_path / "own.cu").write_text("__global__ void own(float* x) {}\n")
    path = tmp_path / "own.py"
    path.write_text(
        "from gpukit import primitives as p\nfrom gpukit.launch.kernel import Kernel\n"
        "own = Kernel('own.cu', 'own')\np.relu.on('cuda', name='own')(lambda x: x)\n"
    )
    first = load_kernel(path)
    assert first.kernels[0].file == tmp_path.resolve() / "own.cu"
    assert first.kernels[0].made_at == (str(path.resolve()), 3)
    (tmp_path / "own.cu").write_text("__global__ void own(float* x) { x[0] = 1; }\n")
    second = load_kernel(path)
    assert second.digest != first.digest
    unload(second)
    assert "own" not in p.relu.implementations("cuda")


def test_a_failed_one_leaves_nothing(plugin):
    path = plugin()
    path.write_text(path.read_text() + "\nraise ValueError('no such luck')\n")
    with pytest.raises(PluginError, match=r"mine\.py:10: ValueError: no such luck"):
        load_kernel(path)
    with pytest.raises(SettingError, match="no algo 'mine' on cpu; use"):
        p.relu(X, algo="mine")


def test_what_it_does_not_take_falls_back_and_is_said_once(plugin):
    load_kernel(plugin())
    said: list[str] = []
    with prefer({"relu": "mine"}, said.append):
        np.testing.assert_array_equal(ops.relu(X), [[5, 7, 8]])
        for _ in range(3):
            np.testing.assert_array_equal(ops.relu(X.astype(np.float64)), [[0, 2, 3]])
        x = gpukit.Tensor(X, requires_grad=True)
        ops.relu(x).sum().backward()
    np.testing.assert_array_equal(ops.relu(X), [[0, 2, 3]])
    assert len(said) == 2
    assert said[0].startswith("relu on cpu: mine does not take float64(1, 3); ")
    assert said[1].startswith("relu_grad on cpu: there is no mine; ")


def test_without_a_listener_it_is_a_warning(plugin):
    load_kernel(plugin())
    with prefer({}), pytest.warns(FallbackWarning, match="mine does not take float64"):
        p.relu(X.astype(np.float64), algo="mine")


def test_kernels_of_gpukit_are_found_as_before(tmp_path, monkeypatch):
    assert Kernel("activation.cu", "unary").source.file == "activation.cu"
    plugins.all_kernels.pop()


PACKAGE = """import sys

from gpukit import primitives as p


@p.relu.on("cpu", name="acme")
def acme(x):
    return x * 0 + 9
"""

PROGRAM = """import json, sys
import numpy as np
import gpukit
from gpukit import primitives as p
from gpukit.plugins import entries
x = np.ones(3, np.float32)
p.relu(x)
before = "acme_kernels" in sys.modules
listed = [e.package for e in entries()]
listing = "acme_kernels" in sys.modules
result = p.relu(x, algo="acme").tolist()
print(json.dumps([before, listed, listing, result, "acme_kernels" in sys.modules]))
"""


UNASKED = """import json, sys
import numpy as np
from gpukit import layers, models
x = np.ones((1, 4, 4, 1), np.float32)
made = models.Sequential([layers.Conv2D(2, 3, algo="im2col", input_shape=(4, 4, 1))], device="cpu")
config = made.layers[0].get_config()
told = []
from gpukit.dispatch.preference import prefer
for algo in ("acme", {"forward": "acme"}):
    layer = layers.from_config({**config, "algo": algo, "name": None})
    with prefer({}, told.append):
        layer(x)
before = "acme_kernels" in sys.modules
try:
    layers.Conv2D(2, 3, algo="acme")(x)
except Exception as error:
    print(error, file=sys.stderr)
print(json.dumps([before, told, "acme_kernels" in sys.modules]))
"""


def installed(folder: Path) -> dict[str, str]:
    """An environment in which the package acme is installed."""
    (folder / "acme_kernels.py").write_text(PACKAGE)
    info = folder / "acme-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[gpukit.kernels]\nacme = acme_kernels\n")
    return {**os.environ, "PYTHONPATH": str(folder)}


def test_a_file_that_names_an_installed_one_imports_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", UNASKED],
        env=installed(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    before, told, after = json.loads(done.stdout)
    assert not before and after
    assert any(line.startswith("conv2d on cpu: there is no acme") for line in told)
    assert all("name it by --kernel acme" in line for line in told)


def test_an_installed_one_is_imported_when_it_is_asked_for(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=installed(tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [False, ["acme 1.2"], False, [9, 9, 9], True]

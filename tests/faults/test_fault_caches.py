"""Whatever lies in the cache, commands compute what is right, mend it, and go on without room."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest
from harness import SHARE, count

from gpukit.core import caches
from gpukit.emulator import compiler_problem
from gpukit.emulator.build import LIBRARIES

Damage = Callable[[Path, random.Random], None]

# Prints how many functions had to be compiled.
COMPUTE = """
import os, sys
import numpy as np
from numba.core.dispatcher import Dispatcher
from gpukit import primitives as p
from gpukit.backends.cpu import update
from gpukit.backends.cpu.activation import piecewise as activation

for dtype in os.environ.get("DTYPES", "float32 float64").split():
    x = np.linspace(-1, 1, 1000, dtype=dtype)
    assert (p.relu_grad(x, x) == np.where(x > 0, x, 0)).all()
    w = np.ones_like(x)
    p.sgd_update(w, None, x, lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.0)
    assert np.allclose(w, 1 - 0.5 * x)
found = [f for m in (activation, update) for f in vars(m).values() if isinstance(f, Dispatcher)]
print(sum(sum(f.stats.cache_misses.values()) for f in found))
"""
ON_EMU = """
import numpy as np
from gpukit import primitives as p
from gpukit.device import get_device, to_host

x = np.linspace(-1, 1, 1000, dtype=np.float32)
assert (to_host(p.relu(get_device("emu").asarray(x))) == np.maximum(x, 0)).all()
"""
# In a namespace of mounts that ends with the process; 77 where that is not allowed.
MOUNT = """
import ctypes, os, sys
libc, folder = ctypes.CDLL(None, use_errno=True), os.environ["GPUKIT_CACHE"].encode()
PRIVATE, BIND, REMOUNT, READ_ONLY = 1 << 18 | 1 << 14, 4096, 32, 1
def mount(source, target, kind, flags, data=None):
    if libc.mount(source, target, kind, flags, data):
        sys.exit(77)
if libc.unshare(0x20000):
    sys.exit(77)
mount(None, b"/", None, PRIVATE)
"""
FULL = f"{MOUNT}\nmount(b'none', folder, b'tmpfs', 0, b'size=8k')\n"
NO_PROGRAMS = f"""{MOUNT}
mount(folder, folder, None, BIND)
mount(None, folder, None, BIND | REMOUNT | 8)
"""
READ_ONLY = f"""{MOUNT}
mount(folder, folder, None, BIND)
mount(None, folder, None, BIND | REMOUNT | READ_ONLY)
"""
UNWRITABLE = "cannot be written"


def cut(share: float) -> Damage:
    def act(path: Path, draw: random.Random) -> None:
        os.truncate(path, int(path.stat().st_size * share))

    return act


def less(count: int) -> Damage:
    return lambda path, draw: os.truncate(path, path.stat().st_size - count)


def flip(low: float, high: float) -> Damage:
    """A bit somewhere in this range of the file."""

    def act(path: Path, draw: random.Random) -> None:
        content = bytearray(path.read_bytes())
        place = min(int(draw.uniform(low, high) * len(content)), len(content) - 1)
        content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content)

    return act


def replaced(make: Callable[[Path], object]) -> Damage:
    def act(path: Path, draw: random.Random) -> None:
        path.unlink()
        make(path)

    return act


def part(make: Callable[[Path], object]) -> Damage:
    """The entry is gone, and something has the name of its part."""

    def act(path: Path, draw: random.Random) -> None:
        path.unlink()
        make(path.with_name(f".{path.name}.part"))

    return act


def full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").write_text("x")


def sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 4 << 30)


def foreign(path: Path, draw: random.Random) -> None:
    """The entry of another function, whole."""
    other = draw.choice([p for p in sorted(path.parent.iterdir()) if p != path])
    shutil.copy(other, path)


def noise(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(path.stat().st_size))


def hostile_pickle(path: Path, draw: random.Random) -> None:
    """It would end the process with 99 if someone read it."""
    path.write_bytes(b"cposix\n_exit\n(I99\ntR.")


def several(path: Path, draw: random.Random) -> None:
    for other in path.parent.iterdir():
        other.write_bytes(b"")


DAMAGES: dict[str, Damage] = {
    **{f"cut to {share}": cut(share) for share in (0, 0.01, 0.3, 0.5, 0.9, 0.99)},
    **{f"{n} bytes less": less(n) for n in (1, 8, 39, 40, 41)},
    **{f"bit {n} in the first part": flip(0, 0.2) for n in range(3)},
    **{f"bit {n} anywhere": flip(0, 1) for n in range(8)},
    "bit in the digest": flip(0.9999, 1),
    "longer": lambda path, draw: path.write_bytes(path.read_bytes() + b"x"),
    "twice": lambda path, draw: path.write_bytes(path.read_bytes() * 2),
    "gone": replaced(lambda path: None),
    "folder": replaced(Path.mkdir),
    "folder with a file": replaced(full_folder),
    "fifo": replaced(os.mkfifo),
    "dead link": replaced(lambda path: path.symlink_to("/no/such/file")),
    "link to itself": replaced(lambda path: path.symlink_to(path)),
    "endless device": replaced(lambda path: path.symlink_to("/dev/zero")),
    "sparse": replaced(sparse),
    "no permission": lambda path, draw: path.chmod(0),
    "foreign": foreign,
    "noise": noise,
    "hostile pickle": hostile_pickle,
    "all empty": several,
    "part": part(Path.touch),
    "longer part": part(lambda path: path.write_bytes(bytes(1 << 20))),
    "folder as part": part(full_folder),
    "fifo as part": part(os.mkfifo),
    "dead link as part": part(lambda path: path.symlink_to("/no/such/file")),
}
CHOSEN = random.Random("caches").sample(sorted(DAMAGES), count(len(DAMAGES)))
OF_LIBRARIES = ("cut to 0.5", "cut to 0", "bit 0 anywhere", "bit 1 anywhere", "folder", "foreign")


def copied(source: Path, target: Path) -> dict[str, str]:
    shutil.copytree(source, target)
    return {"GPUKIT_CACHE": str(target)}


def compiled(outcome) -> int:
    """Functions that a run of COMPUTE compiled."""
    return int(outcome.out.split()[-1])


@pytest.fixture(scope="module")
def warm(server, tmp_path_factory) -> Path:
    """A cache with what COMPUTE needs."""
    server.folder = tmp_path_factory.mktemp("warm")
    folder = server.folder / "cache"
    outcome = server(program=COMPUTE, env={"GPUKIT_CACHE": str(folder)})
    assert outcome.code == 0 and compiled(outcome) > 1, outcome.err
    return folder


@pytest.fixture(scope="module")
def warm_libraries(server, tmp_path_factory) -> Path:
    """A cache with the libraries that ON_EMU needs."""
    server.folder = tmp_path_factory.mktemp("libraries")
    folder = server.folder / "cache"
    outcome = server(program=ON_EMU, env={"GPUKIT_CACHE": str(folder)})
    assert outcome.code == 0, outcome.err
    return folder


@pytest.mark.parametrize("name", CHOSEN)
def test_damaged_functions(commands, survived, warm, tmp_path, name):
    env = copied(warm, tmp_path / "cache")
    draw = random.Random(name)
    DAMAGES[name](draw.choice(sorted((tmp_path / "cache" / "numba").iterdir())), draw)
    outcome = commands(program=COMPUTE, env=env)
    survived("damaged caches", outcome, case=name, codes=(0,))
    # Root reads what it may not.
    assert compiled(outcome) >= (0 if name == "no permission" else 1)
    assert outcome.err == ""
    outcome = commands(program=COMPUTE, env=env)
    survived("damaged caches", outcome, case=name, codes=(0,))
    assert compiled(outcome) == 0
    assert not list((tmp_path / "cache").rglob(".*.part"))


@pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
@pytest.mark.parametrize("name", OF_LIBRARIES[: count(len(OF_LIBRARIES))])
def test_damaged_libraries(commands, survived, warm_libraries, tmp_path, name):
    env = copied(warm_libraries, tmp_path / "cache")
    draw = random.Random(name)
    path = draw.choice(sorted((tmp_path / "cache" / "emulator").iterdir()))
    DAMAGES[name](path, draw)
    outcome = commands(program=ON_EMU, env=env)
    survived("damaged caches", outcome, case=name, codes=(0,))
    assert outcome.err == "" and LIBRARIES._checked(path) is not None


@pytest.mark.skipif(bool(compiler_problem()), reason=compiler_problem())
def test_a_folder_that_runs_no_programs(commands, survived, warm_libraries, tmp_path):
    env = copied(warm_libraries, tmp_path / "cache")
    program = f"from gpukit.errors import GpukitError\ntry:\n{indent(ON_EMU, '    ')}\n"
    program += "except GpukitError as error:\n    print(error)"
    outcome = commands(program=NO_PROGRAMS + program, env=env)
    if outcome.code == 77:
        pytest.skip("may not mount")
    survived("damaged caches", outcome, codes=(0,))
    assert "set GPUKIT_CACHE to a folder from which programs can run" in outcome.out


def test_two_processes_at_once(survived, commands, tmp_path):
    """One compiles for float32, the other for float64: both find it all afterwards."""
    for turn in range(count(5)):
        env = {**os.environ, "GPUKIT_CACHE": str(tmp_path / str(turn))}
        command = [sys.executable, "-c", COMPUTE]
        running = [
            subprocess.Popen(command, env={**env, "DTYPES": t}, stdout=subprocess.DEVNULL)
            for t in ("float32", "float64", "float64", "float32")
        ]
        assert [process.wait(120) for process in running] == [0] * 4
        outcome = commands(program=COMPUTE, env={"GPUKIT_CACHE": env["GPUKIT_CACHE"]})
        survived("damaged caches", outcome, codes=(0,))
        assert compiled(outcome) == 0


@pytest.mark.parametrize("when", ["fsync", "replace"])
def test_killed_while_it_writes(commands, survived, tmp_path, when):
    env = {"GPUKIT_CACHE": str(tmp_path / "cache")}
    kill = "lambda *a, **k: os.kill(os.getpid(), 9)"
    place = {"fsync": "caches.os.fsync", "replace": "caches.Path.replace"}[when]
    program = f"import os\nfrom gpukit.core import caches\n{place} = {kill}\n{COMPUTE}"
    assert commands(program=program, env=env).code == -9
    assert list((tmp_path / "cache").rglob(".*.part"))
    for expected in (True, False):
        outcome = commands(program=COMPUTE, env=env)
        survived("damaged caches", outcome, case=when, codes=(0,))
        assert (compiled(outcome) > 0) == expected
    assert not list((tmp_path / "cache").rglob(".*.part"))


def without_room(outcome, survived, case: str) -> None:
    if outcome.code == 77:
        pytest.skip("may not mount")
    survived("damaged caches", outcome, case=case, codes=(0,))
    assert outcome.err.count(UNWRITABLE) == 1 and outcome.err.count("\n") == 1, outcome.err


@pytest.mark.parametrize("how", ["full", "limit", "file"])
def test_no_room(commands, survived, tmp_path, how):
    """One line says so, and what is computed is right."""
    folder = tmp_path / "cache"
    prelude = {
        "full": FULL,
        "limit": "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n",
        "file": "",
    }[how]
    folder.touch() if how == "file" else folder.mkdir()
    shown = "import warnings\nwarnings.formatwarning = lambda m, *place: f'{m}\\n'\n"
    outcome = commands(program=prelude + shown + COMPUTE, env={"GPUKIT_CACHE": str(folder)})
    without_room(outcome, survived, how)
    assert compiled(outcome) > 1


def test_read_only(commands, survived, warm, tmp_path):
    """What is there is used; what does not hold is compiled, and not kept."""
    env = copied(warm, tmp_path / "cache")
    outcome = commands(program=READ_ONLY + COMPUTE, env=env)
    if outcome.code == 77:
        pytest.skip("may not mount")
    survived("damaged caches", outcome, codes=(0,))
    assert (compiled(outcome), outcome.err) == (0, "")
    flip(0.1, 0.9)(next((tmp_path / "cache" / "numba").iterdir()), random.Random(0))
    shown = "import warnings\nwarnings.formatwarning = lambda m, *place: f'{m}\\n'\n"
    for _ in range(2):
        outcome = commands(program=READ_ONLY + shown + COMPUTE, env=env)
        without_room(outcome, survived, "read-only")
        assert compiled(outcome) == 1


KERNEL = """import numpy as np

from gpukit import primitives as p


@p.relu.on("cpu", name="mine")
def mine(x):
    return np.maximum(x, 0)
"""


@pytest.mark.parametrize("how", ["read-only", "full"])
def test_training_without_room(commands, survived, tmp_path, how):
    """With a kernel of the user's, which is not remembered then."""
    (tmp_path / "mine.py").write_text(KERNEL)
    ambient = caches.settings.cache_dir() / "numba"
    commands("train", "lenet5", "--limit", 64, "--epochs", 1, "--quiet", timeout=300)
    folder = tmp_path / "cache"
    folder.mkdir()
    if how == "read-only":
        shutil.copytree(ambient, folder / "numba", ignore=shutil.ignore_patterns(".*"))
    elif SHARE < 1:
        pytest.skip("compiles all of LeNet-5; GPUKIT_TEST_FAULTS=1 runs it")
    arguments = ["train", "lenet5", "--limit", "64", "--epochs", "1", "--quiet", "--json"]
    arguments += ["--kernel", "mine.py", "--algo", "relu=mine", "--out", "run"]
    run = f"from gpukit.cli import main\nmain({arguments!r})"
    prelude = {"read-only": READ_ONLY, "full": FULL}[how]
    outcome = commands(program=prelude + run, env={"GPUKIT_CACHE": str(folder)}, timeout=300)
    without_room(outcome, survived, how)
    assert json.loads((tmp_path / "run" / "settings.json").read_text())["algo"] == {"relu": "mine"}

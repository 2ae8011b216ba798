"""Plug-ins that cannot work: one line with the place each, and the caller lives on."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpukit.emulator import compiler_problem
from gpukit.errors import GpukitError
from gpukit.launch.nvrtc import version

FOLDER = Path(__file__).parent / "bad_plugins"

LAUNCHER = """from gpukit import primitives as p
from gpukit.backends.cuda.runtime.common import contiguous, divide_up, empty_like
from gpukit.launch.kernel import Kernel

_kernel = Kernel("good.cu", "good")


@p.relu.on("cuda", name="bad")
def bad(x):
    x = contiguous(x)
    y = empty_like(x)
    if x.size:
        _kernel.launch(divide_up(x.size, 256), 256, x, y, x.size, T=x.dtype)
    return y
"""


def missing() -> str:
    try:
        version()
    except GpukitError as error:
        return str(error)
    return compiler_problem()


pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture
def plugin(tmp_path):
    """Write the launcher, with `old` replaced by `new`, beside the kernels."""
    for file in FOLDER.glob("*.cu"):
        shutil.copy(file, tmp_path)

    def write(old: str, new: str) -> Path:
        assert old in LAUNCHER
        path = tmp_path / "bad.py"
        path.write_text(LAUNCHER.replace(old, new))
        return path

    return write


GPUKIT = (sys.executable, "-P", "-m", "gpukit")


def gpukit(*arguments: object, **settings: object) -> subprocess.CompletedProcess:
    command = [*GPUKIT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **settings)


def check(path: Path, *arguments: object) -> subprocess.CompletedProcess:
    few = ("--fuzz", 2, "--arch", 80, "--mode", "plain", "--json")
    return gpukit("kernels", "check", path, *few, *arguments)


# What is refused before anything runs: exit code 2, one line.
REFUSED = {
    "Python syntax": ("def bad(x):", "def bad(x:", "bad.py:9: SyntaxError"),
    "error at its top": ("_kernel =", "_kernel = 1 / 0\n_kernel =", "bad.py:5: ZeroDivisionError"),
    "missing module": ("import primitives", "import primitifs", "bad.py:1: ImportError"),
    "no such file": ('"good.cu"', '"gone.cu"', "bad.py:5: no kernel source 'gone.cu'"),
    "missing symbol": (
        '"good")', '"god")',
        "bad.py:5: {}/good.cu: no kernel 'god'; it has good, crashes, never_ends, dynamic, speaks",
    ),
    "wrong signature": (
        "def bad(x):", "def bad(x, y):",
        "bad.py:8: TypeError: cuda:bad of relu has parameters (x, y), the definition (x:",
    ),
    "a name twice": ('name="bad"', 'name="cuda"', "relu already has an implementation cuda:cuda"),
    "registers nothing": ('@p.relu.on("cuda", name="bad")', "", "registers no implementation"),
    "leaves the process": ("_kernel =", "raise SystemExit(0)\n_kernel =", "bad.py:5: SystemExit"),
    "crashes at once": (
        "_kernel =", "import os\nos.abort()\n_kernel =", "bad.py: crashed: File",
    ),
    "crashes in a library": (
        "_kernel =", "import ctypes\nctypes.string_at(0)\n_kernel =",
        'bad.py: crashed: File "{}/bad.py", line 6 in <module> while it was loaded',
    ),
    "ends the process": (
        "_kernel =", "import os\nos._exit(0)\n_kernel =",
        "bad.py: ended the process without a word while it was loaded",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_when_loaded(plugin, name):
    old, new, words = REFUSED[name]
    path = plugin(old, new)
    done = check(path)
    assert (done.returncode, done.stdout) == (2, ""), done.stdout
    (line,) = done.stderr.splitlines()
    assert words.format(path.parent) in line


def test_an_endless_loop_when_loaded_is_cut(plugin):
    done = check(plugin("_kernel =", "while True: pass\n_kernel ="), "--time-limit", 4)
    assert done.returncode == 2
    assert "took more than 4 s while it was loaded" in done.stderr


# What is found when it is compiled or run: exit code 1.
FOUND = {
    "CUDA syntax": ('"good.cu", "good"', '"syntax.cu", "broken"', "syntax.cu:4: error: expected"),
    "argument count": ("x, y, x.size,", "x, y,", "bad.py:13: kernel good<float> (good.cu:2) takes"),
    "argument type": ("x.size, T=", "1.5, T=", "argument n takes a int (int32), got 1.5 (float)"),
    "argument dtype": ("T=x.dtype", "T='int'", "the kernel's are int32; convert with astype"),
    "template argument": ("T=x.dtype", "U=x.dtype", "bad.py:13: kernel good (good.cu:2) has the"),
    "too large a block": (
        "256), 256,", "256), 2048,", "bad.py:13: kernel good<float>: block 2048 is outside",
    ),
    "declared shared memory": (
        '"good.cu", "good"', '"shared.cu", "greedy"',
        "shared.cu:2: kernel greedy declares 65536 bytes of shared memory, a block can have 49152",
    ),
    "asked shared memory": (
        ', "good")', ', "dynamic")\n_shared = {"shared": 120_000}', "",
    ),
    "static and dynamic shared memory": (
        '"good.cu", "good")', '"blocks.cu", "staged")\n_shared = {"shared": 30 << 10}', "",
    ),
    "beyond its launch bounds": (
        '"good.cu", "good"', '"blocks.cu", "bounded"',
        "bad.py:13: kernel bounded<float> (blocks.cu:12): block (256, 1, 1) has 256 threads, the "
        "kernel is built for 128 at most; use a smaller block, or raise its __launch_bounds__",
    ),
    "wrong supports": (
        'name="bad")', 'name="bad", supports=lambda x, y: True)', "missing 1 required positional",
    ),
    "takes nothing": (
        'name="bad")', 'name="bad", supports=lambda x: False)', "take none of 1000 random cases",
    ),
    "Python error": ("return y", "return z", "bad.py:14: NameError: name 'z' is not defined"),
    "crash": (
        ', "good")', ', "crashes")', "bad.py:13: kernel crashes<float>, block (",
    ),
    "leaves the process": ("return y", "raise SystemExit(3)", "bad.py:14: SystemExit: 3; a"),
    "ends the process": (
        "return y", "import os; os._exit(0)", "crash: the process ended itself without a word",
    ),
    "crash of the process": ("return y", "import os; os.abort()", "crash: SIGABRT, File"),
}  # fmt: skip


ASKED = {
    "asked shared memory": (
        "sm_75 has 65536, sm_86 has 101376, sm_89 has 101376, sm_120 has 101376; use less"
    ),
    "static and dynamic shared memory": (
        "kernel staged<float> takes 40960 bytes of static shared memory and is launched with "
        "shared=30720; sm_75 has 65536; use less"
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_found_when_checked(plugin, name):
    old, new, words = FOUND[name]
    path = plugin(old, new)
    if name in ASKED:
        text = path.read_text().replace("T=x.dtype)", "T=x.dtype, **_shared)")
        path.write_text(text)
        words = ASKED[name]
    done = check(path)
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    said = json.loads(done.stdout.splitlines()[-1])
    assert words in said["findings"][0]["text"]
    assert str(path) in said["findings"][0]["again"]
    assert "\n" not in said["findings"][0]["text"]


def test_a_crash_is_traced_to_its_line(plugin):
    done = check(plugin(', "good")', ', "crashes")'), "--mode", "asan")
    said = json.loads(done.stdout.splitlines()[-1])
    assert any("good.cu:11" in f["text"] for f in said["findings"] if f["check"] == "asan")


def test_a_kernel_without_end_is_cut(plugin):
    """And not tried again in its other case, or in another mode."""
    done = check(plugin(', "good")', ', "never_ends")'), "--time-limit", 8, "--mode", "asan")
    assert done.returncode == 1
    said = json.loads(done.stdout.splitlines()[-1])
    (found,) = said["findings"]
    assert "never_ends" in found["text"]
    assert found["text"].endswith("its other cases and modes are left out")
    assert said["cases"] == {"plain": 2, "asan": 0}


def test_a_launcher_without_end_is_cut(plugin):
    done = check(plugin("return y", "while True: pass"), "--time-limit", 8, "--mode", "cheats")
    assert done.returncode == 1
    said = json.loads(done.stdout.splitlines()[-1])
    (found,) = said["findings"]
    assert "hang: it said nothing for 8 s" in found["text"]
    assert found["text"].endswith("its other cases and modes are left out")


def test_what_it_prints_is_shown(plugin):
    """By its Python, wherever that runs, and by its kernel; none of it is taken for an answer."""
    path = plugin(', "good")', ', "speaks")')
    text = path.read_text().replace("_kernel =", "print('on top')\nprint('[1]')\n_kernel =")
    text = text.replace('name="bad")', "name='bad', supports=lambda x: not print('in supports'))")
    path.write_text(text.replace("return y", "print('launched'); return y"))
    done = check(path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines()[0] == f"{path} printed:"
    said = {line.strip() for line in done.stderr.splitlines()[1:]}
    assert said == {"on top", "[1]", "in supports", "launched", "by a kernel"}


def test_no_answer_is_forged_by_printing(plugin):
    forged = "print('{\"done\": true}', flush=True); import os; os._exit(0)"
    done = check(plugin("return y", forged))
    assert done.returncode == 1
    said = json.loads(done.stdout.splitlines()[-1])
    assert "ended itself without a word" in said["findings"][0]["text"]


def test_what_it_prints_before_a_crash_is_shown(plugin):
    done = check(plugin("return y", "print('so far'); import os; os.abort()"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:] == ["  so far"]


@pytest.mark.parametrize(
    "leave",
    ["subprocess.Popen(['sleep', '600']).pid", "os.fork() or time.sleep(600)"],
    ids=["started", "forked"],
)
def test_a_process_that_it_leaves_behind_ends(plugin, leave):
    path = plugin("_kernel =", f"import os, subprocess, time\npid = {leave}\n_kernel =")
    with path.open("a") as file:
        file.write("open(__file__ + '.pids', 'a').write(f'{pid}\\n')\n")
    done = check(path, "--time-limit", 30)
    assert done.returncode == 0, done.stdout
    for pid in path.with_name("bad.py.pids").read_text().split():
        assert not lives(pid)


@pytest.mark.parametrize(
    ("signum", "code", "told"),
    [
        (signal.SIGTERM, 143, "stopped\n"),
        pytest.param(
            signal.SIGKILL, -9, "",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's"),
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["loaded", "run"])
def test_a_signal_ends_the_workers_too(plugin, where, signum, code, told):
    old = "return y" if where == "run" else "_kernel ="
    indent = "    " if where == "run" else ""
    note = "open(__file__ + '.pid', 'w').write(f'{os.getpid()}.')"
    path = plugin(old, f"\n{indent}".join(["import os", note, "while True: pass", old]))
    few = ("--fuzz", "1", "--mode", "plain")
    running = subprocess.Popen(
        [*GPUKIT, "kernels", "check", path, *few],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    noted = path.with_name("bad.py.pid")
    while not noted.exists() or not noted.read_text().endswith("."):
        assert running.poll() is None
        time.sleep(0.02)
    running.send_signal(signum)
    _, said = running.communicate(timeout=50)
    assert (running.returncode, said) == (code, told)
    until = time.monotonic() + 30
    while lives(noted.read_text().strip(".")):
        assert time.monotonic() < until
        time.sleep(0.02)


def lives(pid: str) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_a_missing_file():
    done = gpukit("kernels", "check", "nowhere.py")
    assert done.returncode == 2
    assert done.stderr == "gpukit: no kernel 'nowhere.py': there is no such file\n"


def test_a_name_like_that_of_a_file(plugin, tmp_path):
    plugin("_kernel =", "_kernel =")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "__init__.py").touch()
    for command, name, words in (
        ("check", "bad", "bad.py is here: gpukit kernels check bad.py"),
        ("show", "bad", "bad.py is here: gpukit kernels show bad.py"),
        ("check", "folder/", "folder/ is a folder; give folder/__init__.py"),
    ):
        done = gpukit("kernels", command, name, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (2, f"gpukit: {words}\n")


def test_a_module_beside_it(plugin):
    path = plugin("_kernel =", "import helper\n_kernel =")
    path.with_name("helper.py").touch()
    done = check(path)
    assert done.returncode == 2
    told = "bad.py:5: ModuleNotFoundError: No module named 'helper'; helper.py beside it is not"
    assert told in done.stderr


@pytest.mark.parametrize("command", ["check", "show"])
def test_a_cache_that_cannot_be_made(plugin, tmp_path, command):
    path = plugin("_kernel =", "_kernel =")
    cache = tmp_path / "bad.py" / "cache"
    few = ("--fuzz", 2, "--arch", 80, "--mode", "plain") if command == "check" else ()
    done = gpukit("kernels", command, path, *few, env={**os.environ, "GPUKIT_CACHE": str(cache)})
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "cannot be written" in line]
    assert len(said) == 1
    assert said[0].startswith(f"gpukit: the cache {cache} cannot be written (Not a directory), so")


def test_a_path_with_a_space_can_be_pasted(plugin, tmp_path):
    path = plugin("return y", "return x")
    folder = tmp_path / "of mine"
    folder.mkdir()
    for file in (path, path.with_name("good.cu")):
        shutil.move(file, folder)
    done = check(folder / "bad.py")
    again = shlex.split(json.loads(done.stdout.splitlines()[-1])["findings"][0]["again"])
    assert again[:4] == ["gpukit", "kernels", "check", str(folder / "bad.py")]


@pytest.mark.parametrize(
    ("leaves", "words"),
    [
        ("raise SystemExit(0)", "bad.py:14: SystemExit: 0; a launcher returns its result"),
        ("import os; os._exit(0)", "the call ended the process without a word"),
    ],
)
def test_a_call_that_ends_the_process_is_not_shown(plugin, leaves, words):
    path = plugin("return y", leaves)
    done = gpukit("kernels", "show", path)
    assert (done.returncode, done.stderr) == (2, f"gpukit: {path} cannot be traced: {words}\n")

"""Plug-in kernels of a run: given by hand, recorded in its settings, loaded again on resume.

Settings name a file, and no file is run because another one names it: a kernel is loaded again only
if this very file, at this path, was given by --kernel on this machine before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from gpukit import primitives as reference  # noqa: F401  (enters the primitives)
from gpukit.core.caches import Cache
from gpukit.device import get_device
from gpukit.dispatch.preference import FromFile, prefer, with_gradients
from gpukit.dispatch.primitive import registry
from gpukit.errors import SettingError
from gpukit.plugins import load_kernel, load_named, loaded
from gpukit.runs.folder import is_run

if TYPE_CHECKING:
    from gpukit.runs.settings import RunSettings

GIVEN = Cache("given")
_LONGEST = 16 << 20  # bytes of a plug-in's Python
PACKAGE = "; if it is an installed package's, name it by --kernel {}"
EMU = "; --device emu runs a card's kernels on the CPU"


def give(paths: Sequence[str]) -> dict[str, str]:
    """Load the plug-ins that someone named, and remember that; the digests of files by their
    absolute paths."""
    found = {}
    for path in paths:
        if not path.endswith(".py") and load_named(path):
            continue
        plugin = load_kernel(path)
        found[str(plugin.path)] = plugin.digest
        GIVEN.write(_mark(plugin.path), b"")
    return found


def choices(texts: Sequence[str]) -> dict[str, str]:
    """What `--algo conv2d=mine` asks for, by primitive."""
    found = {}
    for text in texts:
        primitive, is_there, name = text.partition("=")
        if not is_there or not name or primitive not in registry:
            raise SettingError(
                f"--algo {text}: use PRIMITIVE=NAME, as conv2d=mine or conv2d_weight_grad=mine; "
                "see gpukit kernels list"
            )
        found[primitive] = name
    return found


def moved(saved: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """The kernels of a run where `given` names those that lie elsewhere now."""
    elsewhere = {Path(path).name: path for path in given}
    return {elsewhere.get(Path(path).name, path): digest for path, digest in saved.items()}


def recall(kernels: Mapping[str, str]) -> list[str]:
    """Load the kernels that settings name; why some cannot be, a line for each."""
    problems = []
    for path, digest in kernels.items():
        file = Path(path)
        if not file.is_file():
            problems.append(f"the kernel {path} is gone; name its new place by --kernel FILE.py")
        elif file not in loaded and not _was_given(file):
            problems.append(
                f"the kernel {path} was never given here as it is now; look at it, then name it "
                f"by --kernel {path}"
            )
        elif load_kernel(file).digest != digest:
            problems.append(
                f"the kernel {path}, or its CUDA C, has changed since the run began; bring the old "
                "one back"
            )
    return problems


@contextmanager
def in_use(settings: RunSettings, tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block, the run's choices of implementations hold; what falls back is told.

    Raises SettingError where a kernel is not the one that the run began with, or is not there.
    """
    for problem in recall(settings.kernel):
        raise SettingError(f"{problem}, or start a new run")
    check(settings.algo, settings.device)
    for path in settings.kernel:
        names = [name.replace(":", "=") for name in loaded[Path(path)].names]
        if not set(settings.algo.values()) & {name.partition("=")[2] for name in names}:
            tell(f"{path} is loaded, but nothing asks for it; add --algo {' --algo '.join(names)}")
    with prefer(settings.algo, tell):
        yield


def in_use_by(
    run: Path, given: Sequence[str], tell: Callable[[str], None]
) -> AbstractContextManager[None]:
    """A block in which the choices of a trained run, a folder or a checkpoint in one, hold.

    As far as its kernels are at hand: else gpukit's own compute the same, which is told.
    """
    from gpukit.runs.settings import RunSettings

    folder, own = run if run.is_dir() else run.parent, give(given)
    if not is_run(folder):
        return nullcontext()
    settings = RunSettings.read(folder, device="cpu")
    for problem in recall(moved(settings.kernel, own)):
        tell(f"{problem}. Without it gpukit's own kernels compute")
    return prefer(settings.algo, tell)


def check(algo: Mapping[str, str], device: str) -> None:
    """Refuse choices that a device does not have; gradients that only follow from one may lack."""
    kind = get_device(device).kind
    for primitive, name in algo.items():
        if primitive not in registry:
            raise SettingError(
                f"algo names the primitive {primitive!r}, which is none; see gpukit kernels list"
            )
        following = [p for p, n in with_gradients({primitive: name}).items() if p in registry]
        if not any(registry[p].find(kind, name) for p in following):
            hint = EMU if kind == "cpu" and registry[primitive].find("cuda", name) else ""
            hint += PACKAGE.format(name) if isinstance(name, FromFile) else ""
            raise SettingError(f"{registry[primitive].lacks(kind, name)}{hint}")


def _was_given(file: Path) -> bool:
    return file.stat().st_size <= _LONGEST and GIVEN.read(_mark(file)) is not None


def _mark(file: Path) -> str:
    """The key of: this one was given by hand, as it is now."""
    return f"{file}\0{hashlib.sha256(file.read_bytes()).hexdigest()}"

"""Caches on disk: entries are verified before use and written atomically.

An entry is a file of its bytes, followed by a SHA-256 of its name and bytes: an empty, truncated or
changed file is invalid, and so is one copied from another name. Invalid entries are dropped and
rebuilt. Entries are written to `.NAME.part`, synced and renamed. That file is also the lock: the
process that builds an entry holds it, and the system releases it when the process dies.

Where a cache cannot be written (a full disk, no permission), one warning says so, and work
continues.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import os
import shutil
import stat
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from gpukit.core import locks, settings
from gpukit.errors import GpukitError

MOST = 64 << 20  # bytes that an entry may have
WAIT = 120.0  # seconds for another process that makes the same file
MOMENT = 1.0  # seconds for one that writes the same bytes: they need not be written twice
SPARE = "GPUKIT_SPARE_CACHE"  # for processes that this one starts: where it keeps files meanwhile

_MARK = b"gpukit\x00\x01"  # the last bytes of an entry; the number is that of the format
_DIGEST = hashlib.sha256().digest_size
_PAUSE = 0.02  # seconds
_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_OURS = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | _PLAIN

_said: set[Path] = set()  # folders of which is known that they cannot be written


class CacheWarning(UserWarning):
    """A cache cannot be written."""


class Cache:
    """The entries of one kind, in the folder `kind` of the cache folder.

    `suffix` ends the names of files. Keys are texts of any length, which hold all that an entry
    depends on.
    """

    def __init__(self, kind: str, suffix: str = "") -> None:
        self.kind = kind
        self.suffix = suffix

    @property
    def folder(self) -> Path:
        """Where the entries lie."""
        return settings.cache_dir() / self.kind

    def read(self, key: str) -> bytes | None:
        """The bytes of an entry; None where there is no valid one."""
        found = self._find(key)
        return None if found is None else found[1]

    def write(self, key: str, content: bytes) -> Path | None:
        """Write an entry, replacing an older one: its file, or None where it cannot be kept."""
        return self._try(key, lambda: content, anew=True)

    def drop(self, key: str) -> None:
        """Remove an entry."""
        for folder in self._folders():
            _remove(folder / self._name(key))

    def file(self, key: str, make: Callable[[], bytes]) -> Path:
        """The file of an entry, built by `make` if there is no valid one, in one process at a time.

        Where the cache cannot be written, it lies in a temporary folder, which this process shares
        with those that it starts, and removes at its end. GpukitError without room there either.
        """
        found = self._find(key)
        if found is not None:
            return found[0]
        made: list[bytes] = []

        def once() -> bytes:
            if not made:
                made.append(make())
            return made[0]

        path = self._try(key, once)
        if path is not None:
            return path
        try:
            return self._keep(spare() / self.kind, key, once)
        except OSError as error:
            raise GpukitError(
                f"there is room for compiled files neither in the cache {settings.cache_dir()} nor "
                f"in a temporary folder ({error.strerror or error}); make room, or set "
                "GPUKIT_CACHE or TMPDIR to a folder that can be written"
            ) from None

    def _folders(self) -> list[Path]:
        other = os.environ.get(SPARE)
        return [self.folder, *([Path(other) / self.kind] if other else [])]

    def _name(self, key: str) -> str:
        return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:40] + self.suffix

    def _find(self, key: str) -> tuple[Path, bytes] | None:
        """The first valid file of this name; invalid ones are dropped."""
        for folder in self._folders():
            path = folder / self._name(key)
            try:
                content = self._checked(path)
            except OSError:  # not there, or not for us
                continue
            if content is not None:
                return path, content
            _remove(path)
        return None

    def _checked(self, path: Path) -> bytes | None:
        """The bytes in a file whose digest is right."""
        handle = os.open(path, os.O_RDONLY | _PLAIN)  # would wait for a pipe's writer else
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MOST:
                return None
            with os.fdopen(handle, "rb", closefd=False) as file:
                content = file.read(MOST + 1)
        finally:
            os.close(handle)
        end = len(content) - _DIGEST - len(_MARK)
        if end < 0 or content[end + _DIGEST :] != _MARK:
            return None
        body = content[:end]
        return body if content[end : end + _DIGEST] == self._digest(path.name, body) else None

    def _digest(self, name: str, content: bytes) -> bytes:
        digest = hashlib.sha256(f"{self.kind}/{name}\0".encode())
        digest.update(content)
        return digest.digest()

    def _try(self, key: str, make: Callable[[], bytes], anew: bool = False) -> Path | None:
        """`_keep` in the cache, or None where it cannot be kept, which is said once."""
        if settings.cache_dir() in _said:
            return None
        try:
            return self._keep(self.folder, key, make, anew)
        except TimeoutError:
            return None
        except OSError as error:
            _say(error)
            return None

    def _keep(self, folder: Path, key: str, make: Callable[[], bytes], anew: bool = False) -> Path:
        """Make an entry in `folder`, or take what a faster process made, unless it is to be new."""
        path = folder / self._name(key)
        part = folder / f".{path.name}.part"
        if locks.fcntl is None:
            part = part.with_suffix(f".part-{os.getpid()}-{threading.get_ident()}")
        folder.mkdir(parents=True, exist_ok=True)
        with _held(part, MOMENT if anew else WAIT) as file:
            with contextlib.suppress(OSError):
                if not anew and self._checked(path) is not None:
                    return path
            content = make()
            file.truncate()
            file.write(content)
            file.write(self._digest(path.name, content) + _MARK)
            file.flush()
            os.fsync(file.fileno())
            if path.is_dir():  # whose name a file cannot take
                _remove(path)
            if locks.fcntl is None:  # Windows renames no open file
                file.close()
            part.replace(path)
        return path


def prepare() -> None:
    """Call before starting processes that compile: they share entries that cannot be kept."""
    folder = settings.cache_dir()
    if os.environ.get(SPARE) or (folder not in _said and _usable(folder)):
        return
    with contextlib.suppress(OSError):  # said by who needs a file then
        spare()


def spare() -> Path:
    """A temporary folder for files that cannot be kept; removed when its maker ends."""
    given = os.environ.get(SPARE)
    if given:
        return Path(given)
    made = tempfile.mkdtemp(prefix="gpukit-")
    os.environ[SPARE] = made
    atexit.register(_clear, made, os.getpid())
    return Path(made)


def _clear(folder: str, owner: int) -> None:
    if os.getpid() == owner:  # not a fork of it
        shutil.rmtree(folder, ignore_errors=True)


def _usable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError as error:
        _say(error)
        return False


def _say(error: OSError) -> None:
    """Warn once for each cache folder that it cannot be written, and do not try it again."""
    folder = settings.cache_dir()
    if folder in _said:
        return
    _said.add(folder)
    if not os.environ.get(SPARE):  # the process that started this one has said it
        warnings.warn(
            f"the cache {folder} cannot be written ({error.strerror or error}), so what is "
            "compiled is compiled anew each time; make room, or set GPUKIT_CACHE to a folder that "
            "can be written",
            CacheWarning,
            stacklevel=2,
        )


def _remove(path: Path) -> None:
    """Remove what lies there, whatever it is, if that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


@contextlib.contextmanager
def _held(part: Path, wait: float) -> Iterator[BinaryIO]:
    """`part`, open, and held by this thread alone until it is renamed or the block ends.

    It is removed at the end where it still has this name. TimeoutError where another one holds it
    for more than `wait` seconds, else OSError.
    """
    with os.fdopen(_lock(part, wait), "r+b") as file:
        try:
            yield file
        finally:
            if not file.closed and _is_at(file.fileno(), part):
                _remove(part)


def _lock(part: Path, wait: float) -> int:
    """A descriptor of `part`, made where it is missing and locked."""
    deadline = time.monotonic() + wait
    while True:
        handle = _open(part)
        try:
            while not _taken(handle):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{part} is held by another process")
                if not _is_at(handle, part):  # renamed by its holder, or removed
                    break
                time.sleep(_PAUSE)
            else:
                if _is_at(handle, part):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def _open(part: Path) -> int:
    """A descriptor of the regular file `part`; what else has this name is removed."""
    for last in (False, True):
        try:
            handle = os.open(part, _OURS, 0o666)
        except OSError as error:
            if last or error.errno in (errno.ENOENT, errno.ENOSPC, errno.EROFS, errno.EMFILE):
                raise
        else:
            if stat.S_ISREG(os.fstat(handle).st_mode):
                return handle
            os.close(handle)
        _remove(part)
    raise FileExistsError(errno.EEXIST, "something else has this name", str(part))


def _taken(handle: int) -> bool:
    """Whether the lock of an open file could be taken; True where there are no locks: the digest
    tells what two writers mixed."""
    try:
        locks.take(handle)
    except BlockingIOError:
        return False
    return True


def _is_at(handle: int, path: Path) -> bool:
    return locks.is_at(handle, path, follow_links=False)

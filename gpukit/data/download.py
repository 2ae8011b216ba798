"""Downloads one address into one file, resuming after broken connections."""

from __future__ import annotations

import errno
import http.client
import os
import re
import shutil
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from gpukit.core.blocks import Closing
from gpukit.data.sources import Progress
from gpukit.errors import SettingError

TIMEOUT = 30.0  # seconds in which something must come, and of a body enough
SLOWEST = 1000  # bytes a second that are enough
ATTEMPTS = 4  # requests that bring next to nothing
PAUSE = 0.5  # seconds before the second request; doubled for each further one

_CHUNK = 1 << 18
_SHOWN = 0.1  # seconds between calls of `progress`
_LONGEST = 200  # characters of what a server says
_SCHEMES = ("http", "https")


class NotDelivered(Exception):
    """The download failed. Received bytes are kept, for a later call to resume."""


class _Broken(Exception):
    """A request that was interrupted and may be retried."""


def download(
    url: str, part: Path, largest: int, progress: Progress | None = None, *, label: str = ""
) -> bool:
    """Download `url` to `part`, resuming the piece that is there.

    Whether the server can resume is seen from its answers; where it cannot, it starts anew.
    `largest` bounds the bytes. A request that brings less than GPUKIT_DATA_SLOWEST bytes a second
    for half a minute is broken off. Returns whether the file was put together from pieces. Raises
    `NotDelivered`, whose text is one printable line; errors of the disk pass through as `OSError`.
    """
    wanted = _Download(url, part, largest, progress, label or part.name)
    least = slowest() * TIMEOUT
    furthest = _size(part)
    failed = 0
    while True:
        try:
            return wanted.request(least)
        except urllib.error.HTTPError as error:
            with error:  # lets go of the connection
                reason = f"HTTP {error.code} {error.reason}"
            final = error.code < 500 and error.code not in (408, 429)
        except (urllib.error.URLError, http.client.HTTPException, _Broken) as error:
            cause = getattr(error, "reason", error)
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            # Without a name server there is no network: waiting a second does not bring it.
            final = isinstance(
                cause, socket.gaierror | FileNotFoundError | ssl.SSLCertVerificationError
            )
        except NotDelivered as error:
            raise NotDelivered(_printable(str(error))) from None
        if _size(part) >= furthest + max(least, 1):
            failed, furthest = 0, _size(part)
        failed += 1
        if final or failed >= ATTEMPTS:
            raise NotDelivered(_printable(f"{url} cannot be fetched ({_short(reason)})"))
        time.sleep(PAUSE * 2 ** (failed - 1))


def slowest() -> float:
    """Bytes a second that a server must send: GPUKIT_DATA_SLOWEST, 0 for any."""
    text = os.environ.get("GPUKIT_DATA_SLOWEST") or str(SLOWEST)
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise SettingError(f"GPUKIT_DATA_SLOWEST={text!r}: use whole bytes a second, 0 for any")
    return float(text)


@dataclass(frozen=True)
class _Download:
    """One address, and the file for what it sends: at most `largest` bytes, called `label`."""

    url: str
    part: Path
    largest: int
    progress: Progress | None
    label: str

    def request(self, least: float) -> bool:
        """One request for what `part` lacks, to its end; returns whether it resumed a piece."""
        held = _size(self.part)
        request = urllib.request.Request(self.url, headers={"User-Agent": "gpukit"})
        if held:
            request.add_header("Range", f"bytes={held}-")
        with _Watch(least) as watch, self._answer(request, watch, held) as answer:
            start = _start(answer.headers.get("Content-Range")) if answer.status == 206 else 0
            if start not in (0, held):
                raise _Broken(f"asked from byte {held}, the server sent from {start}")
            length = _number(answer.headers.get("Content-Length"))
            total = None if length is None else start + length
            if total is not None and total > self.largest:
                raise NotDelivered(f"{self.url} has {total} bytes, more than {self.label} can have")
            if length is not None and length > shutil.disk_usage(self.part.parent).free:
                raise OSError(errno.ENOSPC, f"No space left on device for {length} bytes")
            done = self._copy(answer, start, total, watch)
            if done > self.largest:
                self.part.unlink()
                raise NotDelivered(f"{self.url} sends more bytes than {self.label} can have")
            if total is not None and done < total:
                raise _Broken(f"{done} of {total} bytes came")
            return start > 0

    @contextmanager
    def _answer(self, request: urllib.request.Request, watch: _Watch, held: int) -> Iterator[Any]:
        """What the server answers, closed at the end; errors of the network are `_Broken`."""
        try:
            answer = _opener(watch).open(request, timeout=TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code != 416 or not held:
                raise
            self.part.unlink()
            raise _Broken("the piece held is longer than the file at this address") from error
        except urllib.error.URLError as error:
            raise watch.reason() or error from None
        except (OSError, http.client.HTTPException) as error:
            raise watch.reason() or _broken(error) from None
        except ValueError as error:  # an address that is none, from a redirection
            raise NotDelivered(f"{self.url} leads nowhere ({_short(str(error))})") from None
        watch.begin()
        with answer:
            yield answer

    def _copy(self, answer: Any, done: int, total: int | None, watch: _Watch) -> int:
        """Copy the body up to a chunk beyond `largest`; returns the length of `part` then."""
        shown = -_SHOWN
        with self.part.open("r+b" if done else "wb") as out:
            out.seek(done)
            while done <= self.largest:
                if self.progress is not None and time.monotonic() - shown >= _SHOWN:
                    shown = time.monotonic()
                    out.flush()  # what is told is kept, whatever ends this process
                    self.progress(self.label, done, total)
                try:
                    chunk = answer.read1(_CHUNK)  # what is there, if it is a byte
                except (OSError, http.client.HTTPException) as error:
                    raise watch.reason() or _broken(error) from None
                if not chunk:
                    break
                out.write(chunk)
                done += len(chunk)
                watch.came(len(chunk))
            out.flush()
            os.fsync(out.fileno())
        if late := watch.reason():
            raise late
        if self.progress is not None:
            self.progress(self.label, done, total)
        return done


class _Watch(Closing):
    """Ends a request that receives less than `least` bytes in TIMEOUT seconds.

    A server that sends a byte a second never triggers a socket's timeout. The connection is shut
    under the reader, in whose thread `reason()` says then why.
    """

    def __init__(self, least: float) -> None:
        self._least = least
        self._bytes = 0
        self._begun = False
        self._since = time.monotonic()
        self._late = ""
        self._ended = threading.Event()
        self._sockets: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, name="gpukit download", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def close(self) -> None:
        self._ended.set()
        self._thread.join()
        for connection in self._sockets:
            connection.close()

    def connect(self, *arguments: Any, **settings: Any) -> socket.socket:
        """`socket.create_connection`, of which a duplicate is kept to shut it by."""
        made = socket.create_connection(*arguments, **settings)
        self._sockets.append(made.dup())
        return made

    def begin(self) -> None:
        """The body begins."""
        self._since, self._begun = time.monotonic(), True

    def came(self, count: int) -> None:
        """`count` bytes of the body came."""
        self._bytes += count

    def reason(self) -> _Broken | None:
        """Why the connection was shut; None where it was not."""
        return _Broken(self._late) if self._late else None

    def _run(self) -> None:
        before = 0
        while not self._ended.wait(max(0.0, self._since + TIMEOUT - time.monotonic())):
            if time.monotonic() < self._since + TIMEOUT:  # the body has begun meanwhile
                continue
            enough = self._least if self._begun else 1
            if self._bytes - before < enough:
                what = f"fewer than {enough:,.0f} bytes" if self._begun else "no answer"
                self._late = f"{what} in {TIMEOUT:g} s"
                for connection in self._sockets:
                    with suppress(OSError):  # closed by the server
                        connection.shutdown(socket.SHUT_RDWR)
                return
            before, self._since = self._bytes, time.monotonic()


class _StayOnHttp(urllib.request.HTTPRedirectHandler):
    """Follows redirections, but to no other kind of address."""

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if urllib.parse.urlsplit(newurl).scheme not in _SCHEMES:
            raise NotDelivered(f"{req.full_url} leads to {_short(newurl)}, no http(s) address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(watch: _Watch) -> urllib.request.OpenerDirector:
    """Opens http(s) and file addresses and no others; `watch` can end its connections."""

    class Plain(http.client.HTTPConnection):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self._create_connection = watch.connect

    class Secure(http.client.HTTPSConnection):
        def __init__(self, *arguments: Any, **settings: Any) -> None:
            super().__init__(*arguments, **settings)
            self._create_connection = watch.connect

    class Http(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Plain, req)

    class Https(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(Secure, req, context=ssl.create_default_context())

    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        Http(),
        Https(),
        urllib.request.HTTPDefaultErrorHandler(),
        _StayOnHttp(),
        _RegularFiles(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _RegularFiles(urllib.request.FileHandler):
    """Opens file addresses, except of pipes and devices, which may never end."""

    def open_local_file(self, req: urllib.request.Request) -> Any:
        path = Path(urllib.request.url2pathname(req.selector))
        if path.exists() and not path.is_file():
            raise NotDelivered(f"{req.full_url} is no regular file")
        return super().open_local_file(req)


def _broken(error: Exception) -> _Broken:
    return _Broken(str(error) or type(error).__name__)


def _printable(text: str) -> str:
    """One line without control characters, because servers' text is printed to a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def _start(content_range: str | None) -> int:
    found = re.match(r"bytes ([0-9]{1,18})-", content_range or "")
    return int(found[1]) if found else -1


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

"""Brings one address into one file, in as many requests as broken connections make it take."""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import IO, Any

from gpukit.data.sources import Progress

TIMEOUT = 30.0  # seconds without a byte
ATTEMPTS = 4  # requests that bring nothing new
PAUSE = 0.5  # seconds before the second request; doubled for each further one

_CHUNK = 1 << 18


class NotDelivered(Exception):
    """The address does not deliver. What came is kept, for a later call to resume."""


class _Broken(Exception):
    """A request that broke off, and may be tried again."""


def download(
    url: str, part: Path, largest: int, progress: Progress | None = None, *, label: str = ""
) -> bool:
    """Bring `part` to the full length of what `url` holds, resuming the piece that is there.

    Whether the server can resume is seen from its answers; where it cannot, it starts anew.
    `largest` bounds the bytes. Returns whether a piece was there before. Raises `NotDelivered`;
    errors of the disk pass through as `OSError`.
    """
    furthest = held = _size(part)
    failed = 0
    while True:
        try:
            _request(url, part, largest, progress, label or part.name)
            return held > 0
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            final = error.code < 500 and error.code not in (408, 429)
        except (urllib.error.URLError, http.client.HTTPException, _Broken) as error:
            cause = getattr(error, "reason", error)
            reason = getattr(cause, "strerror", None) or str(cause) or type(cause).__name__
            # Without a name server there is no network: waiting a second does not bring it.
            final = isinstance(cause, socket.gaierror | FileNotFoundError)
        if _size(part) > furthest:
            failed, furthest = 0, _size(part)
        failed += 1
        if final or failed >= ATTEMPTS:
            raise NotDelivered(f"{url} cannot be fetched ({reason})")
        time.sleep(PAUSE * 2 ** (failed - 1))


def _request(url: str, part: Path, largest: int, progress: Progress | None, label: str) -> None:
    """One request for what `part` lacks; returns when the server has sent all of it."""
    held = _size(part)
    request = urllib.request.Request(url, headers={"User-Agent": "gpukit"})
    if held:
        request.add_header("Range", f"bytes={held}-")
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        part.unlink()
        raise _Broken("the piece held is longer than the file at this address") from error
    except urllib.error.URLError:
        raise
    except (OSError, http.client.HTTPException) as error:
        raise _Broken(str(error) or type(error).__name__) from error
    with answer:
        start = _start(answer.headers.get("Content-Range")) if answer.status == 206 else 0
        if start not in (0, held):
            raise _Broken(f"asked from byte {held}, the server sent from {start}")
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        if total is not None and total > largest:
            raise NotDelivered(f"{url} has {total} bytes, more than {label} can have")
        with part.open("r+b" if start else "wb") as out:
            out.seek(start)
            done = _copy(answer, out, start, total, progress, label, largest)
            if done > largest:
                raise NotDelivered(f"{url} sends more bytes than {label} can have")
            out.flush()
            os.fsync(out.fileno())
        if total is not None and done < total:
            raise _Broken(f"{done} of {total} bytes came")


def _copy(
    answer: Any,
    out: IO[bytes],
    done: int,
    total: int | None,
    progress: Progress | None,
    label: str,
    largest: int,
) -> int:
    """Copy the body up to a chunk beyond `largest`; returns the length that `out` has then."""
    while done <= largest:
        if progress is not None:
            progress(label, done, total)
        try:
            chunk = answer.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _Broken(str(error) or type(error).__name__) from error
        if not chunk:
            break
        out.write(chunk)
        done += len(chunk)
    return done


def _start(content_range: str | None) -> int:
    found = re.match(r"bytes (\d+)-", content_range or "")
    return int(found[1]) if found else -1


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0

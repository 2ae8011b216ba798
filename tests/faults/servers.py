"""Servers on 127.0.0.1 that break off, stall, lie, flood and send elsewhere.

A behaviour gets a `Connection` whose request has been read, and does with it what it likes.
`BEHAVIOURS` holds for each whether the file is right in the end, else words of the refusal.
"""

from __future__ import annotations

import contextlib
import gzip
import random
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import wraps
from pathlib import Path

CONTENT = random.Random("content").randbytes(30_000) + bytes(20_000)
PACKED = gzip.compress(CONTENT, mtime=0)
RIGHT = ""
_DRIP = 0.05  # seconds; tests set TIMEOUT to some ten of these


@dataclass
class Connection:
    """One request: its number, and the byte from which it asks (None: no range)."""

    socket: socket.socket
    number: int
    start: int | None
    address: str

    def send(self, *parts: bytes | str) -> None:
        for part in parts:
            self.socket.sendall(part.encode("latin-1") if isinstance(part, str) else part)

    def head(self, status: str, *headers: str) -> None:
        self.send("".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *headers, "")))

    def ranged(self, upto: int | None = None) -> None:
        """As a good server does; breaks off before byte `upto`."""
        start = self.start or 0
        headers = [f"Content-Length: {len(PACKED) - start}"]
        if self.start is not None:
            headers.append(f"Content-Range: bytes {start}-{len(PACKED) - 1}/{len(PACKED)}")
        self.head("200 OK" if self.start is None else "206 Partial Content", *headers)
        self.send(PACKED[start:upto])

    def drip(self, content: bytes = b"x") -> None:
        """For ever, a little at a time."""
        while True:
            self.send(content)
            time.sleep(_DRIP)


Behaviour = Callable[[Connection], None]
BEHAVIOURS: dict[str, tuple[Behaviour, str]] = {}


def behaviour(words: str = RIGHT) -> Callable[[Behaviour], Behaviour]:
    def enter(function: Behaviour) -> Behaviour:
        BEHAVIOURS[function.__name__] = (function, words)
        return function

    return enter


def first(function: Behaviour) -> Behaviour:
    """What the first request meets; later ones meet a good server."""
    return wraps(function)(lambda c: function(c) if c.number == 0 else c.ranged())


def reply(
    status: str, *headers: str, body: Iterable[bytes | str] = (), drips: bytes | None = None
) -> Behaviour:
    """The same answer to every request; `drips` go on for ever."""

    def act(c: Connection) -> None:
        c.head(status, *headers)
        c.send(*body)
        if drips is not None:
            c.drip(drips)

    return act


def whole(content: bytes, *headers: str, more: bytes = b"") -> Behaviour:
    """`content`, as a good server sends it, with `headers` besides and `more` behind it."""
    return reply("200 OK", f"Content-Length: {len(content)}", *headers, body=[content, more])


def _cut(size: int) -> list[bytes]:
    return [PACKED[i : i + size] for i in range(0, len(PACKED), size)]


EMPTY, SIZE = "Content-Length: 0", f"Content-Length: {len(PACKED)}"
CHUNKED, FOUND = "Transfer-Encoding: chunked", "302 Found"
PARTIAL = "206 Partial Content"
BOMB = gzip.compress(bytes(50_000_000), mtime=0)
_CHUNKS = [
    *(f"{len(p):x};extension=1\r\n".encode() + p + b"\r\n" for p in _cut(7000)),
    b"0\r\n\r\n",
]
BEHAVIOURS |= {
    "good": (lambda c: c.ranged(), RIGHT),
    "breaks_off_and_resumes": (lambda c: c.ranged([5000, 20_000, None][c.number]), RIGHT),
    "elsewhere": (
        first(lambda c: c.head(FOUND, f"Location: {c.address}/other/file", EMPTY)),
        RIGHT,
    ),
    "silent": (lambda c: c.drip(b""), "no answer in 0.5 s|timed out"),
    "in_a_circle": (
        lambda c: c.head(FOUND, f"Location: {c.address}/{c.number % 2}", EMPTY),
        "redirect error",
    ),
    "no_http": (lambda c: c.send("\x1b[31m220 ready\x07\r\n" * 3), "cannot be fetched"),
    "ten_bytes_a_request": (lambda c: c.ranged((c.start or 0) + 10), "cannot be fetched"),
    "no_tls": (lambda c: c.send("HTTP/1.1 400 Bad Request\r\n\r\n"), "SSL"),
    "own_certificate": (lambda c: c.ranged(), "CERTIFICATE_VERIFY_FAILED"),
    "no_length": (reply("200 OK", body=[PACKED]), RIGHT),
    "chunked": (reply("200 OK", CHUNKED, body=_CHUNKS), RIGHT),
    "small_pieces": (reply("200 OK", SIZE, body=_cut(97)), RIGHT),
    "busy_at_first": (first(reply("503 Service Unavailable", EMPTY)), RIGHT),
    "stalls_at_first": (first(reply("200 OK", SIZE, body=[PACKED[:6000]], drips=b"")), RIGHT),
    "more_than_it_says": (whole(PACKED, more=b"and more" * 1000), RIGHT),
    "says_gzip": (whole(PACKED, "Content-Encoding: gzip"), RIGHT),
    "strange_lengths": (
        reply("200 OK", "Content-Length: \xb2", "X-Title: \x1b]0;mine\x07", body=[PACKED]),
        RIGHT,
    ),
    "a_byte_at_a_time": (reply("200 OK", SIZE, drips=b"x"), "fewer than 500 bytes in 0.5 s"),
    "a_chunk_size_without_end": (
        reply("200 OK", CHUNKED, drips=b"0"),
        "fewer than 500 bytes in 0.5 s",
    ),
    "says_ten_terabytes": (
        reply("200 OK", "Content-Length: 10000000000000", drips=b"x"),
        "10000000000000 bytes, more than",
    ),
    "to_a_file": (reply(FOUND, "Location: file:///etc/passwd", EMPTY), "not allowed"),
    "to_ftp": (
        reply("301 Moved", "Location: ftp://127.0.0.1/x\x1b[2J", EMPTY),
        "no http.s. address",
    ),
    "to_no_address": (
        reply(FOUND, "Location: http://[::1", EMPTY),
        "leads nowhere|cannot be fetched",
    ),
    "rude": (reply(f"404 \x1b[2J\x1b]0;owned\x07\r{'A' * 5000}", EMPTY), "HTTP 404"),
    "another_file": (whole(b"<html>sign in to the hotel's network</html>"), "checksum"),
    "one_bit": (whole(PACKED[:9000] + bytes([PACKED[9000] ^ 16]) + PACKED[9001:]), "checksum"),
    "always_short": (reply("200 OK", SIZE, body=[PACKED[:-1]]), "bytes came"),
    "chunked_garbage": (
        reply("200 OK", CHUNKED, body=["10\r\n", PACKED[:16], "\r\nzz\x1b[2J\r\n"]),
        "cannot be fetched",
    ),
    "a_chunk_of_less_than_nothing": (
        reply("200 OK", CHUNKED, body=["-5\r\n", PACKED]),
        "cannot be fetched|checksum",
    ),
    "a_bomb": (whole(BOMB), "checksum"),
    "packed_twice": (whole(gzip.compress(PACKED, mtime=0), "Content-Encoding: gzip"), "checksum"),
    "never_satisfiable": (reply("416 Range Not Satisfiable", EMPTY), "HTTP 416"),
    "a_range_not_asked_for": (reply(PARTIAL, SIZE, body=[PACKED]), "the server sent from"),
    "no_content": (reply("204 No Content"), "checksum"),
    "a_flood_of_headers": (
        reply("200 OK", *(f"X-{i}: {'y' * 100}" for i in range(500)), body=[PACKED]),
        "headers",
    ),
}


@behaviour()
def breaks_off_without_ranges(c):
    c.head("200 OK", SIZE)
    c.send(PACKED[: 9000 if c.number < 2 else None])


@behaviour()
@first
def resets_at_first(c):
    c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@behaviour()
def range_of_another_place(c):
    if c.number == 0:
        c.ranged(8000)
    elif c.number == 1:
        c.head(PARTIAL, "Content-Range: bytes 17-99/100", "Content-Length: 83")
        c.send(bytes(83))
    else:
        c.ranged()


@behaviour()
def range_that_lies(c):
    if c.number == 0:
        c.ranged(8000)
    elif c.start is not None:
        said = f"Content-Range: bytes {c.start}-{len(PACKED) - 1}/{len(PACKED)}"
        c.head(PARTIAL, said, f"Content-Length: {len(PACKED) - c.start}")
        c.send(PACKED[: len(PACKED) - c.start])
    else:
        c.ranged()


@behaviour()
def range_not_satisfiable(c):
    if c.number == 0:
        c.ranged(8000)
    elif c.start is not None:
        c.head("416 Range Not Satisfiable", EMPTY)
    else:
        c.ranged()


@behaviour()
def some_continues(c):
    c.send("HTTP/1.1 100 Continue\r\n\r\n" * 20)
    c.ranged()


@behaviour("no answer in 0.5 s")
def a_header_at_a_time(c):
    c.send("HTTP/1.1 200 OK\r\n")
    c.drip(b"X: ")


@behaviour("no answer in 0.5 s")
def endless_continues(c):
    while True:
        c.send("HTTP/1.1 100 Continue\r\n\r\n" * 100)
        time.sleep(_DRIP / 10)


@behaviour("more bytes than")
def endless(c):
    c.head("200 OK")
    while True:
        c.send(bytes(1 << 16))


@behaviour("no answer in 0.5 s|timed out")
def a_handshake_at_a_time(c):
    c.send(b"\x16\x03\x03\x3f\x00")  # a record of 16,128 bytes begins
    c.drip(b"\x02")


TLS = {"no_tls", "a_handshake_at_a_time", "own_certificate"}  # asked for by https


class Server:
    """Does `act` to whoever connects."""

    def __init__(self, name: str, folder: Path) -> None:
        self._act = BEHAVIOURS[name][0]
        self._listening = socket.create_server(("127.0.0.1", 0))
        scheme = "https" if name in TLS else "http"
        self.address = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"
        self._plain = name in TLS and name != "own_certificate"
        self._tls = _certificate(folder) if name == "own_certificate" else None
        self._requests = 0
        self._open: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                made = self._listening.accept()[0]
                self._open.append(made)
                number, self._requests = self._requests, self._requests + 1
                threading.Thread(target=self._answer, args=(made, number), daemon=True).start()

    def _answer(self, made: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError), made:
            if self._tls is not None:
                made = self._tls.wrap_socket(made, server_side=True)
            start = None
            if not self._plain:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += made.recv(4096) or b"\r\n\r\n"
                if b"\r\nRange: bytes=" in head:
                    start = int(head.partition(b"\r\nRange: bytes=")[2].partition(b"-")[0])
            self._act(Connection(made, number, start, self.address))

    def close(self) -> None:
        for connection in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()


@contextlib.contextmanager
def serving(name: str, folder: Path) -> Iterator[Server]:
    """A server that behaves like `name`."""
    server = Server(name, folder)
    try:
        yield server
    finally:
        server.close()


def can_sign() -> bool:
    """Whether a certificate can be made here."""
    return shutil.which("openssl") is not None


def _certificate(folder: Path) -> ssl.SSLContext:
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context

"""Runs each command in a fork of a process that has gpukit loaded: 20 ms a command, not 500.

A command that crashes, hangs or takes too much memory ends its fork, and nothing else.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
import traceback
from typing import Any, NoReturn

from gpukit.core import process


def main() -> None:
    # What commands import at their first use is here before the first fork.
    from PIL import Image

    import gpukit.backends.cpu
    import gpukit.cli.app
    import gpukit.data.decode
    import gpukit.inspect.pictures
    import gpukit.models
    import gpukit.runs  # noqa: F401

    Image.init()
    process.serve({"run": answer})


def answer(**request: Any) -> dict[str, Any]:
    """Fork, run, wait: how the command ended, and what it took at most."""
    started = time.monotonic()
    pid = os.fork()
    if pid == 0:
        run(request)
    deadline = started + request["timeout"]
    hung = False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline and not hung:
            hung = True
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.002)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "hung": hung,
        "peak": usage.ru_maxrss << 10,
        "seconds": time.monotonic() - started,
    }


def run(request: dict[str, Any]) -> NoReturn:
    """In the fork: the streams, folder and environment asked for, then the command."""
    code = 70
    try:
        os.setpgid(0, 0)
        for number, path in enumerate(request["streams"]):
            flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            opened = os.open(path, flags, 0o600)
            os.dup2(opened, number)
            os.close(opened)
        sys.stdin = os.fdopen(0, "r", closefd=False)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.chdir(request["cwd"])
        os.environ.update(request["env"])
        resource.setrlimit(resource.RLIMIT_AS, (request["limit"],) * 2)
        if request["program"] is not None:
            exec(compile(request["program"], "<program>", "exec"), {"__name__": "__main__"})
            code = 0
        else:
            sys.argv = ["gpukit", *request["arguments"]]
            from gpukit.cli import main as command

            command(request["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except Exception:
                code = code or 1
        os._exit(code)


if __name__ == "__main__":
    main()

"""Checks of plug-ins as tests:  pytest --gpukit-kernel mine.py

Each check is a pytest item, so that a CI without a card proves users' kernels in one line: compiled
for each architecture, random cases plain and under the sanitizers, and the battery against cheats.
All of it runs in worker processes. Installed with gpukit; without the option it does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gpukit.verify.plugins import PluginFile

GROUP = "gpukit"


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup(GROUP, "kernels checked without a card (gpukit)")
    group.addoption(
        "--gpukit-kernel", action="append", default=[], metavar="FILE.py",
        help="check this plug-in, or that of an installed package by its name; may be repeated",
    )  # fmt: skip
    group.addoption(
        "--gpukit-fuzz", type=int, default=20, metavar="N",
        help="random cases for each implementation of a plug-in (default 20)",
    )  # fmt: skip
    group.addoption(
        "--gpukit-seed", type=int, default=0, metavar="N", help="seed of the cases (default 0)"
    )
    group.addoption(
        "--gpukit-time-limit", type=float, default=60.0, metavar="S",
        help="seconds for a plug-in to be loaded, for a compilation, for a case (default 60)",
    )  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> None:
    for plugin in config.getoption("--gpukit-kernel"):
        name = Path(plugin).name
        made = KernelFile.from_parent(session, name=name, nodeid=name, plugin=plugin)
        items.extend(made.collect())


class KernelFile(pytest.Collector):
    """A plug-in; its items are the checks of it."""

    def __init__(self, *, plugin: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.plugin = plugin
        self.hung: dict[str, str] = {}  # by target, where it did

    def collect(self) -> Iterator[pytest.Item]:
        """One item a check; a plug-in that cannot be loaded is an error of collection."""
        from gpukit.errors import GpukitError
        from gpukit.launch.nvrtc import ARCHITECTURES
        from gpukit.verify.plugins import PluginFile

        try:
            subject = PluginFile(self.plugin, self.config.getoption("--gpukit-time-limit"))
        except GpukitError as error:
            raise pytest.UsageError(str(error)) from None
        for arch in ARCHITECTURES:
            label = f"compile[sm_{arch}]"
            yield Check.from_parent(self, name=label, file=self, subject=subject, arch=arch)
        for target in subject.targets:
            for mode in subject.modes:
                label = f"{target}[{mode}]"
                yield Check.from_parent(
                    self, name=label, file=self, subject=subject, target=target, mode=mode
                )


class Refused(Exception):
    """What a check found."""


class Check(pytest.Item):
    """One check: for an architecture, or of a target in a mode."""

    def __init__(
        self,
        *,
        file: KernelFile,
        subject: PluginFile,
        arch: int = 0,
        target: str = "",
        mode: str = "",
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.file = file
        self.subject = subject
        self.arch = arch
        self.target = target
        self.mode = mode

    def runtest(self) -> None:
        from gpukit.core.process import distinct
        from gpukit.device import cuda_problem
        from gpukit.emulator.build import compiler_problem
        from gpukit.verify.fuzz import CARD, LEFT_OUT, fuzz

        option = self.config.getoption
        printed: list[str] = []
        self.subject.heard = printed.extend
        if self.arch:
            found = self.subject.compile((self.arch,), lambda steps, what: None).findings
        else:
            missing = cuda_problem() if self.mode == CARD else compiler_problem()
            missing = missing or self.file.hung.get(self.target, "")
            if missing:
                pytest.skip(missing)
            found = fuzz(
                {self.mode: [self.target]}, option("--gpukit-fuzz"), option("--gpukit-seed"),
                plugins=self.subject.plugins, limit=self.subject.limit, heard=printed.extend,
            )  # fmt: skip
            if any(f.text.endswith(LEFT_OUT) for f in found):
                self.file.hung[self.target] = f"it did not end in mode {self.mode}"
        if printed:
            self.add_report_section("call", "printed", "\n".join(distinct(printed)))
        if found:
            raise Refused("\n".join(f"{f.text}\n  again: {f.again}" for f in found))

    def repr_failure(self, excinfo: pytest.ExceptionInfo, style: Any = None) -> Any:
        if isinstance(excinfo.value, Refused):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        return Path(self.subject.name), None, self.name

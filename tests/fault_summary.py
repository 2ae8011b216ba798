"""The lines that end a run of tests that count: how many cases of which kind, what they took."""

from __future__ import annotations

import json
from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """`faults: 200 damaged checkpoints, …, all survived; at most 312 MB`."""
    kinds: Counter[str] = Counter()
    summaries = []
    peak = 0
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) == "call":
                for name, value in report.user_properties:
                    if name == "summary":
                        summaries.append(f"{value}{'' if report.passed else ': FAILED'}")
                    if name == "fault":
                        kind, memory = json.loads(value)
                        kinds[kind] += 1
                        peak = max(peak, memory)
    for line in summaries:
        terminalreporter.line(line)
    if kinds:
        failed = [r for r in terminalreporter.stats.get("failed", []) if "faults/" in r.nodeid]
        end = f"{len(failed)} tests FAILED" if failed else "all survived"
        listed = ", ".join(f"{n:,} {kind}" for kind, n in sorted(kinds.items()))
        terminalreporter.line(f"faults: {listed}: {end}; at most {peak / 1e6:.0f} MB")

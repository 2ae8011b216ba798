"""A pytest plug-in that prints what failed at once, for runs that may not reach their end.

python -m pytest -p bench.findings …
"""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.failed:
        where = f" on {node.gateway.id}" if (node := getattr(report, "node", None)) else ""
        print(f"\nFAILED {report.nodeid} ({report.when}{where})\n{report.longreprtext}", flush=True)

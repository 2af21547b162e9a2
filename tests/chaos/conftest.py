"""A table of the long ones at the end."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What came of each, where they were asked for: `make chaos`, `make soak`."""
    if terminalreporter.config.option.markexpr not in ("chaos", "soak"):
        return
    for outcome in ("passed", "failed", "error"):
        for report in terminalreporter.getreports(outcome):
            name = report.nodeid.partition("::")[2]
            terminalreporter.write_line(f"{outcome:8} {report.duration:7.1f} s  {name}")

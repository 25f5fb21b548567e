"""What every run of the tests ends with: the seconds that each part of the folder took, so that the dear ones show.

And what every test leaves behind: a processor that computes with subnormal numbers, as hypothesis needs it.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import pytest

SHOWN_SECONDS = 5.0
"""Parts below are summed up in one line."""


@pytest.fixture(autouse=True)
def subnormal_numbers() -> Iterator[None]:
    """Undo what a site's service sets for its thread, since the next test in this process runs in the same thread."""
    yield
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_flush_denormal(False)


def part_of(nodeid: str) -> str:
    """Return the part of a test: its folder, at most two deep below tests, as in ``client/ledger``."""
    folders = PurePosixPath(nodeid.partition("::")[0]).parent.parts[1:]
    return "/".join(folders[:2]) or "."


@dataclass
class Cost:
    """What one part took."""

    seconds: float = 0.0
    tests: int = 0


def table(costs: Mapping[str, Cost]) -> list[str]:
    """Return one line for each dear part, the dearest first, and the sums."""
    dear = sorted(costs.items(), key=lambda item: -item[1].seconds)
    lines = [f"{c.seconds:7.1f} s {c.tests:6d} tests  {part}" for part, c in dear if c.seconds >= SHOWN_SECONDS]
    cheap = [cost for _, cost in dear if cost.seconds < SHOWN_SECONDS]
    for what, some in (("all other parts", cheap), ("in all, over all workers", list(costs.values()))):
        lines.append(f"{sum(c.seconds for c in some):7.1f} s {sum(c.tests for c in some):6d} tests  {what}")
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table; set-up and tear-down count where they happen."""
    costs: defaultdict[str, Cost] = defaultdict(Cost)
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                cost = costs[part_of(report.nodeid)]
                cost.seconds += report.duration
                cost.tests += report.when == "call"
    if costs:
        terminalreporter.section("what the parts cost")
        for line in table(costs):
            terminalreporter.write_line(line)

"""What a bench answers, and the timing that benches share."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Line:
    """One figure; printed as one line of JSON."""

    name: str
    value: float
    unit: str
    detail: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the line as it is printed."""
        return json.dumps({"name": self.name, "value": self.value, "unit": self.unit, "detail": dict(self.detail)})


def seconds(work: Callable[[], object]) -> float:
    """Return how long one call takes by the clock."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def interleaved(repeats: int, **works: Callable[[], object]) -> dict[str, float]:
    """Return the median seconds of each piece of work, run in turns so that a busy machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(values) for name, values in times.items()}

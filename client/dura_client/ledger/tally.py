"""How often each mechanism ran on each cohort: two small tables that grow, ready for sums over kinds of patients."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from dura_client.ledger.renyi import ORDERS, divergences
from dura_common.privacy.loss import Sampled

Spending = Counter[Sampled]
"""Mechanism to how often it ran."""


class Tally:
    """What cohorts have spent, in one study or in several."""

    def __init__(self) -> None:
        self.cohorts: tuple[str, ...] = ()
        """Rows of both tables."""
        self._rows: dict[str, int] = {}
        self._columns: dict[Sampled, int] = {}
        self._counts = np.zeros((8, 8), dtype=np.int64)
        self._divergence = np.zeros((8, ORDERS.size))

    def add(self, cohort: str, mechanism: Sampled, times: int) -> None:
        """Count a mechanism, or take it back (negative)."""
        if cohort not in self._rows:
            self._rows[cohort] = len(self._rows)
            self.cohorts = (*self.cohorts, cohort)
        row = self._rows[cohort]
        column = self._columns.setdefault(mechanism, len(self._columns))
        while row >= self._counts.shape[0]:
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)])
            self._divergence = np.concatenate([self._divergence, np.zeros_like(self._divergence)])
        while column >= self._counts.shape[1]:
            self._counts = np.concatenate([self._counts, np.zeros_like(self._counts)], axis=1)
        self._counts[row, column] += times
        # Recomputed, not added to: what is taken back must leave no rounding behind.
        used = np.flatnonzero(self._counts[row, : len(self._columns)])
        names = tuple(self._columns)
        self._divergence[row] = sum_of(Counter({names[index]: int(self._counts[row, index]) for index in used}))

    def items(self) -> list[tuple[str, Sampled, int]]:
        """Return every cohort, mechanism and how often it ran."""
        return [
            (cohort, mechanism, int(self._counts[row, column]))
            for cohort, row in self._rows.items()
            for mechanism, column in self._columns.items()
            if self._counts[row, column]
        ]

    def divergence(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the Rényi divergences of kinds of patients, (kinds, cohorts) to (kinds, orders)."""
        result: NDArray[np.float64] = members @ self._divergence[: len(self._rows)]
        return result

    def totals(self, members: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the counts of kinds of patients, (kinds, cohorts) to (kinds, mechanisms)."""
        # In floating point, which is several times faster than integers and exact for such counts.
        counts = self._counts[: len(self._rows), : len(self._columns)].astype(np.float64)
        return np.rint(members @ counts).astype(np.int64)

    def spending(self, counts: NDArray[np.int64]) -> Spending:
        """Return counts (mechanisms,) by mechanism."""
        return Counter({name: int(times) for name, times in zip(self._columns, counts, strict=True) if times})


def sum_of(spending: Spending) -> NDArray[np.float64]:
    """Return the Rényi divergences of a spending, (orders,)."""
    total = np.zeros(ORDERS.size)
    for mechanism, times in spending.items():
        total += times * divergences(mechanism)
    return total

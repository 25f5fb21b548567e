"""The answer of an example that stands in a table: of the patient, of the visit, or of the visit after it.

A class is the index of its name. A value is scaled by the study's public bounds to -1 to 1; the scale, and what counts
as missing, are the same for every patient, so an answer depends on that patient's rows alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import Finding, counted, found, listed
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.recordings.tables import number_of
from dura_client.data.sources.columns import MISSING_NUMBERS, PEOPLE, Tables, read_tables
from dura_common.errors import InputError
from dura_common.study import COLUMN_LABELS, DataContract


@dataclass(frozen=True)
class Answers:
    """The answers of a data set for one study."""

    contract: DataContract
    dataset: DataSet
    tables: Tables

    @declares(PrivacyClass.PER_PATIENT)
    def of(self, subject: str, session: str | None) -> float | None:
        """Return the answer of an example: the index of a class, or a value from -1 to 1; None if there is none."""
        session = session if self.contract.label != "participant" else None
        if self.contract.label == "next-session":
            session = self._next(subject, session)
        if self.contract.label != "participant" and session is None:
            return None
        return self._read(self._cell(subject, session))

    def _cell(self, subject: str, session: str | None) -> str | None:
        column = self.dataset.column_of(self.contract.column or "")
        if self.contract.label == "participant":
            return self.tables.cell(subject, None, column)
        visit = self.tables.visits.get(subject, {}).get(session or "", {})
        return visit.get(column)

    def _next(self, subject: str, session: str | None) -> str | None:
        """Return the visit after a visit; None for the last one, and where the order is not sure."""
        visits = list(self.tables.visits.get(subject, {}))
        if session not in visits or subject in self.tables.unordered:
            return None
        after = visits.index(session) + 1
        return visits[after] if after < len(visits) else None

    def _read(self, cell: str | None) -> float | None:
        if cell is None or cell in self.dataset.missing:
            return None
        if self.contract.target == "class":
            name = self.dataset.class_of(cell)
            return float(self.contract.classes.index(name)) if name in self.contract.classes else None
        return scaled(cell, self.contract.bounds or (0.0, 1.0), self.contract.outside, self.dataset.missing)

    def findings(self, examples: Iterable[tuple[str, str | None]]) -> list[Finding]:
        """Say how many examples have no answer, and why: for the data manager alone."""
        causes: Counter[str] = Counter()
        for subject, session in examples:
            if self.of(subject, session) is not None:
                continue
            last = self.contract.label == "next-session" and self._next(subject, session) is None
            cell = None if last else self._cell(subject, session)
            if last:
                causes["have no later visit"] += 1
            elif cell is None or cell in self.dataset.missing:
                causes["have no answer"] += 1
            else:
                causes["have an answer that is none of the study's"] += 1
        return [
            found("ANS-NONE", PEOPLE, f"{counted(count, 'example')} {why} in the column {self.contract.column}")
            for why, count in causes.items()
        ]


def scaled(cell: str | None, bounds: tuple[float, float], outside: str, missing: Iterable[str]) -> float | None:
    """Return a cell scaled by public bounds to -1 to 1; None if it is missing or no number."""
    number = None if cell is None or cell in missing else number_of(cell)
    low, high = bounds
    if number is None or (number in MISSING_NUMBERS and not low <= number <= high):
        return None
    if not low <= number <= high and outside == "missing":
        return None
    return 2 * (min(max(number, low), high) - low) / (high - low) - 1


def label_kind(contract: DataContract) -> type[np.int64 | np.float32]:
    """Return the type of labels as a model sees them: int64 classes, or float32 values."""
    return np.int64 if contract.target == "class" else np.float32


def answers_for(dataset: DataSet, contract: DataContract) -> Answers | None:
    """Return the answers of a data set; None if the study's labels stand in no table.

    Raises:
        InputError: no table has the column.
    """
    if contract.label not in COLUMN_LABELS:
        return None
    answers = Answers(contract, dataset, read_tables(dataset))
    column = dataset.column_of(contract.column or "")
    known = answers.tables.columns()
    if column not in known:
        raise InputError(
            f"no table of the data set {dataset.name} has a column {column!r}",
            hint=f"Columns there: {listed(sorted(known)) or 'none'}. Say which one the study means: `dura site data "
            f"update {dataset.name} --column {contract.column}=NAME`, or name the table with --table.",
        )
    return answers

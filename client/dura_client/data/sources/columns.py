"""What the tables of a data set say of each patient and of each visit; every oddity of a table is told.

``participants.tsv``, ``sub-LABEL/sub-LABEL_sessions.tsv`` and the tables that the registration names (a phenotype
table, or volumes of a derivative) are joined by ``participant_id`` and, where there is one, ``session_id``: exactly as
they are written. A cell that two rows give differently counts as missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import Finding, found
from dura_client.data.recordings.source import Unreadable
from dura_client.data.recordings.tables import MISSING, Table, read_table
from dura_common.errors import InputError

PEOPLE = "participants.tsv"
MISSING_NUMBERS = frozenset({-9999.0, -999.0, -99.0})
"""Numbers that stand for a missing value wherever no bounds allow them; the list is the same for every patient."""
EMPTY = frozenset({*MISSING, "", "N/A", "NA", "nan", "NaN", "null", "."})


@dataclass
class Tables:
    """Cells by patient, and by patient and visit."""

    people: dict[str, dict[str, str]] = field(default_factory=dict)
    visits: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    """Patient to visit to column to cell; visits come in order."""
    unordered: set[str] = field(default_factory=set)
    """Patients whose dates contradict the order of their visits' labels."""
    findings: list[Finding] = field(default_factory=list)

    def cell(self, subject: str, session: str | None, column: str) -> str | None:
        """Return a cell of a visit, else of the patient; None if it is missing."""
        visit = self.visits.get(subject, {}).get(session or "", {})
        said = visit.get(column, self.people.get(subject, {}).get(column))
        return None if said is None or said in EMPTY else said

    def columns(self) -> set[str]:
        """Return the names of all columns."""
        rows: Iterable[Mapping[str, str]] = (
            *self.people.values(),
            *(row for visits in self.visits.values() for row in visits.values()),
        )
        return {name for row in rows for name in row}


def read_tables(dataset: DataSet) -> Tables:
    """Return what the tables of a data set say.

    Raises:
        InputError: a table that the registration names is not there or cannot be used.
    """
    root, tables = Path(dataset.root), Tables()
    if (root / PEOPLE).exists():
        _take(tables, root / PEOPLE, PEOPLE, needed=False)
    for name in dataset.tables:
        _take(tables, root / name, name, needed=True)
    for path in sorted(root.glob("sub-*/sub-*_sessions.tsv")):
        _take(tables, path, str(path.relative_to(root)), needed=False, subject=path.parent.name.removeprefix("sub-"))
    for subject, visits in tables.visits.items():
        tables.visits[subject] = dict(sorted(visits.items(), key=lambda item: in_order(item[0])))
        dates = [row["acq_time"] for row in tables.visits[subject].values() if row.get("acq_time", "n/a") not in EMPTY]
        if dates != sorted(dates):
            tables.unordered.add(subject)
            tables.findings.append(
                found("SES-ORDER", f"sub-{subject}", "the dates of its visits do not follow the labels of the visits")
            )
    return tables


def table_files(dataset: DataSet) -> list[Path]:
    """Return the tables of a data set that are there."""
    root = Path(dataset.root)
    named = [root / PEOPLE, *(root / name for name in dataset.tables), *root.glob("sub-*/sub-*_sessions.tsv")]
    named += [root / dataset.series] if dataset.series else []
    return [path for path in named if path.exists()]


def in_order(label: str) -> tuple[list[int], str]:
    """Return by what visits are ordered: the numbers in their labels."""
    return [int(digits) for digits in re.findall(r"\d+", label)], label


def _take(tables: Tables, path: Path, place: str, *, needed: bool, subject: str | None = None) -> None:
    try:
        table = read_table(path)
    except (Unreadable, OSError) as error:
        if needed:
            raise InputError(
                f"a table of the data set cannot be read: {place}",
                hint="Name tables below the data set's folder: `dura site data update NAME --table FILE`.",
            ) from error
        tables.findings.append(found("SIDE-TABLE", place, "it cannot be read"))
        return
    key = "session_id" if subject is not None else "participant_id"
    if key not in table:
        if needed or any(problem.kind in {"separator", "twice"} for problem in table.problems):
            cause = "; ".join(problem.text for problem in table.problems) or f"it has no column {key}"
            if needed:
                raise InputError(f"the table {place} cannot be used: {cause}", hint="Save it with tabs, as BIDS wants.")
            tables.findings.append(found("SIDE-TABLE", place, cause))
        return
    twice = sum(_row(tables, table, index, subject) for index in range(len(table.rows)))
    if twice:
        tables.findings.append(
            found("PART-DUP", place, f"{twice} cells are given twice with different values; they count as missing")
        )


def _row(tables: Tables, table: Table, index: int, subject: str | None) -> int:
    """Take one row; return how many of its cells contradict what is known."""
    row = {name: cell.strip() for name, cell in zip(table.columns, table.rows[index], strict=True)}
    owner = subject if subject is not None else row.pop("participant_id").removeprefix("sub-")
    session = row.pop("session_id", None)
    if session is not None and session not in EMPTY:
        known = tables.visits.setdefault(owner, {}).setdefault(session.removeprefix("ses-"), {})
    else:
        known = tables.people.setdefault(owner, {})
    against = 0
    for name, cell in row.items():
        if known.get(name, cell) != cell and cell not in EMPTY and known[name] not in EMPTY:
            known[name] = "n/a"
            against += 1
        elif cell not in EMPTY or name not in known:
            known[name] = cell
    return against

"""A study's features in the tables of a data set: how many cells of each are missing, no number, or out of bounds."""

from __future__ import annotations

from collections import Counter, defaultdict

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import WHOLE, Finding, counted, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.tables import number_of
from dura_client.data.sources.columns import MISSING_NUMBERS, Tables, read_tables
from dura_common.errors import InputError
from dura_common.study import TableContract

ALIKE = 4
"""Fewest features by which two patients' rows are compared."""


def feature_findings(dataset: DataSet, contract: TableContract) -> list[Finding]:
    """Return what a study would meet in the columns of its features."""
    try:
        tables = read_tables(dataset)
    except InputError:
        return []  # the source says it
    findings = []
    for name in contract.names:
        if name != contract.relative_to and contract.relative_to is not None:
            continue  # its bounds are those of a ratio
        findings += _feature(dataset, contract, tables, name)
    return [*findings, *_same_rows(dataset, contract, tables)]


def _cells(dataset: DataSet, tables: Tables, name: str) -> list[str | None]:
    column = dataset.column_of(name)
    people = sorted({*tables.people, *tables.visits})
    return [tables.cell(subject, session, column) for subject in people for session in _sessions(tables, subject)]


def _sessions(tables: Tables, subject: str) -> list[str | None]:
    return [*tables.visits.get(subject, ())] or [None]


def _feature(dataset: DataSet, contract: TableContract, tables: Tables, name: str) -> list[Finding]:
    low, high = contract.features[name]
    cells = _cells(dataset, tables, name)
    filled = [cell for cell in cells if cell is not None and cell not in dataset.missing]
    numbers = [number_of(cell) for cell in filled]
    coded = [number for number in numbers if number in MISSING_NUMBERS and not low <= (number or 0.0) <= high]
    outside = [number for number in numbers if number is not None and number not in coded and not low <= number <= high]
    findings = []
    texts = sum(number is None for number in numbers)
    if texts:
        cause = f"{dataset.column_of(name)}: {texts} of {len(cells)} cells are not numbers and count as missing"
        findings.append(found("PART-BOUND", WHOLE, cause))
    absent = len(cells) - len(filled) + len(coded)
    if absent:
        cause = f"{dataset.column_of(name)}: {absent} of {len(cells)} cells are missing"
        findings.append(found("PART-CODE", WHOLE, cause, grade=Grade.KNOW, remedy="Fill the cells if they are known."))
    if outside:
        as_what = "as missing" if contract.outside == "missing" else "as the nearest bound"
        cause = (
            f"{dataset.column_of(name)}: {counted(len(outside), 'number')} outside the study's {low:g} to {high:g} "
            f"count {as_what}"
        )
        remedy = "Look at their unit and at slips of the pen; mend the table, then check again."
        findings.append(found("PART-BOUND", WHOLE, cause, remedy=remedy))
    return findings


def _same_rows(dataset: DataSet, contract: TableContract, tables: Tables) -> list[Finding]:
    """Say which patients share every number of the study."""
    if len(contract.names) < ALIKE:
        return []
    owners: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for subject in {*tables.people, *tables.visits}:
        for session in _sessions(tables, subject):
            cells = [tables.cell(subject, session, dataset.column_of(name)) for name in contract.names]
            whole = tuple(cell for cell in cells if cell is not None)
            if len(whole) == len(cells) and len(Counter(whole)) >= ALIKE:
                owners[whole].add(subject)
    return [
        found(
            "COPY-PROB",
            WHOLE,
            f"{listed(f'sub-{one}' for one in sorted(group))} have the same numbers in {len(contract.names)} features",
            remedy="Find out whose row it is and mend or remove the other.",
        )
        for group in owners.values()
        if len(group) > 1
    ]

"""Series of regions as a whole: patients without one, files that only look like one, copies, and odd columns."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import WHOLE, Finding, found, listed
from dura_client.data.recordings.folder import PACKED, entities_of
from dura_client.data.recordings.source import Unreadable
from dura_client.data.sources.columns import read_tables
from dura_client.data.sources.fmri.series import Series, find_series, read_series
from dura_common.errors import InputError
from dura_common.study import ConnectomeContract

SHARED = 0.2
"""Share of the shorter series' volumes that are the same in another: a copy that was cut."""
MOST_PAIRED = 16
"""Series with one volume in common, up to which every two are compared; of more, each with the next one."""
ENDING = "_timeseries"
CODED = (-9999.0, -999.0)


def series_findings(dataset: DataSet, contract: ConnectomeContract) -> list[Finding]:
    """Return what a study would meet in the series of a data set; volumes with an atlas have checks of their own."""
    if dataset.atlas is not None:
        return []
    try:
        people = find_series(dataset, contract)
    except InputError:
        people = {}
    findings = [] if dataset.series else _near_names(Path(dataset.root), contract)
    if not people:
        return findings
    findings += _without(dataset, people)
    seen: list[tuple[str, Series, set[bytes]]] = []
    for item in (one for items in people.values() for one in items):
        try:
            values = read_series(item)
        except Unreadable:
            continue  # the source says it
        place = _place(dataset, item)
        findings += _columns(values, place)
        rows = {hashlib.sha256(row.tobytes()).digest() for row in values.round(6)}
        seen.append((place, item, rows))
    return [*findings, *_copies(seen)]


def _place(dataset: DataSet, item: Series) -> str:
    root = Path(dataset.root).resolve()
    path = item.path.resolve()
    name = str(path.relative_to(root)) if path.is_relative_to(root) else item.path.name
    return f"{name} ({item.key})" if item.key else name


def _near_names(root: Path, contract: ConnectomeContract) -> list[Finding]:
    """Name files that would be series of the study but for capitals, a packed ending or another ending."""
    findings = []
    for path in sorted(root.rglob(f"*{ENDING}*")):
        parts = {key.lower(): value for key, value in entities_of(path.name).items()}
        atlas, task = parts.get("atlas", parts.get("seg", "")), parts.get("task", "")
        if atlas.lower() != contract.atlas.lower() or task.lower() != contract.task.lower():
            continue
        place = str(path.relative_to(root))
        ending = path.name.partition(ENDING)[2]
        if (atlas, task) != (contract.atlas, contract.task):
            cause = f"the study's names are atlas-{contract.atlas} and task-{contract.task}; it is not used"
            findings.append(found("FILE-CASE", place, cause))
        elif ending.lower().endswith(PACKED):
            findings.append(found("FILE-GZ", place, f"its name ends in {ending}; it is not used"))
        elif ending not in {".tsv", ".json"}:
            cause = f"series with such names end in .tsv, and this one in {ending or 'nothing'}; it is not used"
            findings.append(found("FILE-KNOWN", place, cause, remedy="Save it as .tsv, or list it in a mapping."))
    return findings


def _without(dataset: DataSet, people: Mapping[str, list[Series]]) -> list[Finding]:
    tables = read_tables(dataset)
    known = {*tables.people, *tables.visits}
    absent = sorted(known - set(people))
    unlisted = sorted(set(people) - known)
    findings = []
    if absent:
        cause = f"patients with a row and without a series for the study: {listed(f'sub-{one}' for one in absent)}"
        findings.append(found("PART-ROW", WHOLE, cause))
    if unlisted:
        cause = f"patients with a series and without a row: {listed(f'sub-{one}' for one in unlisted)}"
        findings.append(found("PART-ROW", WHOLE, cause))
    return findings


def _columns(values: NDArray[np.float64], place: str) -> list[Finding]:
    findings = []
    if len(values) > 1:
        steps = np.diff(values, axis=0)
        counting = np.flatnonzero((steps == steps[0]).all(axis=0) & (steps[0] != 0))
        if counting.size:
            cause = f"{_numbered(counting)} rises by the same step from volume to volume, as a row number does"
            remedy = "Remove the column that counts, so that each column is a region of the atlas."
            findings.append(found("ROI-KIND", place, cause, remedy=remedy))
    coded = np.flatnonzero(np.isin(values, CODED).any(axis=0))
    if coded.size:
        cause = f"{_numbered(coded)} holds numbers that stand for a missing value (-9999 or -999)"
        findings.append(found("ROI-FLAT", place, cause, remedy="Write n/a there: the number distorts every edge."))
    kinds: dict[bytes, list[int]] = defaultdict(list)
    for index, column in enumerate(values.T):
        if np.isfinite(column).all() and column.std() > 0:
            kinds[column.tobytes()].append(index)
    alike = [np.array(group) for group in kinds.values() if len(group) > 1]
    findings += [found("ROI-SAME", place, f"{_numbered(group)} hold the same series") for group in alike]
    return findings


def _numbered(indices: Iterable[int]) -> str:
    places = [str(index + 1) for index in indices]
    return f"column {places[0]}" if len(places) == 1 else f"columns {listed(places)}"


def _copies(seen: Sequence[tuple[str, Series, set[bytes]]]) -> list[Finding]:
    """Say which series share volumes: whole copies, and copies that were cut."""
    holders: dict[bytes, list[int]] = defaultdict(list)
    for number, (_, _, rows) in enumerate(seen):
        for row in rows:
            holders[row].append(number)
    shared: Counter[tuple[int, int]] = Counter()
    for numbers in holders.values():
        # Padding that all series share would otherwise cost a comparison of all with all.
        shared.update(combinations(numbers, 2) if len(numbers) <= MOST_PAIRED else pairwise(numbers))
    findings = []
    for (one, other), count in sorted(shared.items()):
        (place, mine, rows), (there, theirs, others) = seen[one], seen[other]
        if count < SHARED * min(len(rows), len(others)):
            continue
        whole = count == len(rows) == len(others)
        own = mine.subject == theirs.subject
        code = "COPY-OWN" if own else "COPY-SAME" if whole else "COPY-PROB"
        what = "holds the same series" if whole else f"shares {count} volumes with it"
        findings.append(found(code, place, f"{there} (sub-{theirs.subject}) {what}; this one is of sub-{mine.subject}"))
    return findings

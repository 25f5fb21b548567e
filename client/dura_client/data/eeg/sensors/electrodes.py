"""Positions of electrodes as a data set gives them: dura uses those of the names, so these are only judged."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.recordings.folder import BidsFolder, Recording
from dura_client.data.recordings.sidecars import merged_json, nearest_table
from dura_client.data.recordings.tables import MISSING, Table, number_of

HEAD_METRES = (0.04, 0.25)
"""Median distance of scalp electrodes from the origin of any usual coordinate system of a head."""
IN_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
RIGHT_FIRST = {"CapTrak", "MNI152Lin", "Talairach", "ACPC"}
"""Systems whose first axis points to the right ear."""
FEWEST_SIDED = 4
AXES = ("x", "y", "z")


def electrode_findings(folder: BidsFolder, recording: Recording, labels: Sequence[str]) -> tuple[Finding, ...]:
    """Return what is wrong with the positions that apply to a recording, if there are any."""
    table, path, findings = nearest_table(folder, recording, "_electrodes.tsv")
    if table is None or path is None:
        return findings
    place = folder.place(path)
    absent = [name for name in ("name", *AXES) if name not in table]
    if absent:
        return (*findings, found("SIDE-POS", place, f"it has no column {' and no column '.join(absent)}"))
    system = merged_json(folder, recording, "_coordsystem.json")
    causes = [*_names(table, labels), *_positions(table, system.content)]
    return (*findings, *system.findings, *(found("SIDE-POS", place, cause) for cause in causes))


def _names(table: Table, labels: Sequence[str]) -> list[str]:
    """Return what is wrong with the names, as causes."""
    names = [name.lower() for name in table.column("name")]
    common = [label for label in labels if label.lower() in names]
    without = [label for label in labels if label.lower() not in names]
    twice = sorted({name for name in names if names.count(name) > 1})
    causes = [f"it lists {listed(twice)} more than once"] if twice else []
    if len(common) * 2 < len(labels):
        causes.append(f"of the recording's {len(labels)} channels it has {listed(common) or 'none'}")
    elif without:
        causes.append(f"it has no row for {listed(without)}")
    return causes


def _positions(table: Table, system: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the positions, as causes."""
    rows = [row for row in zip(*(table.column(axis) for axis in AXES), strict=True) if not MISSING & set(row)]
    numbers = [[number_of(cell) for cell in row] for row in rows]
    broken = sum(None in row for row in numbers)
    whole = np.array([row for row in numbers if None not in row], dtype=np.float64)
    factor = IN_METRES.get(str(system.get("EEGCoordinateUnits", "")))
    distance = float(np.median(np.linalg.norm(whole * (factor or 1.0), axis=1))) if len(whole) else 0.0
    undeclared = not {"EEGCoordinateUnits", "EEGCoordinateSystem"} <= set(system)
    mirrored = str(system.get("EEGCoordinateSystem", "")) in RIGHT_FIRST and _mirrored(table)
    outside = len(whole) and factor is not None and not HEAD_METRES[0] <= distance <= HEAD_METRES[1]
    causes = (
        (broken, f"{broken} positions are not numbers"),
        (not rows, "no electrode has a position"),
        (undeclared, "no _coordsystem.json says in which system and unit its positions are"),
        (len(whole) and len(np.unique(whole, axis=0)) < len(whole), "several electrodes have the same position"),
        (mirrored, "left and right are exchanged: electrodes with odd numbers lie on the right side"),
        (outside, f"its positions lie {distance:.3g} m from the middle of the head"),
    )
    return [cause for wrong, cause in causes if wrong]


def _mirrored(table: Table) -> bool:
    """Tell whether most electrodes with odd numbers, which belong to the left, lie on the right, and the even left."""
    sides = []
    for name, cell in zip(table.column("name"), table.column("x"), strict=True):
        digits, x = re.search(r"(\d+)$", name), number_of(cell)
        if digits and x:
            sides.append((x > 0) == (int(digits[1]) % 2 == 1))
    return len(sides) >= FEWEST_SIDED and sum(sides) * 2 > len(sides)

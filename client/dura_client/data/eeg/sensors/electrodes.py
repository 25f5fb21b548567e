"""Positions of electrodes as a data set gives them: dura uses those of the names, so these are only judged."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.recordings.folder import BidsFolder, Recording
from dura_client.data.recordings.sidecars import merged_json, nearest_table
from dura_client.data.recordings.tables import MISSING, number_of

HEAD_METRES = (0.04, 0.25)
"""Median distance of scalp electrodes from the origin of any usual coordinate system of a head."""
IN_METRES = {"m": 1.0, "cm": 1e-2, "mm": 1e-3}
AXES = ("x", "y", "z")


def electrode_findings(folder: BidsFolder, recording: Recording, labels: Sequence[str]) -> tuple[Finding, ...]:
    """Return what is wrong with the positions that apply to a recording, if there are any."""
    table, path, findings = nearest_table(folder, recording, "_electrodes.tsv")
    if table is None or path is None:
        return findings
    place, said = folder.place(path), list(findings)
    absent = [name for name in ("name", *AXES) if name not in table]
    if absent:
        return (*said, found("SIDE-POS", place, f"it has no column {' and no column '.join(absent)}"))
    names = {name.lower() for name in table.column("name")}
    common = [label for label in labels if label.lower() in names]
    if len(common) * 2 < len(labels):
        said.append(
            found("SIDE-POS", place, f"of the recording's {len(labels)} channels it has {listed(common) or 'none'}")
        )
    cells = [table.column(axis) for axis in AXES]
    rows = [row for row in zip(*cells, strict=True) if not MISSING & set(row)]
    numbers = [[number_of(cell) for cell in row] for row in rows]
    broken = sum(None in row for row in numbers)
    if broken:
        said.append(found("SIDE-POS", place, f"{broken} positions are not numbers"))
    whole = np.array([row for row in numbers if None not in row], dtype=np.float64)
    system = merged_json(folder, recording, "_coordsystem.json")
    said += system.findings
    factor = IN_METRES.get(str(system.content.get("EEGCoordinateUnits", "")))
    if len(whole) and factor is not None:
        distance = float(np.median(np.linalg.norm(whole * factor, axis=1)))
        if not HEAD_METRES[0] <= distance <= HEAD_METRES[1]:
            said.append(found("SIDE-POS", place, f"its positions lie {distance:.3g} m from the middle of the head"))
    return tuple(said)

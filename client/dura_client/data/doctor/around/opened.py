"""One table of a data set, opened with a finding for everything that is odd about its file."""

from __future__ import annotations

from pathlib import Path

from dura_client.data.findings.finding import Finding, found
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.recordings.sidecars import broken
from dura_client.data.recordings.source import Unreadable
from dura_client.data.recordings.tables import Table, read_table


def opened_table(folder: BidsFolder, path: Path, findings: list[Finding]) -> Table | None:
    """Return a table that can be used, or None; what is odd is added to the findings."""
    place = folder.place(path)
    if not path.exists() and not path.is_symlink():
        if path.name == "participants.tsv":
            findings.append(found("PART-ROW", place, "there is no participants.tsv"))
        return None
    try:
        table = read_table(path)
    except Unreadable as error:
        findings.append(broken(place, error))
        return None
    for problem in table.problems:
        code = {"encoding": "EV-ENC", "bom": "EV-ENC", "empty": "SIDE-NONE"}.get(problem.kind, "SIDE-TABLE")
        findings.append(found(code, place, problem.text, grade=Grade.KNOW if problem.harmless else None))
    if table.columns and not table.rows:
        findings.append(found("SIDE-NONE", place, "it has a header and no row"))
    return table if table.columns else None

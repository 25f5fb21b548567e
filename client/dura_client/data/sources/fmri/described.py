"""What the JSON files beside volumes say of them, by the rules of inheritance of BIDS."""

from __future__ import annotations

from pathlib import Path

from dura_client.data.findings.finding import Finding, found
from dura_client.data.recordings.folder import BidsFolder, Recording, entities_of
from dura_client.data.recordings.sidecars import merged_json

SAME_SHARE = 0.01
"""Times that differ by less are the same: headers round them."""


def time_findings(folder: BidsFolder, path: Path, place: str, seconds: float | None) -> list[Finding]:
    """Say whether the time between volumes differs between a scan's header and its description.

    Args:
        folder: of the data set, or of the pipeline that wrote the scan.
        path: of the scan.
        place: of the scan, as findings name it.
        seconds: by the header; None if it does not say.
    """
    merged = merged_json(folder, Recording(path, entities_of(path.name)["sub"]), "_bold.json")
    said = merged.content.get("RepetitionTime")
    if not isinstance(said, int | float) or isinstance(said, bool) or seconds is None:
        return list(merged.findings)
    if abs(said - seconds) <= SAME_SHARE * max(abs(said), seconds):
        return list(merged.findings)
    cause = f"the header says {seconds:g} s, and the description beside it {said:g} s"
    return [*merged.findings, found("ROI-TIME", place, cause)]


def folder_above(root: Path, path: Path) -> Path:
    """Return the folder above the patients' folders: that of the data set, or of a pipeline below derivatives."""
    names = path.relative_to(root).parts
    depth = next((index for index, name in enumerate(names) if name.startswith("sub-")), len(names) - 1)
    return root.joinpath(*names[:depth])

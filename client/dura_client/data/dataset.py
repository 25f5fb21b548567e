"""A data set as its registration describes it: where recordings lie, what event codes mean, whether it is public."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from dura_common.errors import InputError
from dura_common.runtime.files import parse_json, read_limited
from dura_common.study import Digest, Frozen, Word, explain_validation

KNOWN_LABELS = {
    "left": "left_hand",
    "lh": "left_hand",
    "769": "left_hand",
    "right": "right_hand",
    "rh": "right_hand",
    "770": "right_hand",
}
"""Codes of motor-imagery sets whose meaning is a convention of the field (769/770: the Graz GDF table)."""
SIMULATOR = "dura simulate"


class Atlas(Frozen):
    """The atlas by which volumes become series of regions."""

    name: Word
    """As studies call it."""
    file: str
    """An image of labels: absolute, or below the data set's folder."""
    digest: Digest
    """SHA-256 of the file when it was registered; another file is refused."""


class DataSet(Frozen):
    """One registered data set."""

    name: Word
    root: str
    """Absolute path of the BIDS folder."""
    source: Literal["eeg", "meg", "fmri", "table"] = "eeg"
    """What the data are; only studies that ask for this source can use them."""
    task: Word | None = None
    """BIDS task label of the recordings; a table has none."""
    labels: dict[str, Word] = Field(default_factory=dict)
    """Local event code, or cell of a column, to class name; what is not listed counts as a class name itself."""
    scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Factor that brings the stored values to volts, of MEG to tesla and tesla per metre."""
    scales: dict[str, Annotated[float, Field(gt=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    """The same for single recordings (path below the folder) or all of a patient (``sub-01``)."""
    columns: dict[Word, str] = Field(default_factory=dict)
    """Column name in studies to the local name of the column."""
    tables: tuple[str, ...] = ()
    """Tables below the folder that are read beside participants.tsv and the sessions.tsv of patients."""
    missing: tuple[str, ...] = ()
    """Cells that stand for a missing value here, beside n/a."""
    series: str = ""
    """Of fMRI: the mapping below the folder that lists files with series; without it, names say what a file is."""
    atlas: Atlas | None = None
    """Of fMRI: with it the data are volumes; without it they are series."""
    public: bool = False
    simulated: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.task is None) != (self.source == "table"):
            raise ValueError("task: recordings have a BIDS task label, and a table has none")
        if self.series and self.source != "fmri":
            raise ValueError(f'series: a mapping of series has no meaning with source = "{self.source}"')
        if self.atlas is not None and (self.source != "fmri" or self.series):
            raise ValueError("atlas: it belongs to volumes of fMRI, and a mapping of series has its own regions")
        for name in (*self.tables, *([self.series] if self.series else [])):
            if Path(name).is_absolute() or ".." in Path(name).parts:
                raise ValueError(f"tables and mappings lie below the data set's folder, got {name}")
        return self

    def column_of(self, name: str) -> str:
        """Return the local name of a column."""
        return self.columns.get(name, name)

    def class_of(self, code: str, levels: Mapping[str, str] | None = None) -> str:
        """Return the class name of an event code.

        The registration's word counts most, then the recording's own sidecars (``levels``), then what means the same
        everywhere; otherwise the code itself is the name.
        """
        if code in self.labels:
            return self.labels[code]
        return (levels or {}).get(code) or KNOWN_LABELS.get(code.lower(), code)

    def scale_of(self, place: str) -> float:
        """Return the factor for a recording, by its path below the folder."""
        return self.scales.get(place, self.scales.get(place.partition("/")[0], self.scale))


def dataset_of(**fields: object) -> DataSet:
    """Return a data set of these fields.

    Raises:
        InputError: a field is not what it should be.
    """
    try:
        return DataSet.model_validate(fields)
    except ValidationError as error:
        raise explain_validation(error, what="the arguments") from error


def is_simulated(root: Path) -> bool:
    """Tell whether a BIDS folder was written by dura's own simulator; one that cannot be read was not.

    The check names what is wrong with the description.
    """
    description = root / "dataset_description.json"
    if not description.exists():
        return False
    try:
        content = parse_json(read_limited(description, what=description.name), what=description.name)
    except InputError:
        return False
    generated = content.get("GeneratedBy", [])
    return isinstance(generated, list) and any(
        isinstance(item, dict) and item.get("Name") == SIMULATOR for item in generated
    )

"""Everybody of whom a data set holds something, by label: for the data manager's and the officer's own commands."""

from __future__ import annotations

from pathlib import Path

from dura_client.data.dataset import DataSet
from dura_client.data.eeg.bids import find_recordings
from dura_client.data.sources.columns import read_tables


def subjects_of(dataset: DataSet) -> set[str]:
    """Return the labels of patients with recordings of the task or, for other sources, with a folder or a row.

    Raises:
        InputError: there are no recordings, or a table that the registration names cannot be read.
    """
    if dataset.source in {"eeg", "meg"}:
        return {recording.subject for recording in find_recordings(dataset)}
    tables = read_tables(dataset)
    folders = {path.name.removeprefix("sub-") for path in Path(dataset.root).glob("sub-*") if path.is_dir()}
    return folders | set(tables.people) | set(tables.visits)

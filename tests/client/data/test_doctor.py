"""The check finds what is wrong with a folder and survives what it finds."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dura_client.data.dataset import DataSet
from dura_client.data.doctor import diagnose
from dura_common.errors import InputError


def test_a_sound_folder_has_no_fault(hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """Everything is counted under the names of the classes."""
    found = diagnose(registered(hospitals / "west"))
    assert (found.patients, found.recordings, found.readable) == (3, 3, 3)
    assert found.events == {"left_hand": 12, "right_hand": 12}
    assert found.rates == {200.0: 3}
    assert found.line_frequencies == {"60": 3}
    assert set(found.channels.values()) == {3}
    assert found.faults == ()


def test_wrong_units_and_unmapped_codes_show(hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """The scale is suggested; codes nobody mapped keep their local names."""
    assert "--scale 0.001" in diagnose(registered(hospitals / "south", scale=1.0)).faults[0]
    assert set(diagnose(registered(hospitals / "west", labels={})).events) == {"1", "2"}


def test_broken_duplicate_and_silent_recordings_are_named(
    own_copy: Callable[[str], Path], registered: Callable[..., DataSet]
) -> None:
    """One broken file does not hide the others; a recording filed under two patients is found by its samples."""
    root = own_copy("north")
    stem = "{0}/eeg/{0}_task-motorimagery_"
    (root / (stem.format("sub-001") + "eeg.edf")).write_bytes(b"not EDF")
    shutil.copy(root / (stem.format("sub-002") + "eeg.edf"), root / (stem.format("sub-003") + "eeg.edf"))
    (root / (stem.format("sub-003") + "events.tsv")).write_text("onset\tduration\ttrial_type\n")
    seen: list[tuple[int, int]] = []
    found = diagnose(registered(root), lambda done, total: seen.append((done, total)))
    assert found.readable == 2
    assert any("sub-001/eeg" in fault and "cannot be read" in fault for fault in found.faults)
    assert any("sub-003" in fault and "same samples as sub-002" in fault for fault in found.faults)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    json.dumps(found.faults)


def test_no_recordings_is_an_error(hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """A task that nobody recorded is not an empty success."""
    with pytest.raises(InputError, match="no recordings of the task"):
        diagnose(registered(hospitals / "west", task="rest"))

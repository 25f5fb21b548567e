"""What the check says of segments, answers and series that cannot be used as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client.data.sources.test_series import contract as connectomes
from tests.client.data.sources.test_series import series
from tests.client.data.sources.test_series import write as write_series

from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.simulated.kinds import dataset_for, simulate_for
from dura_common.study.data import EegContract


def stages(**changes: Any) -> EegContract:
    """Return a contract for windows of two annotated stages."""
    fields: dict[str, Any] = {
        "task": "sleep",
        "cut": "segments",
        "label": "annotation",
        "channels": ("C3", "C4", "O1", "O2"),
        "sampling_rate": 64.0,
        "band": (1.0, 30.0),
        "window_length": 4.0,
        "classes": ("awake", "asleep"),
        "minimum_patients": 1,
    }
    return EegContract.model_validate({**fields, **changes})


def without_durations(lines: list[list[str]]) -> None:
    """Let every annotation last no time."""
    column = lines[0].index("duration")
    for line in lines[1:]:
        line[column] = "0"


def with_a_bad_stretch(lines: list[list[str]]) -> None:
    """Mark the middle of the first stage as bad."""
    onset, duration, kind = (lines[0].index(word) for word in ("onset", "duration", "trial_type"))
    bad = list(lines[1])
    bad[onset], bad[duration], bad[kind] = str(float(lines[1][onset]) + 1.0), "2", "BAD_moved"
    lines.append(bad)


def untouched(_lines: list[list[str]]) -> None:
    """Change nothing."""


@pytest.mark.parametrize(
    ("change", "code"), [(untouched, None), (without_durations, "CUT-SPAN"), (with_a_bad_stretch, "CUT-LOST")]
)
def test_annotations_that_give_no_windows_are_named(
    tmp_path: Path, change: Callable[[list[list[str]]], None], code: str | None
) -> None:
    """A stage without a duration and a stage under a BAD mark are findings, and whole stages are none."""
    root, asked = tmp_path / "site", stages()
    simulate_for(root, asked, 0, first=1, patients=3, trials=6, seed=1)
    for path in root.rglob("*_events.tsv"):
        lines = [line.split("\t") for line in path.read_text().splitlines()]
        change(lines)
        path.write_text("\n".join("\t".join(line) for line in lines) + "\n")
    codes = {item.code for item in diagnose(dataset_for("nights", root, asked), asked).findings}
    assert codes & {"CUT-SPAN", "CUT-LOST"} == ({code} if code else set())


def test_a_column_that_no_table_has_is_named(tmp_path: Path) -> None:
    """A study that asks for a diagnosis finds no such column, and the check says so for the whole data set."""
    written = stages(label="annotation")
    root = tmp_path / "site"
    simulate_for(root, written, 0, first=1, patients=3, trials=6, seed=1)
    asked = stages(label="participant", column="diagnosis", classes=("control", "patient"))
    (said,) = [item for item in diagnose(dataset_for("rest", root, asked), asked).findings if item.code == "ANS-COL"]
    assert "diagnosis" in said.cause


def test_a_file_that_is_no_table_of_numbers_is_named(tmp_path: Path) -> None:
    """Rows of different lengths are a finding at that file, and the scan gives no example."""
    dataset = write_series(tmp_path / "site", {"01": series(1), "02": series(2), "03": series(3)})
    (path,) = Path(dataset.root).rglob("sub-01_task-rest_atlas-Six_timeseries.tsv")
    path.write_text("r0\tr1\n1\t2\n3\n")
    found = diagnose(dataset, connectomes())
    assert {"sub-01" in item.place for item in found.findings if item.code == "ROI-KIND"} == {True}
    assert not found.windows["01"]

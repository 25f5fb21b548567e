"""The check finds what is wrong with a folder and survives what it finds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.client.data.corpus.tree import write_tree
from tests.support.commands import answer

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import Diagnosis, diagnose
from dura_client.data.doctor.together import has_meaning
from dura_client.data.findings.grade import Grade
from dura_client.site.home import SiteHome
from dura_common.errors import InputError
from dura_common.study import SignalContract


def codes(found: Diagnosis, grade: Grade) -> set[tuple[str, str]]:
    """Return code and place of findings of one grade."""
    return {(item.code, item.place) for item in found.findings if item.grade is grade}


def test_a_sound_folder_has_nothing_that_stops_or_loses(
    hospitals: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """Everything is counted under the names of the classes, against a study too."""
    found = diagnose(registered(hospitals / "west"), contract.model_copy(update={"channels": ("C3", "Cz", "C4", "Pz")}))
    assert (found.patients, found.recordings, found.readable) == (3, 3, 3)
    assert found.events == {"left_hand": 12, "right_hand": 12}
    assert found.rates == {200.0: 3}
    assert found.line_frequencies == {"60": 3}
    assert set(found.channels.values()) == {3}
    assert not found.stops
    assert codes(found, Grade.STOPS) | codes(found, Grade.LOSES) == set()
    assert found.windows == {f"00{number}": {"left_hand": 4, "right_hand": 4} for number in (1, 2, 3)}


def test_wrong_units_and_unmapped_codes_show(hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """Each recording's own factor is named; codes nobody mapped keep their local names and stop a study."""
    units = [item for item in diagnose(registered(hospitals / "south", scale=1.0)).findings if item.code == "VAL-UNIT"]
    assert len(units) == 3
    for item in units:
        assert f"data update motor --scale {item.place}=0.001`" in item.remedy
    found = diagnose(registered(hospitals / "west", labels={}))
    assert set(found.events) == {"1", "2"}
    assert codes(found, Grade.STOPS) == {("EV-MAP", "the data set")}


def test_a_code_that_the_study_asks_for_needs_no_other_meaning(
    hospitals: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """Held against a study whose classes are called 1 and 2, codes 1 and 2 stop nothing, and their windows count."""
    asked = contract.model_copy(update={"classes": ("1", "2"), "channels": ("C3", "Cz", "C4")})
    found = diagnose(registered(hospitals / "west", labels={}), asked)
    assert codes(found, Grade.STOPS) == set()
    assert found.windows["001"] == {"1": 4, "2": 4}


@pytest.mark.parametrize(("code", "meant"), [("W", True), ("N2", True), ("R", True), ("S2", False), ("A", False)])
def test_stages_of_sleep_are_no_mere_codes(
    registered: Callable[..., DataSet], tmp_path: Path, code: str, meant: bool
) -> None:
    """The AASM's abbreviations say what they mean without a study; codes that look like them do not."""
    assert has_meaning(registered(tmp_path, labels={}), code, {}, frozenset()) is meant


def test_broken_duplicate_and_silent_recordings_are_named(
    own_copy: Callable[[str], Path], registered: Callable[..., DataSet]
) -> None:
    """One broken file does not hide the others; a recording filed under two patients is found by its samples."""
    root = own_copy("north")
    stem = "{0}/eeg/{0}_task-motorimagery_"
    first, second, third = (stem.format(f"sub-00{number}") for number in (1, 2, 3))
    (root / f"{first}eeg.edf").write_bytes(b"not EDF")
    shutil.copy(root / f"{second}eeg.edf", root / f"{third}eeg.edf")
    (root / f"{third}events.tsv").write_text("onset\tduration\ttrial_type\n")
    seen: list[tuple[int, int]] = []
    found = diagnose(registered(root), progress=lambda done, total: seen.append((done, total)))
    assert found.readable == 2
    assert codes(found, Grade.STOPS) == {("FILE-HEAD", f"{first}eeg.edf"), ("COPY-SAME", f"{second}eeg.edf")}
    assert ("SIDE-NONE", f"{third}eeg.edf") in codes(found, Grade.LOSES)
    assert ("EV-FILE", f"{third}eeg.edf") in codes(found, Grade.KNOW)
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_no_recordings_is_an_error(hospitals: Path, registered: Callable[..., DataSet]) -> None:
    """A task that nobody recorded is not an empty success, and neither is a folder that is gone."""
    with pytest.raises(InputError, match="no recordings of the task"):
        diagnose(registered(hospitals / "west", task="rest"))
    with pytest.raises(InputError, match="is not there"):
        diagnose(registered(hospitals / "nowhere"))


def test_a_study_of_another_task_is_stopped(
    hospitals: Path, registered: Callable[..., DataSet], contract: SignalContract
) -> None:
    """What was registered for one task serves no study of another."""
    found = diagnose(registered(hospitals / "west"), contract.model_copy(update={"task": "rest"}))
    assert ("TASK-OTHER", "the data set") in codes(found, Grade.STOPS)


@pytest.mark.parametrize(
    "content",
    [
        b'{"GeneratedBy": null}',
        b'{"GeneratedBy": 5}',
        b"{",
        b"[]",
        b'{"a": ' + b"5" * 5000 + b"}",
        '{"Name": "Prüfung"}'.encode("latin-1"),
    ],
)
def test_a_broken_description_keeps_nobody_from_the_check(tmp_path: Path, content: bytes) -> None:
    """The folder is registered all the same, as one that was not simulated, and the check names a broken file."""
    site, tree = SiteHome(tmp_path / "site"), write_tree(tmp_path / "tree", "edf")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    (tree.root / "dataset_description.json").write_bytes(content)
    added = answer("site", "data", "add", "hands", tree.root, "--task", "mi", "--home", site, here=True)
    assert added["data"]["simulated"] is False
    check = answer("site", "data", "check", "hands", "--home", site, here=True)["check"]
    places = {item["place"] for item in check["findings"] if item["code"] == "SIDE-JSON"}
    assert places == (set() if b"GeneratedBy" in content else {"dataset_description.json"})


def test_a_name_that_is_no_text_is_told_and_printed(tmp_path: Path) -> None:
    """A file whose name is not in UTF-8 is a finding in JSON and on the page, not an error of either."""
    site, tree = SiteHome(tmp_path / "site"), write_tree(tmp_path / "tree", "edf")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    (tree.root / "sub-02" / "eeg" / os.fsdecode(b"sub-02_task-mi_\xff_eeg.edf")).write_bytes(b"x")
    answer("site", "data", "add", "hands", tree.root, "--task", "mi", "--home", site, here=True)
    words = ("site", "data", "check", "hands", "--html", tmp_path / "page.html", "--home", site)
    check = answer(*words, here=True)["check"]
    assert "sub-02/eeg/sub-02_task-mi_?_eeg.edf" in {item["place"] for item in check["findings"]}
    assert "sub-02_task-mi_?_eeg.edf" in (tmp_path / "page.html").read_text()

"""A clinic's MEG becomes BIDS-MEG: the samples, the sensors and the gaps come through, and nobody's name does."""

from __future__ import annotations

import json
from pathlib import Path

import mne
import numpy as np
import pytest
from tests.client.data.eeg.fif import NAMES, ONSETS, RATE, SECONDS, raw_of
from tests.client.data.importing.test_import import KEY, proposed, run, spec, written
from tests.support.commands import answer

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.diagnose import diagnose
from dura_client.data.findings.grade import Grade
from dura_client.data.importing.draft import draft, text_of
from dura_client.data.importing.mapping import Mapping, read_mapping
from dura_client.data.importing.run import label_of
from dura_client.data.recordings.opening import open_source
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys

CODES = {"1": "one", "2": "two"}


def save(raw: mne.io.BaseRaw, path: Path, **options: object) -> None:
    """Write a recording as a clinic has it: with a name, a birthday and a date in its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    raw.info["subject_info"] = {"first_name": "Mary", "last_name": "Miller", "his_id": "MRN0012345"}
    raw.info["experimenter"] = "Smith"
    raw.set_meas_date(1_000_000_000)
    raw.save(path, verbose="error", **options)


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Return a clinic's folder: one patient with two recordings, and another patient."""
    root = tmp_path / "clinic"
    bad = raw_of(1)
    bad.info["bads"] = ["MEG 0121"]
    save(raw_of(0), root / "Miller" / "first_raw.fif")
    save(bad, root / "Miller" / "second_raw.fif")
    save(raw_of(2), root / "Jones" / "only_raw.fif")
    return root


def answered(root: Path, **changes: object) -> Mapping:
    """Return the draft with the codes' meanings."""
    text = text_of(draft(root), root, "look")
    for code, name in CODES.items():
        text = text.replace(f'"{code}" = "?"', f'"{code}" = "{name}"')
    return read_mapping(text.encode()).model_copy(update=changes)


def stem_of(out: Path, patient: str, number: int) -> str:
    """Return the path of an imported recording without suffix and ending."""
    label = label_of(patient, KEY)
    return str(out / f"sub-{label}" / "meg" / f"sub-{label}_task-look_run-{number}")


def test_samples_sensors_and_codes_come_through(clinic: Path, tmp_path: Path) -> None:
    """Values to single precision, places of sensors, bad ones, line frequency and codes; the set is called sound."""
    mapping = answered(clinic)
    assert (mapping.source, mapping.line_frequency) == ("meg", 50)
    assert run(clinic, tmp_path / "out", mapping).recordings == 3
    stem = stem_of(tmp_path / "out", "Miller", 2)
    mine = mne.io.read_raw_fif(f"{stem}_meg.fif", verbose="error")
    theirs = mne.io.read_raw_fif(clinic / "Miller" / "second_raw.fif", verbose="error")
    assert mine.ch_names == ["".join(name.split()) for name in NAMES]
    assert mine.info["bads"] == ["MEG0121"]
    np.testing.assert_allclose(mine.get_data(), theirs.get_data(picks=list(NAMES)), rtol=1e-6, atol=1e-20)
    for left, right in zip(mine.info["chs"], theirs.info["chs"], strict=False):
        assert (left["kind"], left["coil_type"], left["unit"]) == (right["kind"], right["coil_type"], right["unit"])
        np.testing.assert_array_equal(left["loc"], right["loc"])
    rows = [line.split("\t") for line in Path(f"{stem}_events.tsv").read_text().splitlines()[1:]]
    assert [float(row[0]) for row in rows] == pytest.approx(ONSETS, abs=0.5 / RATE)
    assert [row[2] for row in rows] == ["one", "two", "one", "two", "one", "two", "one"]
    found = diagnose(DataSet(name="look", root=str(tmp_path / "out"), source="meg", task="look"))
    assert [item for item in found.findings if item.grade is not Grade.KNOW] == []
    assert found.events == {"one": 12, "two": 9}


def test_nothing_tells_who_the_patients_are(clinic: Path, tmp_path: Path) -> None:
    """No word of the header stands in the data set, in names or in bytes; the fields that were there are named."""
    done = run(clinic, tmp_path / "out", answered(clinic))
    assert set(done.removed) == {
        "subject_info.his_id",
        "subject_info.first_name",
        "subject_info.last_name",
        "experimenter",
    }
    everything = b"\n".join(
        str(path.relative_to(tmp_path)).encode() + (path.read_bytes() if path.is_file() else b"")
        for path in (tmp_path / "out").rglob("*")
    )
    for word in ("Miller", "Mary", "MRN", "0012345", "Smith", "Jones", "2001", "second", "clinic"):
        assert word.encode() not in everything, word
    assert mne.io.read_raw_fif(f"{stem_of(tmp_path / 'out', 'Jones', 1)}_meg.fif", verbose="error").info["dig"] is None


def test_what_was_skipped_stays_a_gap(clinic: Path, tmp_path: Path) -> None:
    """A pause of the recorder is a pause in the import, and events keep their place."""
    raw = raw_of(2)
    raw.set_annotations(mne.Annotations([4.5], [2.0], ["BAD_ACQ_SKIP"]))
    (clinic / "Jones" / "only_raw.fif").unlink()
    save(raw, clinic / "Jones" / "only_raw.fif")
    done = run(clinic, tmp_path / "out", answered(clinic))
    assert {item.code for item in done.findings if item.place == "Jones/only_raw.fif"} >= {"GAP-FOUND", "EV-FILE"}
    source = open_source(Path(f"{stem_of(tmp_path / 'out', 'Jones', 1)}_meg.fif"))
    pieces = source.pieces(RATE)
    assert [piece.clock for piece in pieces] == pytest.approx([0, 6.5])
    assert [piece.samples / RATE for piece in pieces] == pytest.approx([4.5, SECONDS - 6.5])
    rows = Path(f"{stem_of(tmp_path / 'out', 'Jones', 1)}_events.tsv").read_text().splitlines()[1:]
    assert [float(row.split("\t")[0]) for row in rows] == pytest.approx([1, 3.01, 7.123, 9, 11.5, 13.3], abs=2e-3)


def test_parts_of_a_recording_are_imported_once(clinic: Path, tmp_path: Path) -> None:
    """The file that continues another one is no recording of its own, in whatever order their names come."""
    (clinic / "Jones" / "only_raw.fif").unlink()
    save(raw_of(2, seconds=150.0), clinic / "Jones" / "only_raw.fif", split_size="2MB")
    made = draft(clinic)
    assert [item.file for item in made.recordings] == [
        "Jones/only_raw.fif",
        "Miller/first_raw.fif",
        "Miller/second_raw.fif",
    ]
    assert {item.place for item in made.findings if item.code == "FILE-SPLIT"} >= {"Jones/only_raw-1.fif"}
    assert run(clinic, tmp_path / "out", answered(clinic)).recordings == 3
    source = open_source(Path(f"{stem_of(tmp_path / 'out', 'Jones', 1)}_meg.fif"))
    assert source.pieces(RATE)[-1].samples == round(150 * RATE)


def test_a_sensor_can_be_left_out_and_an_eeg_is_refused(clinic: Path, tmp_path: Path) -> None:
    """The mapping leaves out what it says; a recording without sensors is named with that reason."""
    written(spec(3), clinic / "Jones" / "eeg.edf")
    done = run(clinic, tmp_path / "out", answered(clinic, channels={"MEG 0113": ""}))
    assert done.left_out == ("Jones/eeg.edf",)
    assert [item.code for item in done.findings if item.place == "Jones/eeg.edf"] == ["CH-NONE"]
    table = Path(f"{stem_of(tmp_path / 'out', 'Miller', 1)}_channels.tsv").read_text()
    assert "MEG0113" not in table
    assert "MEG0112\tMEGGRADPLANAR\tT/m" in table


def test_a_second_run_does_only_what_changed(clinic: Path, tmp_path: Path) -> None:
    """Nothing is written twice; a recording that went missing is."""
    mapping = answered(clinic)
    assert run(clinic, tmp_path / "out", mapping).recordings == 3
    assert (run(clinic, tmp_path / "out", mapping).before) == 3
    Path(f"{stem_of(tmp_path / 'out', 'Miller', 1)}_meg.fif").unlink()
    assert run(clinic, tmp_path / "out", mapping).recordings == 1
    assert not list((tmp_path / "out").rglob(".dura-import-*"))


def test_electrodes_are_still_proposed_for_an_eeg(tmp_path: Path) -> None:
    """A folder without MEG is a folder of EEG."""
    written(spec(0), tmp_path / "clinic" / "Miller" / "a.edf")
    mapping = proposed(tmp_path / "clinic")
    assert mapping.source == "eeg"
    assert mapping.channels["Cz"] == "Cz"


def test_the_commands(clinic: Path, tmp_path: Path) -> None:
    """From a clinic's folder to a prepared data set, through public commands alone."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\nprepare_processes = 1\n')
    SiteKeys(site).create()
    (tmp_path / "m.toml").write_text(text_of(draft(clinic), clinic, "look").replace('"1" = "?"', '"1" = "one"'))
    (tmp_path / "m.toml").write_text((tmp_path / "m.toml").read_text().replace('"2" = "?"', '"2" = "two"'))
    done = answer(
        *("site", "data", "import", clinic, tmp_path / "out", "--mapping", tmp_path / "m.toml", "--home", site),
        here=True,
    )
    assert done["import"]["recordings"] == 3
    answer(
        *("site", "data", "add", "look", tmp_path / "out", "--source", "meg", "--task", "look", "--home", site),
        here=True,
    )
    check = answer("site", "data", "check", "look", "--html", tmp_path / "page.html", "--home", site, here=True)[
        "check"
    ]
    assert not check["stops"]
    assert check["events"] == {"one": 12, "two": 9}
    page = (tmp_path / "page.html").read_text()
    assert "fT or fT/cm" in page
    assert json.dumps("Miller") not in page

"""Whatever is dropped, missing or odd in MEG is a finding, and what cannot be used gives no window."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import mne
import numpy as np
import pytest
from tests.client.data.eeg.fif import FIRST, NAMES, ONSETS, RATE, raw_of, signal, stem_of, write
from tests.client.data.eeg.test_meg_against_mne import KEY, STUDY, by_mne, dataset

from dura_client.data.doctor.diagnose import Diagnosis, diagnose
from dura_client.data.findings.finding import Finding
from dura_client.data.findings.grade import Grade
from dura_client.data.prepare import PreparedData, prepare
from dura_common.errors import InputError
from dura_common.study.data import MegContract


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a data set of two sound patients."""
    for number, patient in enumerate(("01", "02")):
        write(tmp_path / "look", patient, raw_of(number))
    return tmp_path / "look"


def check(root: Path, contract: MegContract | None = None) -> Diagnosis:
    """Return what the check says."""
    return diagnose(dataset(root), contract)


def prepared(root: Path, contract: MegContract = STUDY) -> PreparedData:
    """Return the prepared data set."""
    return prepare(dataset(root), contract, cache=root.parent / "cache", pseudonym_key=KEY)


def of(code: str, found: Diagnosis) -> list[Finding]:
    """Return the findings of a kind."""
    return [item for item in found.findings if item.code == code]


def test_a_sound_data_set_is_called_sound(root: Path) -> None:
    """Nothing stops a study, nothing is lost, and names without blanks are told once for each recording."""
    found = check(root, STUDY)
    assert {item.code for item in found.findings if item.grade is not Grade.KNOW} == set()
    assert {item.place for item in of("CH-ALIAS", found)} == {
        "sub-01/meg/sub-01_task-look_meg.fif",
        "sub-02/meg/sub-02_task-look_meg.fif",
    }
    assert found.windows == {"01": {"one": 4, "two": 3}, "02": {"one": 4, "two": 3}}
    assert found.channels == dict.fromkeys(("".join(name.split()) for name in NAMES), 2)
    assert [item.rate for item in found.seen] == [RATE, RATE]


def absent(raw: mne.io.RawArray) -> None:
    """Take a sensor out of a recording."""
    raw.drop_channels(["MEG 0111"])


def declared_bad(raw: mne.io.RawArray) -> None:
    """Mark a sensor as bad, as the recorder does."""
    raw.info["bads"] = ["MEG 0111"]


def flat(raw: mne.io.RawArray) -> None:
    """Let a sensor die."""
    raw.apply_function(lambda values: 0 * values, picks=["MEG 0111"])


def loud(raw: mne.io.RawArray) -> None:
    """Let a sensor jump."""
    noise = np.random.default_rng(1).standard_normal(raw.n_times)
    raw.apply_function(lambda values: values + 2e-12 * noise, picks=["MEG 0111"])


@pytest.mark.parametrize("spoil", [absent, declared_bad, flat, loud])
def test_a_recording_without_a_sensor_of_the_study_is_left_out(
    root: Path, spoil: Callable[[mne.io.RawArray], None]
) -> None:
    """Missing, marked bad, flat or far from its like: the sensor is named, no window is cut, the patient is counted."""
    raw = raw_of(1)
    spoil(raw)
    write(root, "02", raw)
    found = check(root, STUDY)
    (lacking,) = of("CH-LACK", found)
    assert "1 of the study's 4 sensors are missing or bad: MEG0111" in lacking.cause
    assert "not interpolated" in of("CUT-RULE", found)[0].cause
    assert found.windows["02"] == {}
    done = prepared(root)
    assert len(done.patients) == 1
    ((reason, keys),) = done.left_out.items()
    assert "a sensor of the study is missing or bad" in reason
    assert len(keys) == 1
    without = STUDY.model_copy(update={"channels": STUDY.channels[:3]})
    assert len(prepared(root, without).patients) == 2


def test_what_the_recording_marks_as_bad_counts_beside_channels_tsv(root: Path) -> None:
    """A sensor that only the FIF file calls bad is bad, and the disagreement is told."""
    raw = raw_of(1)
    declared_bad(raw)
    path = write(root, "02", raw)
    table = path.with_name("sub-02_task-look_channels.tsv")
    table.write_text(table.read_text().replace("bad", "good"))
    found = check(root)
    assert "1 sensor: MEG0111" in of("CH-BAD", found)[0].cause
    assert "bad by the recording, not by channels.tsv" in of("CH-TYPE", found)[0].cause


def test_a_split_recording_is_read_as_one(root: Path) -> None:
    """Parts that the header chains are one recording, with one finding; without a part it is refused."""
    (root / "sub-02" / "meg" / "sub-02_task-look_meg.fif").unlink()
    raw = raw_of(1, seconds=150.0)
    write(root, "02", raw, split_size="2MB")
    (root / "sub-02" / "meg" / "sub-02_task-look_meg.fif").unlink(missing_ok=True)
    parts = sorted(path.name for path in (root / "sub-02" / "meg").glob("*_meg.fif"))
    assert parts[:2] == ["sub-02_task-look_split-01_meg.fif", "sub-02_task-look_split-02_meg.fif"]
    found = check(root, STUDY)
    (told,) = of("FILE-SPLIT", found)
    assert told.cause == f"it is continued in {', '.join(parts[1:])}"
    assert {item.code for item in found.findings if item.grade is not Grade.KNOW} == set()
    first, second = prepared(root).patients
    both = {tuple(patient.windows.shape) for patient in (first, second)}
    assert both == {(7, 4, 96)}
    (root / "sub-02" / "meg" / parts[-1]).unlink()
    assert "continued in a file that is not there" in of("FILE-PART", check(root))[0].cause
    with pytest.raises(InputError, match="a recording of the data set look cannot be read"):
        prepared(root)


@pytest.mark.parametrize("share", [0.3, 0.95])
def test_a_cut_file_is_refused_as_one(root: Path, share: float) -> None:
    """A copy that ends too early opens, and breaks when its samples are read: the check and a study say why."""
    path = root / "sub-02" / "meg" / "sub-02_task-look_meg.fif"
    path.write_bytes(path.read_bytes()[: round(share * path.stat().st_size)])
    (told,) = of("FILE-CUT", check(root))
    assert told.place == "sub-02/meg/sub-02_task-look_meg.fif"
    assert told.grade is Grade.STOPS
    with pytest.raises(InputError, match="cannot be read: the recording does not have the length"):
        prepared(root)


def test_parts_without_a_beginning_are_named(root: Path) -> None:
    """A second part alone is no recording."""
    path = root / "sub-02" / "meg" / "sub-02_task-look_meg.fif"
    path.rename(path.with_name("sub-02_task-look_split-02_meg.fif"))
    assert "not numbered from split-01 on" in of("FILE-PART", check(root))[0].cause


def test_codes_of_the_stimulus_channel_are_events_by_the_sidecar(root: Path) -> None:
    """Without an events.tsv the codes are read, at their samples, and events.json says what they mean."""
    write(root, "02", raw_of(1), events=False)
    (root / "sub-02" / "meg" / "sub-02_task-look_events.tsv").unlink()
    (root / "task-look_events.json").write_text('{"value": {"Levels": {"1": "one", "2": "two"}}}')
    found = check(root, STUDY)
    assert found.windows["02"] == {"one": 4, "two": 3}
    assert [item.place for item in of("EV-FILE", found)] == ["sub-02/meg/sub-02_task-look_meg.fif"]
    (seen,) = (item for item in found.seen if item.subject == "02")
    assert [seconds for seconds, _ in seen.events] == pytest.approx(ONSETS, abs=0.5 / RATE)
    expected = by_mne(root / "sub-02" / "meg" / "sub-02_task-look_meg.fif")
    errors = [np.abs(patient.windows - expected).max() for patient in prepared(root).patients]
    assert min(errors) < 0.2


def test_active_shielding_is_refused_with_its_reason(root: Path) -> None:
    """A raw recording of internal active shielding needs MaxFilter, and is told so."""
    raw = raw_of(1)
    with raw.info._unlock():  # the only way to write such a file
        raw.info["maxshield"] = True
    write(root, "02", raw)
    (told,) = of("MEG-SHIELD", check(root))
    assert "has not been through MaxFilter" in told.cause
    assert told.grade is Grade.STOPS


def test_what_was_done_before_is_told(root: Path) -> None:
    """Projections that wait in the file are not applied, and reference sensors are not used: both are named."""
    raw = raw_of(1)
    raw.set_channel_types({"MEG 0132": "ref_meg"}, on_unit_change="ignore")
    raw.add_proj(mne.compute_proj_raw(raw, n_grad=1, n_mag=1, verbose="error"))
    write(root, "02", raw)
    causes = [item.cause for item in of("MEG-STATE", check(root))]
    assert any("projections that the file keeps were not applied, and are not (2)" in cause for cause in causes)
    assert any("reference sensors are not used (1)" in cause for cause in causes)


def test_skipped_time_is_a_gap(root: Path) -> None:
    """What the recorder skipped is filled with zeros by the reader: no window lies there, and filters stop before."""
    raw = raw_of(1)
    raw.set_annotations(mne.Annotations([4.5], [2.0], ["BAD_ACQ_SKIP"]))
    write(root, "02", raw)
    found = check(root, STUDY)
    assert of("GAP-FOUND", found)
    assert found.windows["02"] == {"one": 3, "two": 3}
    assert of("EV-GAP", found)[0].cause == "1 of 7 events"
    (seen,) = (item for item in found.seen if item.subject == "02")
    assert [begin for begin, _ in seen.pieces] == pytest.approx([0, 6.5])
    assert seen.seconds == pytest.approx(14.0)


def test_what_the_recording_marks_as_bad_is_not_used(root: Path) -> None:
    """A BAD mark inside the FIF file counts beside an events.tsv that does not know it."""
    raw = raw_of(1)
    raw.set_annotations(mne.Annotations([5.0], [1.5], ["BAD_muscle"]))
    write(root, "02", raw)
    assert check(root, STUDY).windows["02"] == {"one": 3, "two": 3}


def test_a_wrong_unit_stops_a_study(root: Path) -> None:
    """A file that holds femtotesla as tesla is refused, with the factor that mends it."""
    raw = raw_of(1)
    raw.apply_function(lambda values: values * 1e15, picks="meg")
    write(root, "02", raw)
    (told,) = of("VAL-UNIT", check(root))
    assert "far from" in told.cause or "too large for MEG" in told.cause
    with pytest.raises(InputError, match="its values are not those of MEG"):
        prepared(root)


def test_names_of_other_systems_and_other_kinds_are_told(root: Path) -> None:
    """A format that is not read here, a room's own file, and EEG beside MEG."""
    stem = stem_of(root, "02")
    stem.with_name("sub-02_task-look_run-2_meg.con").write_bytes(b"x")
    stem.with_name("sub-02_acq-crosstalk_meg.fif").write_bytes(b"x")
    (root / "sub-02" / "eeg").mkdir()
    (root / "sub-02" / "eeg" / "sub-02_task-look_eeg.edf").write_bytes(b"0")
    found = check(root)
    assert [item.place for item in of("FILE-KNOWN", found)] == ["sub-02/meg/sub-02_task-look_run-2_meg.con"]
    assert "dura site data import" in of("FILE-KNOWN", found)[0].remedy


def test_units_and_types_that_disagree_are_told(root: Path) -> None:
    """channels.tsv cannot change what a sensor is; what it says otherwise is named."""
    table = root / "sub-02" / "meg" / "sub-02_task-look_channels.tsv"
    text = table.read_text().replace("MEG 0113\tMEGGRADPLANAR\tT/m", "MEG 0113\tMEGGRADPLANAR\tT")
    table.write_text(text.replace("MEG 0133\tMEGGRADPLANAR", "MEG 0133\tMISC"))
    found = check(root)
    assert "channels.tsv says T and the recording T/m: MEG 0113" in of("CH-UNIT2", found)[0].cause
    assert "MEG 0133: sensors by the recording, something else by channels.tsv" in of("CH-TYPE", found)[0].cause


def test_a_recording_without_sensors_is_refused(root: Path) -> None:
    """A FIF file of an EEG is no MEG."""
    info = mne.create_info(["Cz", "Pz"], RATE, "eeg")
    raw = mne.io.RawArray(signal(1)[:2] * 1e6, info, first_samp=FIRST, verbose="error")
    write(root, "02", raw)
    assert "it has no MEG sensor" in of("CH-NONE", check(root))[0].cause

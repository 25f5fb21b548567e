"""Import as a data manager meets it: questions, pseudonyms, gaps, triggers, nights, restarts, what is refused."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.client.data.corpus.tree import CHANNELS, NAMES, ONSETS, RATE, SECONDS, Spec, signal, spec, write_bdf
from tests.client.data.recordings.edf_writer import Annotated, Header, Written, write_edf
from tests.support.commands import answer

import dura_client.data.importing.run as module
from dura_client.data.importing.chosen import cap_names
from dura_client.data.importing.draft import draft, text_of
from dura_client.data.importing.mapping import Mapping, read_mapping
from dura_client.data.importing.run import Imported, import_folder, label_of
from dura_client.data.recordings.opening import open_source
from dura_client.data.recordings.source import length
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.errors import InputError, StateError

KEY = b"k" * 32
IDENTITY = "MRN0012345 F 02-MAY-1951 Miller_Mary"


def written(made: Spec, path: Path) -> None:
    """Write an EDF recording."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_edf(path, made.signals, made.header, made.annotated)


def with_marks(number: int, **header: str) -> Spec:
    """Return a recording with annotations as events."""
    made = spec(number)
    marks = [(onset, 0.0, name) for onset, name in zip(ONSETS, NAMES, strict=True)]
    return replace(made, header=replace(made.header, **header), annotated=Annotated(range(SECONDS), marks))


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Return a clinic's folder: two patients, the second with two recordings, identities in the headers."""
    root = tmp_path / "clinic"
    written(with_marks(0, patient=IDENTITY, recording="Startdate 02-MAR-2002 X Smith X"), root / "Miller" / "a.edf")
    written(with_marks(1), root / "Jones" / "b1.edf")
    written(with_marks(2), root / "Jones" / "b2.edf")
    return root


def proposed(root: Path, **changes: object) -> Mapping:
    """Return the mapping that a draft proposes, with the task filled in."""
    mapping = read_mapping(text_of(draft(root), root, "hands").encode())
    return mapping.model_copy(update=changes)


def run(root: Path, out: Path, mapping: Mapping | None = None, **options: object) -> Imported:
    """Import a folder."""
    return import_folder(root, out, mapping or proposed(root), key=KEY, **options)  # type: ignore[arg-type]  # of the tests


def test_nothing_tells_who_the_patients_are(clinic: Path, tmp_path: Path) -> None:
    """No word of a name, a number or a date of the originals stands anywhere in the data set, in names or in bytes."""
    done = run(clinic, tmp_path / "out")
    assert done.recordings == 3
    assert set(done.removed) == {"patient code", "birth date", "name", "technician"}
    everything = b"\n".join(
        str(path.relative_to(tmp_path)).encode() + (path.read_bytes() if path.is_file() else b"")
        for path in (tmp_path / "out").rglob("*")
    )
    for word in ("Miller", "Mary", "MRN", "0012345", "1951", "MAY", "Smith", "Jones", "2002", "a.edf", "clinic"):
        assert word.encode() not in everything, word
    assert "Miller" not in json.dumps([item.cause for item in done.findings])


def test_labels_are_the_sites_own_and_lasting(clinic: Path, tmp_path: Path) -> None:
    """The same patient has the same label in every import of this site, and another one at another site."""
    first, second = run(clinic, tmp_path / "one").labels, run(clinic, tmp_path / "two").labels
    assert first == second
    assert label_of("Miller", b"x" * 32) != first["Miller"]
    assert len({*first.values()}) == 2


def test_samples_and_events_come_through(clinic: Path, tmp_path: Path) -> None:
    """Values are those of the original to single precision, events lie where they lay, and the recording says 50 Hz."""
    run(clinic, tmp_path / "out")
    label = label_of("Jones", KEY)
    stem = tmp_path / "out" / f"sub-{label}" / "eeg" / f"sub-{label}_task-hands_run-2"
    mine, theirs = open_source(Path(f"{stem}_eeg.vhdr")), open_source(clinic / "Jones" / "b2.edf")
    samples = length(mine.pieces(RATE))
    assert samples == RATE * SECONDS
    every = range(len(CHANNELS))
    np.testing.assert_allclose(mine.read(every, 0, samples), theirs.read(every, 0, samples), rtol=1e-6, atol=1e-13)
    rows = [line.split("\t") for line in Path(f"{stem}_events.tsv").read_text().splitlines()[1:]]
    assert [(float(row[0]), row[2]) for row in rows] == list(zip(ONSETS, NAMES, strict=True))
    assert json.loads(Path(f"{stem}_eeg.json").read_text())["PowerLineFrequency"] == 50


def test_a_second_run_does_only_what_changed(clinic: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is written twice; a new source, a changed one and a changed meaning are; a header that is missing is."""
    out = tmp_path / "out"
    mapping = proposed(clinic)
    assert run(clinic, out, mapping).recordings == 3
    assert (run(clinic, out, mapping).recordings, run(clinic, out, mapping).before) == (0, 3)
    written(with_marks(3), clinic / "Jones" / "b2.edf")
    assert run(clinic, out, mapping).recordings == 1
    next(out.glob("sub-*/eeg/*_run-2_eeg.vhdr")).unlink()
    assert run(clinic, out, mapping).recordings == 1
    fewer = mapping.model_copy(update={"events": {**mapping.events, "left_hand": ""}})
    assert run(clinic, out, fewer).events == {"right_hand": 9}

    def broken(*_: object) -> object:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_recording", broken)
    with pytest.raises(Exception, match="No space left"):
        run(clinic, out, mapping)
    monkeypatch.undo()
    assert run(clinic, out, mapping).recordings == 3


def test_several_at_a_time_are_the_same_as_one_by_one(clinic: Path, tmp_path: Path) -> None:
    """Two processes write what one writes, byte by byte."""
    run(clinic, tmp_path / "one")
    run(clinic, tmp_path / "two", jobs=2)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert len(files) > 15
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()


def test_a_broken_file_is_named_and_the_others_go_on(clinic: Path, tmp_path: Path) -> None:
    """One file that cannot be read stops nobody, whether the draft saw it or it broke later."""
    mapping = proposed(clinic)
    (clinic / "Jones" / "b1.edf").write_bytes(b"<html>login</html>")
    (clinic / "Jones" / "extra.edf").write_bytes(b"")
    done = run(clinic, tmp_path / "out", mapping)
    assert done.left_out == ("Jones/b1.edf",)
    assert {(item.code, item.place) for item in done.findings} >= {
        ("FILE-EMPTY", "Jones/b1.edf"),
        ("IMP-LIST", "Jones/extra.edf"),
    }
    assert [item.code for item in draft(clinic).findings] == ["FILE-EMPTY", "FILE-EMPTY"]
    assert len(list((tmp_path / "out").glob("sub-*/eeg/*.vhdr"))) == 2


def test_gaps_stay_gaps(clinic: Path, tmp_path: Path) -> None:
    """After a gap an event stays with its samples, and the import says where the gap is."""
    onsets = [float(k) + (30.0 if k >= 10 else 0.0) for k in range(SECONDS)]
    made = with_marks(0)
    marks = [(5.0, 0.0, "left_hand"), (42.5, 0.0, "right_hand"), (20.0, 0.0, "left_hand")]
    written(
        replace(made, header=Header(reserved="EDF+D"), annotated=Annotated(onsets, marks)), clinic / "Miller" / "a.edf"
    )
    done = run(clinic, tmp_path / "out")
    stem = next((tmp_path / "out").glob(f"sub-{label_of('Miller', KEY)}/eeg/*_eeg.vhdr"))
    assert [piece.first for piece in open_source(stem).pieces(RATE)] == [0, 10 * RATE]
    rows = Path(str(stem).replace("_eeg.vhdr", "_events.tsv")).read_text().splitlines()[1:]
    assert [row.split("\t")[0] for row in rows] == ["5.000000", "12.500000"]
    assert {item.code for item in done.findings if item.place == "Miller/a.edf"} >= {"GAP-FOUND", "EV-GAP"}


def test_triggers_of_a_status_channel_become_events(tmp_path: Path) -> None:
    """Codes above 8 bits are kept; the draft asks what they mean, and an unanswered draft is refused."""
    root = tmp_path / "clinic"
    (root / "p1").mkdir(parents=True)
    write_bdf(root / "p1" / "x.bdf", 0, [257, 65281] * 3)
    text = text_of(draft(root), root, "hands")
    with pytest.raises(InputError, match=r"open questions: events\.257, events\.65281"):
        read_mapping(text.encode())
    mapping = read_mapping(
        text.replace('"257" = "?"', '"257" = "left"').replace('"65281" = "?"', '"65281" = ""').encode()
    )
    assert run(root, tmp_path / "out", mapping).events == {"left": 3}


def test_a_packed_recording_is_unpacked(clinic: Path, tmp_path: Path) -> None:
    """Packing changes nothing but a finding; a broken package is named."""
    plain = clinic / "Jones" / "b1.edf"
    (clinic / "Jones" / "b1.edf.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    (clinic / "Jones" / "c.edf.gz").write_bytes(b"\x1f\x8b broken")
    done = run(clinic, tmp_path / "out")
    assert done.recordings == 3
    assert ("FILE-GZ", "Jones/b1.edf.gz") in {(item.code, item.place) for item in done.findings}
    assert [(item.code, item.place) for item in draft(clinic).findings] == [("FILE-GZ", "Jones/c.edf.gz")]


@pytest.mark.parametrize(("start", "code", "stages"), [("00.00.04", "HYP-USED", 6), ("09.00.00", "HYP-PAIR", 0)])
def test_a_night_takes_its_hypnogram(tmp_path: Path, start: str, code: str, stages: int) -> None:
    """Stages of a file of their own are shifted by the difference of both starts; of another night they are refused."""
    root = tmp_path / "clinic"
    written(spec(0), root / "SC4001E0-PSG.edf")
    marks = [(3.0 * k, 3.0, f"Sleep stage {'W12R'[k % 4]}") for k in range(6)]
    write_edf(root / "SC4001EC-Hypnogram.edf", [], Header(seconds="0", time=start), Annotated([0.0], marks, size=400))
    mapping = proposed(
        root, events={"Sleep stage W": "W", "Sleep stage 1": "N1", "Sleep stage 2": "N2", "Sleep stage R": "REM"}
    )
    done = run(root, tmp_path / "out", mapping)
    assert sum(done.events.values()) == stages
    assert code in {item.code for item in done.findings if item.place == "SC4001E0-PSG.edf"}
    if stages:
        rows = next((tmp_path / "out").rglob("*_events.tsv")).read_text().splitlines()[1:]
        assert rows[0].split("\t")[:3] == ["4.000000", "3", "W"]


def test_places_of_a_cap_become_electrodes_only_when_it_is_declared(tmp_path: Path) -> None:
    """A1 of a cap of 128 is the vertex; without the declaration the recording is refused."""
    names = cap_names("biosemi128")
    assert names["A1"] == "Cz"
    assert sum(bool(name) for name in names.values()) > 60
    assert len({name for name in names.values() if name}) == sum(bool(name) for name in names.values())
    root = tmp_path / "clinic"
    labels = [f"{letter}{number}" for letter in "ABCD" for number in range(1, 33)]
    rng = np.random.default_rng(0)
    signals = [Written(label, rng.integers(-300, 300, 5 * RATE), RATE) for label in labels]
    (root / "p1").mkdir(parents=True)
    write_edf(root / "p1" / "x.edf", signals, Header(), Annotated(range(5)))
    assert run(root, tmp_path / "out", mapping_of(root, "")).left_out == ("p1/x.edf",)
    assert run(root, tmp_path / "with", mapping_of(root, "biosemi128")).recordings == 1
    assert run(root, tmp_path / "wrong", mapping_of(root, "biosemi127")).findings[0].code == "CH-ABC"


def mapping_of(root: Path, cap: str) -> Mapping:
    """Return an answered draft that declares a cap."""
    text = text_of(draft(root), root, "rest").replace('line_frequency = "?"', "line_frequency = 50")
    return read_mapping(text.replace('cap = ""', f'cap = "{cap}"').encode())


def test_units_are_asked_for_and_obeyed(tmp_path: Path) -> None:
    """A unit that could be volts or microvolts is a question; the answer scales the samples."""
    root = tmp_path / "clinic"
    written(with_marks(0).each(lambda one: replace(one, unit="UV")), root / "p1" / "x.edf")
    text = text_of(draft(root), root, "hands")
    assert '"UV" = "?"' in text
    answered = text.replace('"UV" = "?"', '"UV" = "uV"').replace('line_frequency = "?"', "line_frequency = 50")
    done = run(root, tmp_path / "out", read_mapping(answered.encode()))
    assert done.recordings == 1
    values = open_source(next((tmp_path / "out").glob("sub-*/eeg/*.vhdr"))).read([0], 0, 100)
    np.testing.assert_allclose(values[0], np.round(signal(0)[0, :100], 1) * 1e-6, atol=6e-8)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ("task = 3", "not valid TOML|task"),
        ('format = 1\ntask = "x"\nline_frequency = 50\nrecordings = []\nextra = 1', "extra"),
        ('format = 1\ntask = "a b"\nline_frequency = 50\nrecordings = []', "task"),
        ('format = 1\ntask = "x"\nline_frequency = 0\nrecordings = []', "line_frequency"),
        ('format = 1\ntask = "x"\nline_frequency = 50\nrecordings = []\n[units]\n"x" = "volts"', "units"),
        ('format = 1\ntask = "x"\nline_frequency = 50\nrecordings = []\n[events]\n"x" = "a b"', "one word"),
        (
            'format = 1\ntask = "x"\nline_frequency = 50\n' + '[[recordings]]\nfile = "a"\npatient = "p"\n' * 2,
            "must be distinct",
        ),
        ("= = =", "not valid TOML"),
    ],
)
def test_a_mapping_that_cannot_be_meant_is_refused(change: str, match: str) -> None:
    """One clear error each."""
    with pytest.raises(InputError, match=match):
        read_mapping(change.encode())


def test_nothing_is_written_among_originals(clinic: Path, tmp_path: Path) -> None:
    """A target inside the source, around it, or filled by something else is refused, and nothing changes."""
    mapping = proposed(clinic)
    for out in (clinic, clinic / "bids", tmp_path):
        with pytest.raises(InputError, match="must not lie in the folder of the originals"):
            run(clinic, out, mapping)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    with pytest.raises(StateError, match="holds no import of dura"):
        run(clinic, tmp_path / "other", mapping)
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["file"]
    assert sorted(path.name for path in clinic.rglob("*")) == ["Jones", "Miller", "a.edf", "b1.edf", "b2.edf"]


def test_the_commands(clinic: Path, tmp_path: Path) -> None:
    """Draft, import, register, check: the way of a data manager; the list of labels goes where it was asked for."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    SiteKeys(site).create()
    words = ("site", "data", "import", clinic)
    made = answer(*words, "--draft", tmp_path / "m.toml", "--task", "hands", here=True)
    assert (made["recordings"], made["questions"]) == (3, 0)
    answer(*words, "--draft", tmp_path / "m.toml", code=StateError.exit_code, here=True)
    answer(*words, "--draft", clinic / "m.toml", code=InputError.exit_code, here=True)
    answer(*words, tmp_path / "out", code=InputError.exit_code, here=True)
    into = (*words, tmp_path / "out", "--mapping", tmp_path / "m.toml", "--home", site)
    assert "--labels" not in str(answer(*into, "--labels", tmp_path / "labels.tsv", here=True))
    assert "Miller\tsub-" in (tmp_path / "labels.tsv").read_text()
    answer(*into, "--labels", tmp_path / "out" / "labels.tsv", code=InputError.exit_code, here=True)
    assert answer(*into, here=True)["import"]["before"] == 3
    answer("site", "data", "add", "hands", tmp_path / "out", "--task", "hands", "--home", site, here=True)
    check = answer("site", "data", "check", "hands", "--home", site, here=True)["check"]
    assert check["events"] == {"left_hand": 9, "right_hand": 9}
    assert not check["stops"]

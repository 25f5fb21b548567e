"""EDF and BDF: the reader against MNE, edfio and files whose every byte is known."""

from __future__ import annotations

from pathlib import Path

import edfio
import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.data.recordings.edf_writer import Annotated, Header, Written, write_edf

from dura_client.data.recordings.edf import open_edf
from dura_client.data.recordings.source import Unreadable, length, sample_at

RATE = 100


def ramp(records: int, in_record: int = RATE) -> np.ndarray:
    """Return numbers that tell their own place."""
    return np.arange(records * in_record) % 30000


def codes(path: Path) -> dict[str, str]:
    """Return what is noticed in a file: code and cause."""
    return {note.code: note.cause for note in open_edf(path).notes}


@pytest.mark.parametrize("bdf", [False, True])
def test_samples_are_those_that_mne_and_edfio_read(tmp_path: Path, bdf: bool) -> None:
    """Every value, at any cut, of 16 and 24 bits, agrees with two independent readers."""
    rng = np.random.default_rng(1)
    top = 8_000_000 if bdf else 32_000
    limits = ("-8388608", "8388607") if bdf else ("-32768", "32767")
    signals = [
        Written(name, rng.integers(-top, top, 7 * RATE), RATE, unit, ("-500", "500"), limits)
        for name, unit in (("Fp1", "uV"), ("Cz", "mV"), ("Pz", "µV"))
    ]
    path = tmp_path / ("x.bdf" if bdf else "x.edf")
    reserved = "24BIT" if bdf else ""
    write_edf(path, signals, Header(reserved=reserved, bdf=bdf))
    source = open_edf(path)
    raw = mne.io.read_raw(path, preload=True, verbose="warning")
    assert [signal.label for signal in source.signals] == raw.ch_names
    np.testing.assert_allclose(source.read([0, 1, 2], 0, 700), raw.get_data(), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(source.read([2, 0], 133, 402), source.read([0, 1, 2], 0, 700)[[2, 0], 133:402])
    read = (edfio.read_bdf if bdf else edfio.read_edf)(path)
    np.testing.assert_allclose(source.read([0], 0, 700)[0], read.signals[0].data * 1e-6, rtol=1e-9)


def test_the_unit_is_read_in_either_encoding(tmp_path: Path) -> None:
    """A micro sign in UTF-8, which MNE reads as volts without a word, is microvolts; capitals are not guessed."""
    path = tmp_path / "x.edf"
    write_edf(path, [Written("Cz", ramp(4), RATE, "??V")], Header(reserved=""))
    content = path.read_bytes()
    for unit, factor in (
        ("µV".encode(), 1e-6),
        ("μV".encode(), 1e-6),
        (b"\xb5V ", 1e-6),
        (b"UV ", None),
        (b"nV ", 1e-9),
    ):
        path.write_bytes(content.replace(b"??V", unit[:3].ljust(3)))
        assert open_edf(path).signals[0].volts == factor


@settings(max_examples=60, deadline=None)
@given(
    gaps=st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.01, 0.5, 3.0, 600.0]), min_size=1, max_size=12),
    start=st.sampled_from([0.0, 0.5]),
    data=st.data(),
)
def test_a_time_by_the_clock_finds_its_sample(
    tmp_path_factory: pytest.TempPathFactory, gaps: list[float], start: float, data: st.DataObject
) -> None:
    """With any gaps between records, an event inside a record is placed exactly, and one in a gap has no place."""
    onsets = np.cumsum([start, *[1.0 + gap for gap in gaps]])
    path = tmp_path_factory.mktemp("gaps") / "x.edf"
    write_edf(
        path,
        [Written("Cz", ramp(len(onsets)), RATE)],
        Header(reserved="EDF+D"),
        Annotated([float(at) for at in onsets]),
    )
    source = open_edf(path)
    pieces = source.pieces(RATE)
    assert length(pieces) == len(onsets) * RATE
    assert len(pieces) == 1 + sum(gap > 0.5 / RATE for gap in gaps)
    record = data.draw(st.integers(0, len(onsets) - 1))
    offset = data.draw(st.integers(0, RATE - 1))
    at = sample_at(float(onsets[record]) - start + offset / RATE, RATE, pieces)
    assert at == record * RATE + offset
    assert source.read([0], at, at + 1)[0, 0] * 1e7 == pytest.approx(ramp(len(onsets))[at], abs=0.01)
    if gaps[0] > 1:
        assert sample_at(1.0 + gaps[0] / 2, RATE, pieces) is None
    assert sample_at(-0.1, RATE, pieces) is None
    assert sample_at(float(onsets[-1]) - start + 1.0, RATE, pieces) is None


def test_gaps_are_told_and_hidden_gaps_more_so(tmp_path: Path) -> None:
    """A gap of three seconds, which readers pass over in silence, is a finding under either header."""
    for reserved, code in (("EDF+D", "GAP-FOUND"), ("EDF+C", "GAP-HIDDEN")):
        path = tmp_path / f"{code}.edf"
        write_edf(path, [Written("Cz", ramp(4), RATE)], Header(reserved=reserved), Annotated([0, 1, 5, 6]))
        assert "1 gap, the longest 3 s" in codes(path)[code]
    path = tmp_path / "back.edf"
    write_edf(path, [Written("Cz", ramp(4), RATE)], Header(reserved="EDF+D"), Annotated([0, 1, 0.5, 6]))
    with pytest.raises(Unreadable, match="begins before the one before it has ended"):
        open_edf(path)


def test_a_slow_clock_adds_up(tmp_path: Path) -> None:
    """Records that each come a third of a sample late are placed by the clock when half a sample is lost."""
    onsets = [record * (1 + 0.3 / RATE) for record in range(20)]
    path = tmp_path / "x.edf"
    write_edf(path, [Written("Cz", ramp(20), RATE)], Header(), Annotated(onsets))
    source = open_edf(path)
    for record, onset in enumerate(onsets):
        at = sample_at(onset + 0.5, RATE, source.pieces(RATE))
        assert abs((at or 0) - (record * RATE + 50)) <= 1


def test_each_channel_keeps_its_own_rate(tmp_path: Path) -> None:
    """Channels of other rates do not change what is read of the EEG."""
    path = tmp_path / "x.edf"
    fast = Written("ECG", ramp(5, 512), 512)
    write_edf(path, [Written("Cz", ramp(5), RATE), fast, Written("SpO2", ramp(5, 1), 1)], Header())
    source = open_edf(path)
    assert [signal.rate for signal in source.signals] == [100, 512, 1]
    assert source.read([0], 0, 500).shape == (1, 500)
    assert source.read([1], 512, 1024)[0, 0] * 1e7 == pytest.approx(512, abs=0.01)
    with pytest.raises(ValueError, match="one rate"):
        source.read([0, 1], 0, 100)


def test_annotations_agree_with_edfio(tmp_path: Path) -> None:
    """Onsets count from the first record, texts of UTF-8 and Latin-1 are whole."""
    marks = [(1.5, 0.0, "left"), (2.25, 3.0, "schläft"), (4.0, 0.0, "Recording ends")]
    path = tmp_path / "x.edf"
    write_edf(path, [Written("Cz", ramp(6), RATE)], Header(), Annotated([0.5 + k for k in range(6)], marks))
    source = open_edf(path)
    expected = [(item.onset, item.duration or 0.0, item.text) for item in edfio.read_edf(path).annotations]
    assert [(mark.onset, mark.duration, mark.text) for mark in source.marks] == expected
    write_edf(path, [Written("Cz", ramp(6), RATE)], Header(), Annotated(range(6), marks, encoding="latin-1"))
    source = open_edf(path)
    assert [mark.text for mark in source.marks] == [text for _, _, text in marks]
    assert "EV-ENC" in {note.code for note in source.notes}


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda content: content[:-3000], "FILE-CUT"),
        (lambda content: content + b"\0" * 5000, "FILE-CUT"),
        (lambda content: content[:236] + b"-1      " + content[244:], "FILE-OPEN"),
    ],
)
def test_a_length_that_does_not_fit_is_told(tmp_path: Path, change: object, code: str) -> None:
    """Cut, longer than declared, never closed."""
    path = tmp_path / "x.edf"
    write_edf(path, [Written("Cz", ramp(40), RATE)], Header(), Annotated(range(40)))
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]  # a function of the table above
    assert code in codes(path)


@pytest.mark.parametrize("at", [184, 236, 244, 252, 256 + 104 * 2, 256 + 216 * 2])
def test_a_broken_field_is_named(tmp_path: Path, at: int) -> None:
    """No field of the header that holds nonsense ends in anything but its name."""
    path = tmp_path / "x.edf"
    write_edf(path, [Written("Cz", ramp(4), RATE)], Header(), Annotated(range(4)))
    content = path.read_bytes()
    path.write_bytes(content[:at] + b"rubb" + content[at + 4 :])
    with pytest.raises(Unreadable, match="the field") as caught:
        open_edf(path)
    assert caught.value.note.code == "FILE-HEAD"


def test_converted_line_ends_are_recognised(tmp_path: Path) -> None:
    """A copy in text mode is told from a file that is too long, and named as what it is."""
    path = tmp_path / "x.edf"
    write_edf(path, [Written("Cz", ramp(40), RATE)], Header(), Annotated(range(40)))
    content = path.read_bytes()
    assert b"\n" in content
    path.write_bytes(content.replace(b"\n", b"\r\n"))
    with pytest.raises(Unreadable, match="line feed") as caught:
        open_edf(path)
    assert caught.value.note.code == "FILE-CRLF"


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=1200), at=st.integers(0, 1100))
def test_any_bytes_are_refused_in_order(tmp_path_factory: pytest.TempPathFactory, content: bytes, at: int) -> None:
    """Whatever stands in a file, opening it ends well or with a reason, never otherwise."""
    path = tmp_path_factory.mktemp("any") / "x.edf"
    write_edf(path, [Written("Cz", ramp(2, 20), 20)], Header(), Annotated(range(2), size=40))
    good = path.read_bytes()
    path.write_bytes(good[:at] + content + good[at + len(content) :])
    try:
        source = open_edf(path)
        source.read([0], 0, length(source.pieces(source.signals[0].rate)))
    except Unreadable as error:
        assert error.note.cause  # noqa: PT017  # either outcome is right; this one must have a reason

"""Files that a data manager got from somebody else: they name other files, say too much, or unpack for ever."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tests.client.data.corpus.tree import spec
from tests.client.data.recordings.edf_writer import write_edf

from dura_client.data.importing import opened as opening
from dura_client.data.importing.mapping import Listed, Mapping, read_mapping
from dura_client.data.importing.run import import_folder
from dura_client.data.recordings.source import Unreadable
from dura_client.data.sources.fmri import series
from dura_common.errors import InputError

KEY = b"k" * 32
MAPPING = 'format = 1\ntask = "rest"\nline_frequency = 50\n[[recordings]]\nfile = {file!r}\npatient = "a"\n'


@pytest.mark.parametrize("file", ["/etc/passwd", "../other-clinic/a.edf", "a/../../a.edf", ".."])
def test_a_mapping_names_no_file_outside_its_source(file: str) -> None:
    """A mapping that came with somebody else's files reads nothing of this hospital."""
    assert read_mapping(MAPPING.format(file="a/b..edf").encode()).recordings[0].file == "a/b..edf"
    with pytest.raises(InputError, match="below the folder of the originals"):
        read_mapping(MAPPING.format(file=file).encode())


@pytest.mark.parametrize(
    ("gender", "age", "told"),
    [
        ("F", "11", "F\t11"),
        ("=1", "7.5", "n/a\t7.5"),
        ("Mary Miller", "+4", "n/a\tn/a"),
        ("\u2028sub-x", "@SUM(1)", "n/a\tn/a"),
    ],
)
def test_a_list_of_a_clinic_puts_nothing_else_into_the_table(tmp_path: Path, gender: str, age: str, told: str) -> None:
    """No name, no formula for a spreadsheet and no further row: a cell is an age, a sex, or n/a."""
    root, made = tmp_path / "clinic", spec(0)
    (root / "chb01").mkdir(parents=True)
    write_edf(root / "chb01" / "chb01_01.edf", made.signals, made.header, made.annotated)
    (root / "SUBJECT-INFO").write_text(f"chb01\t{gender}\t{age}\n")
    listed = Listed(file="chb01/chb01_01.edf", patient="chb01")
    names = {signal.label: "" for signal in made.signals} | {made.signals[0].label: "Cz"}
    mapping = Mapping(
        layout="chbmit", task="rest", line_frequency=50, columns=("sex", "age"), channels=names, recordings=(listed,)
    )
    assert import_folder(root, tmp_path / "out", mapping, key=KEY).recordings == 1
    _, row = (tmp_path / "out" / "participants.tsv").read_text().splitlines()
    assert row.split("\t", 1)[1] == told


def test_a_packed_recording_does_not_fill_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking ends at a limit, and nothing of it stays."""
    monkeypatch.setattr(opening, "MAX_UNPACKED", 1 << 20)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    packed = tmp_path / "a.edf.gz"
    packed.write_bytes(gzip.compress(bytes(8 << 20)))
    with pytest.raises(Unreadable, match="larger than 1 MiB"), opening.opened(packed):
        raise AssertionError("it was opened")
    assert list(tmp_path.iterdir()) == [packed]


def test_a_packed_array_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array is read only if what it unpacks to is within the limit, however small the file is."""
    monkeypatch.setattr(series, "MAX_BYTES", 1 << 20)
    path = tmp_path / "series.npz"
    np.savez_compressed(path, big=np.zeros((1 << 10, 1 << 10)), small=np.ones((2, 2)))
    with pytest.raises(Unreadable, match="larger than 1 MiB"):
        series.read_series(series.Series("a", None, path, "big"))
    assert series.read_series(series.Series("a", None, path, "small")).shape == (2, 2)


def test_an_array_that_claims_to_be_endless(tmp_path: Path) -> None:
    """A header that asks for more memory than there is makes one file unreadable and ends nothing."""
    for shape in ((1 << 40, 1 << 10), (1 << 62, 4)):
        content = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%d, %d), }" % shape
        header = b"\x93NUMPY\x01\x00" + (len(content) + 1).to_bytes(2, "little") + content + b"\n"
        plain, packed = tmp_path / "a.npy", tmp_path / "a.npz"
        plain.write_bytes(header + bytes(64))
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("x.npy", header + bytes(64))
        for path in (plain, packed):
            with pytest.raises(Unreadable, match="no such table of numbers"):
                series.read_series(series.Series("a", None, path, "x"))

"""Defects of recordings as files, and of what stands beside them."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dura_client.data.simulated.planting.defect import Defect
from dura_client.data.simulated.planting.target import ENDINGS, Target

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 392192\n"
EDF, BRAINVISION = (".edf",), (".vhdr",)
BOTH = (*EDF, *BRAINVISION)


def _recording(target: Target) -> Path:
    if target.recording is None:
        raise ValueError("there is no recording")
    return target.recording


def _data(target: Target) -> Path:
    """Return the file with the samples."""
    path = _recording(target)
    return path if path.suffix != ".vhdr" else path.with_suffix(".eeg")


def _overwritten(content: bytes) -> Callable[[Target], None]:
    return lambda target: (_recording(target).write_bytes(content), None)[1]


def _renamed(change: Callable[[str], str]) -> Callable[[Target], None]:
    return lambda target: (
        _recording(target).rename(_recording(target).with_name(change(_recording(target).name))),
        None,
    )[1]


def _packed(target: Target) -> None:
    path = _recording(target)
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def _dangling(target: Target) -> None:
    path = _recording(target)
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def _shortened(target: Target) -> None:
    path = _data(target)
    path.write_bytes(path.read_bytes()[: -(path.stat().st_size // 5 | 1)])


def _field(at: int, width: int, text: str) -> Callable[[Target], None]:
    """Return a defect that overwrites a field of an EDF header."""

    def plant(target: Target) -> None:
        path = _recording(target)
        old = path.read_bytes()
        path.write_bytes(old[:at] + text.encode("latin-1").ljust(width)[:width] + old[at + width :])

    return plant


def _signals(before: int, width: int, change: Callable[[list[str]], list[str]]) -> Callable[[Target], None]:
    """Return a defect of one field of all signals; ``before`` is the width of all fields before it."""

    def plant(target: Target) -> None:
        path = _recording(target)
        old = path.read_bytes()
        count = int(old[252:256])
        at = 256 + count * before
        texts = [old[at + width * k : at + width * (k + 1)].decode("latin-1") for k in range(count)]
        new = "".join(text.ljust(width)[:width] for text in change(texts)).encode("latin-1")
        path.write_bytes(old[:at] + new + old[at + len(new) :])

    return plant


def _text(ending: str, change: Callable[[str], str]) -> Callable[[Target], None]:
    def plant(target: Target) -> None:
        path = _recording(target).with_suffix(ending)
        path.write_text(change(path.read_text(encoding="utf-8-sig")), encoding="utf-8")

    return plant


def _copied(target: Target) -> None:
    if target.other is None:
        raise ValueError("there is no other patient")
    source = target.other if target.other.suffix != ".vhdr" else target.other.with_suffix(".eeg")
    shutil.copy(source, _data(target))


def _louder(target: Target) -> None:
    _copied(target)
    with target.samples() as values:
        np.multiply(values, 0.7, out=values)


def _other_rate(target: Target) -> None:
    target.json(SamplingFrequency=999)


def _comma(target: Target) -> None:
    target.described.write_text('{"PowerLineFrequency": 50,}', encoding="utf-8")


DEFECTS = (
    Defect("a pointer of git-lfs instead of the recording", "FILE-PTR", _overwritten(LFS), BOTH),
    Defect("an empty file", "FILE-EMPTY", _overwritten(b""), BOTH),
    Defect("a web page saved as the recording", "FILE-EMPTY", _overwritten(b"<!doctype html><html>log in"), BOTH),
    Defect("a link to a file that is gone", "FILE-LINK", _dangling, BOTH),
    Defect("a packed recording", "FILE-GZ", _packed, EDF),
    Defect("a suffix in capitals", "FILE-CASE", _renamed(lambda name: name.replace("_eeg.", "_EEG.")), EDF),
    Defect("a download that was broken off", "FILE-KNOWN", _renamed(lambda name: f"{name}.part"), EDF),
    Defect("a copy cut by a fifth", "FILE-CUT", _shortened, EDF),
    Defect("a data file cut by a fifth", "BV-SIZE", _shortened, BRAINVISION),
    Defect("no data file", "FILE-PART", lambda target: _data(target).unlink(), BRAINVISION),
    Defect("no marker file", "BV-MARK", lambda target: _recording(target).with_suffix(".vmrk").unlink(), BRAINVISION),
    Defect("a unit that lost its letter", "CH-UNIT", _text(".vhdr", lambda old: old.replace("µV", "?V")), BRAINVISION),
    Defect("a unit that nobody knows", "CH-UNIT", _signals(96, 8, lambda old: ["UV"] * len(old)), EDF),
    Defect("a channel without calibration", "CH-CAL", _signals(120, 8, lambda old: ["32767", *old[1:]]), EDF),
    Defect("a date that is none", "DATE-BAD", _field(168, 8, "32.13.99"), EDF),
    Defect("a name in the header", "ID-HEAD", _field(8, 80, "12345 F 02-MAY-1951 Miller_Mary"), EDF),
    Defect("one recording under two patients", "COPY-SAME", _copied, BOTH),
    Defect("a quieter copy of another patient's recording", "COPY-PROB", _louder, BOTH),
    Defect("no channels.tsv", "SIDE-NONE", lambda target: target.beside("_channels.tsv").unlink(), ENDINGS),
    Defect("a description that is no JSON", "SIDE-JSON", _comma, ENDINGS, place="_eeg.json"),
    Defect("another sampling rate in the description", "SIDE-RATE", _other_rate, ENDINGS),
    Defect("no line frequency", "LINE-NONE", lambda one: one.json(PowerLineFrequency=None), ENDINGS),
    Defect("a bipolar reference in the description", "CH-BIP", lambda one: one.json(EEGReference="bipolar"), BOTH),
)

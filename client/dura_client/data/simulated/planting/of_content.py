"""Defects of events, channels, samples and tables of patients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dura_client.data.simulated.planting.defect import Defect
from dura_client.data.simulated.planting.target import Numbers, Rows, Target

EEG = (".edf", ".vhdr")
SENTENCE = "moved when Mrs Miller came"
EVENTS, CHANNELS = "_events.tsv", "_channels.tsv"


def _events(column: str, change: Callable[[int, str], str]) -> Callable[[Target], None]:
    return lambda target: target.cells(target.beside(EVENTS), column, change)


def _rows(change: Callable[[Rows], Rows]) -> Callable[[Target], None]:
    return lambda target: target.table(target.beside(EVENTS), change)


def _file(change: Callable[[str], bytes]) -> Callable[[Target], None]:
    def plant(target: Target) -> None:
        path = target.beside(EVENTS)
        path.write_bytes(change(path.read_text(encoding="utf-8-sig")))

    return plant


def _channels(column: str, value: str) -> Callable[[Target], None]:
    return lambda target: target.cells(target.beside(CHANNELS), column, lambda _row, _old: value)


def _samples(change: Callable[[Numbers, np.random.Generator], None]) -> Callable[[Target], None]:
    def plant(target: Target) -> None:
        with target.samples() as values:
            change(values, target.rng)

    return plant


def _clipped(values: Numbers, _rng: np.random.Generator) -> None:
    middle, spread = np.median(values, axis=1, keepdims=True), values.std(axis=1, keepdims=True)
    np.clip(values, np.rint(middle - spread), np.rint(middle + spread), out=values)


def _flat(values: Numbers, rng: np.random.Generator) -> None:
    values[rng.integers(len(values))] = 0.0


def _held(values: Numbers, _rng: np.random.Generator) -> None:
    third = values.shape[1] // 3
    values[:, third : 2 * third] = values[:, third : third + 1]


def _bridged(values: Numbers, _rng: np.random.Generator) -> None:
    values[1] = values[0]


def _twice(target: Target) -> None:
    rows: Callable[[Rows], Rows] = lambda old: [*old, *[[*r[:1], "17", *r[2:]] for r in old if r[0] == target.subject]]  # noqa: E731
    target.table(target.root / "participants.tsv", rows)


def _missing(target: Target) -> None:
    target.table(target.root / "participants.tsv", lambda old: [row for row in old if row[0] != target.subject])


def _shouted(target: Target) -> None:
    target.cells(
        target.root / "participants.tsv",
        "participant_id",
        lambda _row, old: old.upper() if old == target.subject else old,
    )


def _milliseconds(_row: int, old: str) -> str:
    return f"{1000 * float(old):g}"


def _first(value: str) -> Callable[[int, str], str]:
    return lambda row, old: value if row == 0 else old


DEFECTS = (
    Defect("onsets in milliseconds", "EV-UNIT", _events("onset", _milliseconds), EEG, True),
    Defect("an onset with a decimal comma", "EV-ONSET", _events("onset", _first("1,5")), EEG, True),
    Defect("an event beyond the end", "EV-END", _events("onset", _first("999999")), EEG, True),
    Defect("an event without a name", "EV-NA", _events("trial_type", _first("n/a")), EEG, True),
    Defect("a negative duration", "EV-NEG", _events("duration", _first("-1")), EEG, True),
    Defect("a name with a slip of the pen", "EV-MAP", _events("trial_type", _first("left_hnad")), EEG, True),
    Defect("an event twice", "EV-TWICE", _rows(lambda old: [*old, old[1]]), EEG, True),
    Defect("events separated by commas", "EV-SEP", _file(lambda old: old.replace("\t", ",").encode()), EEG, True),
    Defect("events in UTF-16", "EV-ENC", _file(lambda old: old.encode("utf-16")), EEG, True),
    Defect("free text among the events", "ID-TEXT", _events("trial_type", _first(SENTENCE)), EEG, True),
    Defect("every channel declared MISC", "CH-TYPE", _channels("type", "MISC"), EEG),
    Defect("every channel marked bad", "CH-MANY", _channels("status", "bad"), EEG),
    Defect("units V in channels.tsv", "CH-UNIT2", _channels("units", "V"), EEG),
    Defect("an amplifier at its limit", "VAL-CLIP", _samples(_clipped), EEG),
    Defect("a flat channel", "CH-FLAT", _samples(_flat), EEG),
    Defect("a third of the recording held", "VAL-HOLD", _samples(_held), EEG),
    Defect("two channels with the same samples", "CH-SAME", _samples(_bridged), EEG),
    Defect("a code for a missing age", "PART-CODE", lambda one: one.own_cell("age", "-9999"), place="participants.tsv"),
    Defect("an age of 430 years", "PART-BOUND", lambda one: one.own_cell("age", "430"), place="participants.tsv"),
    Defect("an age in words", "PART-BOUND", lambda one: one.own_cell("age", "sixty"), place="participants.tsv"),
    Defect("a patient listed twice with different values", "PART-DUP", _twice, place="participants.tsv"),
    Defect("a patient without a row", "PART-ROW", _missing, EEG, place="participants.tsv"),
    Defect("a label in capitals", "PART-ID", _shouted, place="participants.tsv"),
    Defect("a column of names", "ID-HEAD", lambda one: one.own_cell("last_name", "Miller"), place="participants.tsv"),
)

"""Defects of channels.tsv, of channel names and of positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import CHANNELS, RATE, SECONDS, Tree, spec

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick
Rows = list[list[str]]
TABLE = "_channels.tsv"
NAME, TYPE, UNITS, SAMPLING, STATUS = range(5)


def rows(change: Callable[[Rows], Rows]) -> Callable[[Tree], None]:
    """Return a defect that changes cells."""
    return lambda tree: tree.rows(TABLE, change)


def column(number: int, change: Callable[[str], str]) -> Callable[[Tree], None]:
    """Return a defect of all cells of a column."""
    return rows(
        lambda found: [found[0], *[[*row[:number], change(row[number]), *row[number + 1 :]] for row in found[1:]]]
    )


def cell(row: int, number: int, value: str) -> Callable[[Tree], None]:
    """Return a defect of one cell."""

    def change(found: Rows) -> Rows:
        found[row][number] = value
        return found

    return rows(change)


quick("no channels.tsv", "SIDE-NONE", lambda tree: tree.path(TABLE).unlink())
quick("empty channels.tsv", "SIDE-NONE", lambda tree: (tree.path(TABLE).write_text(""), None)[1])
quick("channels.tsv with a header only", "CH-ORDER", rows(lambda found: found[:1]))
quick("channels in reverse order", "CH-ORDER", rows(lambda found: [found[0], *found[:0:-1]]))
quick("channels in other capitals", "CH-ORDER", column(NAME, str.upper))
quick("channels.tsv lacks a channel", "CH-ORDER", rows(lambda found: found[:-1]))
quick("channels.tsv has a channel too many", "CH-ORDER", rows(lambda found: [*found, ["Oz", *found[1][1:]]]))
quick("channels.tsv lists a channel twice", "CH-ORDER", rows(lambda found: [*found, found[3]]))
quick("channels.tsv without a column name", "SIDE-TABLE", rows(lambda found: [row[1:] for row in found]))
quick(
    "channels.tsv separated by commas", "SIDE-TABLE", lambda tree: tree.text(TABLE, lambda old: old.replace("\t", ","))
)
quick(
    "a row of channels.tsv with a cell too few",
    "SIDE-TABLE",
    rows(lambda found: [*found[:3], found[3][:-1], *found[4:]]),
)
quick(
    "channels.tsv in Latin-1",
    "EV-ENC",
    lambda tree: (
        tree.path(TABLE).write_bytes(tree.path(TABLE).read_text().replace("uV", "µV").encode("latin-1")),
        None,
    )[1],
)
quick("channels.tsv without a column type", "CH-TYPE", rows(lambda found: [[row[0], *row[2:]] for row in found]))
quick("every channel of one recording declared MISC", "CH-TYPE", column(TYPE, lambda _: "MISC"))
quick("a type that BIDS does not know", "CH-TYPE", cell(2, TYPE, "SCALP"))
quick("types in small letters", "CH-TYPE", column(TYPE, str.lower))
quick("an electrode declared as EOG", "CH-TYPE", cell(1, TYPE, "EOG"))
quick("a status that is neither good nor bad", "CH-TYPE", cell(2, STATUS, "ok"))
quick("every channel declared as intracranial", "CH-IEEG", column(TYPE, lambda _: "SEEG"))
quick("units V where the header says uV", "CH-UNIT2", column(UNITS, lambda _: "V"))
quick("units of one channel mV", "CH-UNIT2", cell(2, UNITS, "mV"))
quick("units that are no voltage", "CH-UNIT2", column(UNITS, lambda _: "Ohm"))
quick("sampling_frequency of another recording", "SIDE-RATE", column(SAMPLING, lambda _: "250"))


def named(labels: Sequence[str], extra: int = 0) -> Callable[[Tree], None]:
    """Return a defect that gives the channels other labels, in channels.tsv too; more channels are shifted copies."""

    def plant(tree: Tree) -> None:
        made = spec(2)
        signals = list(made.signals)
        for number in range(extra):
            source = signals[number % len(CHANNELS)]
            noise = np.random.default_rng(number).normal(0, 60, RATE * SECONDS).astype(int)
            signals.append(type(source)(f"x{number}", np.roll(source.numbers, 37 * (number + 1)) + noise, RATE))
        signals = [type(one)(label, one.numbers, RATE) for one, label in zip(signals, labels, strict=True)]
        tree.write(type(made)(tuple(signals), made.header, made.annotated))
        tree.rows(TABLE, lambda found: [found[0], *[[label, *found[1][1:]] for label in labels]])

    return plant


OLD = ("Fp1", "Fp2", "F3", "F4", "T3", "Cz", "T4", "T5", "T6", "O1")
quick("old names of the 10-20 system (T3 to T6)", "CH-ALIAS", named(OLD))
quick("names such as EEG Fp1-REF", "CH-ALIAS", named([f"EEG {name.upper()}-REF" for name in CHANNELS]))
quick("names such as EEG Fp1-LE", "CH-ALIAS", named([f"EEG {name.upper()}-LE" for name in CHANNELS]))
quick("names with dots (Fc5.)", "CH-ALIAS", named([f"{name}." for name in CHANNELS]))
quick("names with POL before them", "CH-ALIAS", named([f"POL {name}" for name in CHANNELS]))
quick(
    "bipolar montage",
    "CH-BIP",
    named(("FP1-F7", "F7-T7", "T7-P7", "P7-O1", "FP1-F3", "F3-C3", "C3-P3", "P3-O1", "FZ-CZ", "CZ-PZ")),
)
quick("one bipolar channel among others", "CH-BIP", named((*CHANNELS[:-1], "Fz-Pz")))
quick(
    "bipolar names with EEG before them",
    "CH-BIP",
    named([f"EEG {a}-{b}" for a, b in zip(CHANNELS, (*CHANNELS[1:], "Fz"), strict=True)]),
)
quick(
    "places of a BioSemi cap (A1 to B16)",
    "CH-ABC",
    named([f"{letter}{number}" for letter in "AB" for number in range(1, 17)], extra=22),
)
quick("numbers for names (1 to 32)", "CH-ABC", named([str(number) for number in range(1, 33)], extra=22))
quick("places of an EGI net (E1 to E32)", "CH-ABC", named([f"E{number}" for number in range(1, 33)], extra=22))
quick("intracranial contacts (HL1 to HL10)", "CH-IEEG", named([f"HL{number}" for number in range(1, 11)]))
quick("intracranial contacts (LAH1 to LAH10)", "CH-IEEG", named([f"LAH{number}" for number in range(1, 11)]))
quick(
    "intracranial contacts of two electrodes",
    "CH-IEEG",
    named([f"{name}{number}" for name in ("OorLi", "TBA'") for number in range(1, 6)]),
)
quick("ears recorded as channels", "CH-EAR", named((*CHANNELS, "A1", "A2"), extra=2))
quick(
    "ears and unknown names only", "CH-NAME", named(("A1", "A2", "PG1", "PG2", "X1", "Sph1", "Sph2", "Q7", "Z9", "Nz9"))
)
quick("electrodes that the system does not know", "CH-NAME", named((*CHANNELS[:-2], "PG1", "Sph1")))
quick("a heart channel declared as EEG", "CH-TYPE", named((*CHANNELS[:-1], "EKG")))


@add("every channel declared as a trigger or a heart", "CH-NONE")
def no_eeg(tree: Tree) -> None:
    """Give the channels other names and types."""
    named([f"EKG{number}" for number in range(1, 11)])(tree)
    tree.rows(TABLE, lambda found: [found[0], *[[row[0], "ECG", *row[2:]] for row in found[1:]]])


@add("positions in millimetres", "SIDE-POS")
def millimetres(tree: Tree) -> None:
    """Write positions a thousand times too large."""
    _positions(tree, CHANNELS, 90.0)


@add("positions of other channels", "SIDE-POS")
def other_positions(tree: Tree) -> None:
    """Write positions of channels that are not there."""
    _positions(tree, [f"E{number}" for number in range(1, 11)], 0.09)


def _positions(tree: Tree, names: Sequence[str], radius: float) -> None:
    lines = ["name\tx\ty\tz"]
    for number, name in enumerate(names):
        turn = 2 * np.pi * number / len(names)
        lines.append(f"{name}\t{radius * np.cos(turn):.4f}\t{radius * np.sin(turn):.4f}\t{radius / 2:.4f}")
    (tree.root / "sub-02" / "eeg" / "sub-02_electrodes.tsv").write_text("\n".join(lines) + "\n")
    (tree.root / "sub-02" / "eeg" / "sub-02_coordsystem.json").write_text(
        '{"EEGCoordinateSystem": "CapTrak", "EEGCoordinateUnits": "m"}'
    )

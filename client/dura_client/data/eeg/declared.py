"""What channels.tsv says of a recording's channels, matched by name, and where it disagrees with the recording."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dura_client.data.eeg.names import Site, interpret
from dura_client.data.findings.finding import listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.source import MAGNETIC, Note, Signal, volts_of
from dura_client.data.recordings.tables import MISSING, NO_NAME, Table, number_of

TYPES = frozenset(
    [
        "AUDIO",
        "EEG",
        "EOG",
        "ECG",
        "EMG",
        "EYEGAZE",
        "GSR",
        "HEOG",
        "MISC",
        "PPG",
        "PUPIL",
        "REF",
        "RESP",
        "SYSCLOCK",
        "TEMP",
        "TRIG",
        "VEOG",
        "SEEG",
        "ECOG",
        "DBS",
        "MEG",
        "MEGMAG",
        "MEGGRADAXIAL",
        "MEGGRADPLANAR",
        "MEGREFMAG",
        "HLU",
        "FITERR",
        "OTHER",
        "DAC",
        "ADC",
        "ACCEL",
        "GYRO",
        "MAGN",
        "LATENCY",
        "NIRS",
    ]
)
STATES = {"good": False, "bad": True}
RATE_TOLERANCE = 1e-3
MOST_BAD = 0.25
"""Share of the EEG channels that may be marked bad before it is called a loss."""


@dataclass(frozen=True, slots=True)
class Declared:
    """Types and states by label, in lower case."""

    kinds: dict[str, str]
    bad: frozenset[str]
    notes: tuple[Note, ...] = ()
    cutoffs: tuple[float | None, float | None] = (None, None)
    """High-pass and low-pass in Hz, the narrowest of all EEG channels."""

    def kind_of(self, label: str) -> str:
        """Return the BIDS type of a channel, or an empty string."""
        return self.kinds.get(label.strip().lower(), "")

    def is_bad(self, label: str) -> bool:
        """Tell whether a channel is marked bad."""
        return label.strip().lower() in self.bad


NOTHING = Declared({}, frozenset())


def declared_by(table: Table, signals: Sequence[Signal]) -> Declared:
    """Return what a table says of a recording's channels."""
    notes: list[Note] = []
    if "name" not in table:
        return Declared({}, frozenset(), (Note("SIDE-TABLE", "channels.tsv has no column name; it was not used"),))
    names = table.column("name")
    lower = [name.lower() for name in names]
    _order(names, [signal.label for signal in signals], notes)
    kinds = _kinds(table, lower, signals, notes)
    bad = _states(table, lower, notes)
    _units(table, lower, signals, notes)
    _rates(table, lower, signals, notes)
    present = {signal.label.lower() for signal in signals}
    _states_of_all(kinds, bad & present, notes)
    _references(table, notes)
    return Declared(kinds, frozenset(bad & present), tuple(notes), _cutoffs(table, signals))


def _states_of_all(kinds: dict[str, str], bad: set[str], notes: list[Note]) -> None:
    eeg = {name for name, kind in kinds.items() if kind == "EEG"}
    if eeg and len(bad & eeg) > MOST_BAD * len(eeg):
        notes.append(Note("CH-MANY", f"{len(bad & eeg)} of {len(eeg)} EEG channels are marked bad in channels.tsv"))


def _references(table: Table, notes: list[Note]) -> None:
    if "reference" not in table:
        return
    said = sorted({cell for cell in table.column("reference") if cell.lower() not in NO_NAME})
    if len(said) > 1:
        notes.append(Note("CH-REF", f"channels.tsv gives the references {listed(said)}"))


def _cutoffs(table: Table, signals: Sequence[Signal]) -> tuple[float | None, float | None]:
    """Return the narrowest band of the columns low_cutoff (a high-pass) and high_cutoff; half the rate is no filter."""
    fastest = max((signal.rate for signal in signals), default=0.0)
    edges = []
    for name in ("low_cutoff", "high_cutoff"):
        cells = table.column(name) if name in table else []
        edges.append([number for cell in cells if (number := number_of(cell)) is not None and number > 0])
    lows, highs = edges[0], [edge for edge in edges[1] if edge < 0.49 * fastest]
    return max(lows, default=None), min(highs, default=None)


def _order(names: list[str], labels: list[str], notes: list[Note]) -> None:
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice:
        notes.append(
            Note(
                "CH-ORDER", f"channels.tsv lists {listed(twice)} more than once; the last row counts", grade=Grade.LOSES
            )
        )
    known = {name.lower() for name in names}
    missing = [label for label in labels if label.lower() not in known]
    extra = [name for name in names if name.lower() not in {label.lower() for label in labels}]
    if missing:
        notes.append(Note("CH-ORDER", f"channels.tsv has no row for {listed(missing)}", grade=Grade.LOSES))
    if extra:
        notes.append(
            Note(
                "CH-ORDER",
                f"channels.tsv has rows for channels that the recording lacks: {listed(extra)}",
                grade=Grade.LOSES,
            )
        )
    if not missing and not extra and not twice and names != labels:
        case = [name.lower() for name in names] == [label.lower() for label in labels]
        what = "writes names in other capitals than the recording" if case else "lists the channels in another order"
        notes.append(Note("CH-ORDER", f"channels.tsv {what}"))


def _kinds(table: Table, names: list[str], signals: Sequence[Signal], notes: list[Note]) -> dict[str, str]:
    if "type" not in table:
        notes.append(Note("CH-TYPE", "channels.tsv has no column type; types were guessed from names"))
        return {}
    cells = table.column("type")
    unknown = sorted({cell for cell in cells if cell.upper() not in TYPES})
    if unknown:
        texts = listed(cell or "(empty)" for cell in unknown)
        notes.append(Note("CH-TYPE", f"channels.tsv has types that BIDS does not know: {texts}; guessed from names"))
    small = sorted({cell for cell in cells if cell.upper() in TYPES and cell != cell.upper()})
    if small:
        notes.append(Note("CH-TYPE", f"types are written {listed(small)}; BIDS wants capitals", grade=Grade.KNOW))
    kinds = {name: cell.upper() for name, cell in zip(names, cells, strict=True) if cell.upper() in TYPES}
    meanings = interpret([signal.label for signal in signals])
    hidden = [
        signal.label
        for signal, meaning in zip(signals, meanings, strict=True)
        if meaning.site is Site.SCALP and kinds.get(signal.label.lower(), "EEG") not in {"EEG", "REF"}
    ]
    if hidden and "EEG" in kinds.values():
        notes.append(Note("CH-TYPE", f"{listed(hidden)} named as electrodes, declared as something else and not used"))
    strange = [
        signal.label
        for signal, meaning in zip(signals, meanings, strict=True)
        if meaning.site is Site.OTHER and kinds.get(signal.label.lower()) == "EEG"
    ]
    if strange:
        notes.append(Note("CH-TYPE", f"{listed(strange)} declared as EEG, named as something else"))
    return kinds


def _states(table: Table, names: list[str], notes: list[Note]) -> set[str]:
    if "status" not in table:
        return set()
    cells = table.column("status")
    unknown = sorted({cell for cell in cells if cell.lower() not in {*STATES, *MISSING}})
    if unknown:
        texts = listed(cell or "(empty)" for cell in unknown)
        notes.append(Note("CH-TYPE", f"the column status holds {texts}, neither good nor bad; read as good"))
    return {name for name, cell in zip(names, cells, strict=True) if STATES.get(cell.lower(), False)}


def _units(table: Table, names: list[str], signals: Sequence[Signal], notes: list[Note]) -> None:
    if "units" not in table:
        cause = "channels.tsv has no column units; those of the recording were used"
        notes.append(Note("CH-UNIT2", cause, grade=Grade.KNOW))
        return
    said = dict(zip(names, table.column("units"), strict=True))
    wrong: dict[tuple[str, str], list[str]] = {}
    unknown: list[str] = []
    for signal in signals:
        text = said.get(signal.label.lower(), "n/a")
        factor = volts_of(text)
        if signal.unit in MAGNETIC and text not in {*MISSING, signal.unit}:
            wrong.setdefault((text or "(empty)", signal.unit), []).append(signal.label)
        if signal.volts is None or not signal.unit or text in MISSING:
            continue
        if factor is None:
            unknown.append(text or "(empty)")
        elif factor != signal.volts:
            wrong.setdefault((text, signal.unit), []).append(signal.label)
    for (text, unit), labels in wrong.items():
        notes.append(Note("CH-UNIT2", f"channels.tsv says {text} and the recording {unit}: {listed(labels)}"))
    if unknown:
        notes.append(Note("CH-UNIT2", f"channels.tsv has units that are no voltage: {listed(sorted(set(unknown)))}"))


def _rates(table: Table, names: list[str], signals: Sequence[Signal], notes: list[Note]) -> None:
    if "sampling_frequency" not in table:
        return
    said = dict(zip(names, table.column("sampling_frequency"), strict=True))
    for signal in signals:
        cell = said.get(signal.label.lower(), "n/a")
        rate = number_of(cell)
        if cell in MISSING or (rate is not None and abs(rate - signal.rate) <= RATE_TOLERANCE * signal.rate):
            continue
        notes.append(
            Note(
                "SIDE-RATE",
                f"channels.tsv says {cell or '(empty)'} Hz for {signal.label}, the recording {signal.rate:g} Hz",
            )
        )
        return

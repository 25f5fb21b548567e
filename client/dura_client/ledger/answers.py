"""What can be read out of the ledger's rows: by row, by study, by patient. Nothing here writes or decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

from dura_client.ledger.book import Book
from dura_client.ledger.rows import Content
from dura_common.privacy import Event, event_from_json
from dura_common.privacy.accounting import epsilon_of_mechanisms

Kind = Literal["reserve", "settle", "refund", "withdraw"]
Purpose = Literal["train", "evaluate"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger; a withdrawal has no study, round, purpose and event."""

    id: int
    kind: Kind
    study: str | None
    round: int | None
    purpose: Purpose | None
    repeat: int | None
    """0 for the round; from 1 on, a draw that was made again after a loss."""
    patients: int
    """Size of the cohort; for the site's own eyes."""
    event: Event | None
    """None in a study without noise."""
    time: datetime
    hash: str


@dataclass(frozen=True, slots=True)
class StudySpending:
    """What one study has taken so far."""

    study: str
    releases: int
    """Reserved and not refunded."""
    unfinished: int
    """Reserved and never settled, now or for ever; counted as spent."""
    refunded: int
    unaccounted: int
    """Releases without noise (public data)."""
    epsilon: float | None
    """Of the patient who spent most in this study; None if it added no noise at all, which has no epsilon."""

    @property
    def state(self) -> str:
        """``settled``, or ``unfinished`` while a reservation is open."""
        return "unfinished" if self.unfinished else "settled"


@dataclass(frozen=True, slots=True)
class PatientInStudy:
    """What one study did with one patient."""

    study: str
    train: tuple[int, ...]
    """Rounds for which the patient could be drawn."""
    evaluate: tuple[int, ...]
    """Rounds after which the patient was scored."""
    released: int | None
    """Last training round with the patient that was settled: a model with these contributions left the site."""
    epsilon: float | None
    """What the study cost the patient; None without noise."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: enough to recognise later that nothing before it was lost."""

    entries: int
    hash: str


def state_of(book: Book, reserved: Content) -> str:
    """Return the kind of the last row of a reservation."""
    last = book.last[reserved.release]
    return last.kind if last.attempt == reserved.attempt else "refund"  # only after a refund there is another attempt


def entries_of(book: Book) -> tuple[Entry, ...]:
    """Return all rows in order."""
    return tuple(
        Entry(
            id=number,
            kind=cast("Kind", row.kind),
            study=row.study,
            round=row.round,
            purpose=cast("Purpose | None", row.purpose),
            repeat=row.repeat,
            patients=book.sizes[row.cohort],
            event=None if row.event is None else event_from_json(row.event),
            time=datetime.fromisoformat(row.time),
            hash=book.hashes[number - 1],
        )
        for number, row in enumerate(book.rows, start=1)
    )


def studies_of(book: Book, delta: float) -> tuple[StudySpending, ...]:
    """Return what each study has taken, in order of its first reservation."""
    reserved = [row for row in book.rows if row.kind == "reserve"]
    result = []
    for study in dict.fromkeys(row.release.study for row in reserved):
        rows = [row for row in reserved if row.study == study]
        states = [state_of(book, row) for row in rows]
        kept = [row for row, state in zip(rows, states, strict=True) if state != "refund"]
        result.append(
            StudySpending(
                study=study,
                releases=len(kept),
                unfinished=states.count("reserve"),
                refunded=states.count("refund"),
                unaccounted=sum(row.event is None for row in kept),
                epsilon=book.most(delta, study) if any(row.event for row in rows) else None,
            )
        )
    return tuple(result)


def history_of(book: Book, patient: str, delta: float) -> tuple[PatientInStudy, ...]:
    """Return what each study did with one patient, in order of the first reservation."""
    cohorts = book.cohorts_with(patient)
    rows = [row for row in book.rows if row.kind == "reserve" and row.cohort in cohorts]
    kept = [row for row in rows if state_of(book, row) != "refund"]
    result = []
    for study in dict.fromkeys(row.release.study for row in kept):
        mine = [row for row in kept if row.study == study]
        rounds = {
            purpose: tuple(sorted({row.release.round for row in mine if row.purpose == purpose}))
            for purpose in ("train", "evaluate")
        }
        settled = [row.release.round for row in mine if row.purpose == "train" and state_of(book, row) == "settle"]
        priced = any(row.event for row in mine)
        result.append(
            PatientInStudy(
                study=study,
                train=rounds["train"],
                evaluate=rounds["evaluate"],
                released=max(settled, default=None),
                epsilon=epsilon_of_mechanisms(book.spending(patient, study), delta) if priced else None,
            )
        )
    return tuple(result)

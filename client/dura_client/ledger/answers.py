"""Answers from the ledger's rows: by row, by study, by patient. Nothing here writes or decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from dura_client.ledger.book import SEVERAL, Allocation, Book, said
from dura_client.ledger.charges import Charge, epsilon_at
from dura_client.ledger.rows import Content
from dura_common.privacy import Event, event_from_json
from dura_common.privacy.accounting import epsilon_of_mechanisms

Kind = Literal["identity", "host", "allocate", "attempt", "begin", "close", "withdraw", "reserve", "settle", "refund"]
REPEATED = frozenset({"spare", "evaluate-spare"})
"""Blocks whose draws repeat others."""
_OLDER = frozenset({"reserve", "settle", "refund"})


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger. Fields that a kind of row does not have are None."""

    id: int
    kind: Kind
    study: str | None
    round: int | None
    purpose: str | None
    """In rows about a block, the block's name."""
    repeat: int | None
    """Number of a draw."""
    patients: int
    """Size of the cohort; it stays at the site."""
    event: Event | None
    """Of rows of format 2; None in a study without noise."""
    time: datetime
    hash: str


@dataclass(frozen=True, slots=True)
class StudySpending:
    """The spending of one study so far."""

    study: str
    state: Literal["open", "closed"]
    """Whether the study may still begin draws."""
    draws: int
    """Number of draws that began; their vectors may have left the site."""
    redraws: int
    """Number of these draws that repeated a lost one."""
    unaccounted: int
    """Draws without noise (public data)."""
    epsilon: float | None
    """The largest epsilon of any patient in this study, including what is set aside; None if it has no noise."""


@dataclass(frozen=True, slots=True)
class PatientInStudy:
    """The part of one patient in one study."""

    study: str
    train: tuple[int, ...]
    """Rounds for which the patient could be drawn."""
    evaluate: tuple[int, ...]
    """Rounds after which the patient was scored."""
    released: int | None
    """Last training round in which a draw began: a model with this patient's contributions may have left the site."""
    epsilon: float | None
    """The cost of the study for the patient, including what is set aside; None without noise."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain. With it, a later check can show that no earlier row was lost."""

    entries: int
    hash: str


def state_of(book: Book, reserved: Content) -> str:
    """Return the kind of the last row of a reservation of format 2."""
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
            purpose=row.purpose,
            repeat=row.repeat,
            patients=book.sizes[row.cohort],
            event=event_from_json(row.event) if row.kind in _OLDER and row.event is not None else None,
            time=datetime.fromisoformat(row.time),
            hash=book.hashes[number - 1],
        )
        for number, row in enumerate(book.rows, start=1)
    )


def redraws_of(allocation: Allocation) -> int:
    """Return how many draws of a study repeated one after a loss."""
    return sum(len(block.begun) for (name, _), block in allocation.blocks.items() if name in REPEATED)


def studies_of(book: Book, delta: float) -> tuple[StudySpending, ...]:
    """Return the spending of each study, in the order of the first rows."""
    older = [row for row in book.rows if row.kind == "reserve" and state_of(book, row) != "refund"]
    names = dict.fromkeys(row.study for row in book.rows if row.kind in {"reserve", "allocate"})
    result = []
    for study in names:
        if study is None:
            continue
        rows = [row for row in older if row.study == study]
        allocations = book.studies.get(study, [])
        blocks = [block for allocation in allocations for block in allocation.blocks.values()]
        priced = any(row.event for row in rows) or any(block.event for block in blocks)
        result.append(
            StudySpending(
                study=study,
                state="open" if book.open_allocation(study) else "closed",
                draws=len(rows) + sum(len(block.begun) for block in blocks),
                redraws=sum(bool(row.repeat) for row in rows) + sum(redraws_of(item) for item in allocations),
                unaccounted=sum(row.event is None for row in rows)
                + sum(len(block.begun) for block in blocks if block.event is None),
                epsilon=most_in(book, study, delta) if priced else None,
            )
        )
    return tuple(result)


def most_in(book: Book, study: str, delta: float) -> float:
    """Return the largest epsilon of one study for any patient; its mechanisms were fixed, so they are composed."""
    return max((epsilon_of_mechanisms(kind, delta) for kind in book.composed(study)), default=0.0)


def most_in_all(book: Book, delta: float) -> float:
    """Return the largest epsilon of all studies together for any patient.

    A single study was fixed in advance and is composed. Several studies may depend on each other and are added up.
    """
    totals = book.totals(delta)
    studies, place = book.only_study(delta)
    several = {(int(mu), int(leak)) for mu, leak in totals[:2, place == SEVERAL].T}
    single = {studies[number] for number in np.unique(place[place >= 0])}
    return max(
        *(epsilon_at(mu, leak, delta) for mu, leak in several),
        *(most_in(book, study, delta) for study in single),
        0.0,
        0.0,
    )


def spent_by(book: Book, patient: str, delta: float) -> float:
    """Return epsilon of one patient over all studies; see :func:`most_in_all`."""
    studies, places = book.only_study(delta)
    place = int(book.of(places[None], [patient])[0, 0]) if book.cohorts_with(patient) else -1
    if place == -1:
        return 0.0
    if place >= 0:
        (spending,) = book.composed(studies[place], book.cohorts_with(patient))
        return epsilon_of_mechanisms(spending, delta)
    mu, leak = (int(value) for value in book.of(book.totals(delta), [patient])[:2, 0])
    return epsilon_at(mu, leak, delta)


def history_of(book: Book, patient: str, delta: float) -> tuple[PatientInStudy, ...]:
    """Return the part of one patient in each study, in the order of the first rows."""
    cohorts = book.cohorts_with(patient)
    result = []
    for study in dict.fromkeys(row.study for row in book.rows if row.kind in {"reserve", "allocate"}):
        if study is None:
            continue
        train, evaluate, released = _rounds(book, study, cohorts)
        charged = any(
            block.cohort in cohorts for item in book.studies.get(study, ()) for _, block in item.charged()
        ) or any(name == study and cohort in cohorts for name, cohort in book.older)
        if not (train or evaluate or charged):
            continue
        (spending,) = book.composed(study, cohorts)
        result.append(
            PatientInStudy(
                study=study,
                train=tuple(sorted(train)),
                evaluate=tuple(sorted(evaluate)),
                released=max(released, default=None),
                epsilon=epsilon_of_mechanisms(spending or Counter(), delta) if spending else None,
            )
        )
    return tuple(result)


def _rounds(book: Book, study: str, cohorts: frozenset[str]) -> tuple[set[int], set[int], set[int]]:
    """Return the rounds in which a patient could be drawn or scored, and the round of the last model that left."""
    train: set[int] = set()
    evaluate: set[int] = set()
    released: set[int] = set()
    for row in book.rows:
        if row.study != study or row.cohort not in cohorts or row.round is None:
            continue
        if row.kind == "begin":
            into = train if row.purpose in {"train", "spare"} else evaluate
            # The round of a draw of training stands in what the row says, since its block is not of one round.
            into.add(row.round or _round_said(row))
            if into is train:
                released.add(_round_said(row))
        elif row.kind == "reserve" and state_of(book, row) != "refund":
            (train if row.purpose == "train" else evaluate).add(row.round)
            if row.purpose == "train" and state_of(book, row) == "settle":
                released.add(row.round)
    return train, evaluate, released


def _round_said(row: Content) -> int:
    return int(said(row)["round"])


def room_for(
    book: Book,
    patients: tuple[str, ...],
    charge: Charge,
    cap: Charge,
    *,
    delta: float,
    without: str | None,
    first: Callable[[], bool],
) -> list[bool]:
    """Tell for each patient whether a charge still fits, in addition to the charges of all studies except one.

    ``first`` says whether the study alone, composed, stays under the caps. Then it fits for patients whom no study has
    charged. This does not weaken the filter: another study fits in addition only if the added charges fit.
    """
    own = book.of(book.totals(delta, without=without), patients)
    limits = np.array([most - more for most, more in zip(cap, charge, strict=True)])[:, None]
    fits: NDArray[np.bool_] = np.all(own <= limits, axis=0)
    fresh = np.all(own == 0, axis=0)
    if (fresh & ~fits).any() and first():
        fits = fits | fresh
    return [bool(fine) for fine in fits]

"""The privacy ledger: what every patient has spent, recorded before it is spent.

Rules: the ledger keeps events, never epsilons, and composes them afresh for every question. A release is
first reserved, durably, then computed, then settled; a reservation that was never settled counts as spent,
because a crash does not tell what had left. A round of a study is reserved once for each purpose. A patient
pays for the cohorts that he or she was in and for no others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from dura_client.ledger_schema import Content
from dura_client.ledger_spending import add, collect, fits, most
from dura_client.ledger_store import LedgerStore
from dura_common.errors import BudgetError, StateError, TrustError
from dura_common.privacy import Event, event_from_json, event_to_json

Kind = Literal["reserve", "settle"]
Purpose = Literal["train", "evaluate"]
_KEY = re.compile(r"[0-9a-f]{64}")


class RepeatedRound(StateError):  # named after what happened, as the refusal reason is
    """This round of the study was reserved before for this purpose, finished or not."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger."""

    id: int
    kind: Kind
    study: str
    round: int
    purpose: Purpose
    repeat: int
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
    unfinished: int
    """Reserved and never settled, now or for ever; counted as spent."""
    unaccounted: int
    """Releases without noise (public data)."""
    epsilon: float | None
    """Of the patient who spent most in this study; None if it added no noise at all, which has no epsilon."""

    @property
    def state(self) -> str:
        """``settled``, or ``unfinished`` while a reservation is open."""
        return "unfinished" if self.unfinished else "settled"


@dataclass(frozen=True, slots=True)
class Head:
    """The end of the chain: enough to recognise later that nothing before it was lost."""

    entries: int
    hash: str


class Ledger:
    """The ledger of one site.

    Args:
        path: its file; created by the first reservation.
        clock: returns the present time (UTC); tests set it.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = LedgerStore(path)
        self._clock = clock

    def reserve(
        self,
        *,
        study: str,
        round: int,  # noqa: A002  # the study's word
        purpose: Purpose,
        patients: Sequence[str],
        event: Event | None,
        epsilon_per_study: float,
        epsilon_total: float,
        delta: float,
        repeat: int = 0,
    ) -> int:
        """Record durably that ``event`` is about to happen to ``patients``; return the id for :meth:`settle`.

        Args:
            study: digest of the study.
            round: round of the study; whether the study has it is checked by the caller.
            purpose: ``train`` or ``evaluate``.
            patients: keys of the cohort (64 hexadecimal digits each), in any order.
            event: what happens to each of them; None without noise on public data: kept, but without a price.
            epsilon_per_study: most that this study may cost any of them, this event included.
            epsilon_total: most that everything may cost any of them.
            delta: where both caps hold.
            repeat: 0 for the round; from 1 on, the number of a draw that has to be made again after a loss.

        Raises:
            RepeatedRound: reserved before.
            BudgetError: a patient would exceed a cap; nothing was recorded.
            TrustError: the ledger was tampered with.
            HostError: it could not be written; nothing was recorded.
        """
        _check_arguments(study, round, repeat, patients, epsilon_per_study, epsilon_total, delta)
        with self._store.writing() as writer:
            snapshot = writer.snapshot
            if (study, round, purpose, repeat) in {_release(row) for row in snapshot.rows}:
                raise RepeatedRound(f"{purpose} round {round} of this study was recorded before")
            if event is not None:
                charge = dict.fromkeys(patients, (event_to_json(event),))
                for cap, scope, words in (
                    (epsilon_per_study, study, "for one study"),
                    (epsilon_total, None, "for all studies together"),
                ):
                    if not fits(add(collect(snapshot, scope), charge), cap, delta):
                        raise BudgetError(
                            f"a patient would exceed epsilon {cap:g} at delta {delta:g} {words}",
                            hint="`dura site ledger show` says what was spent; the policy sets the caps.",
                        )
            content = Content(
                kind="reserve",
                study=study,
                round=round,
                purpose=purpose,
                repeat=repeat,
                cohort=writer.add_cohort(patients),
                event=None if event is None else event_to_json(event),
                delta=float(delta),
                epsilon_per_study=float(epsilon_per_study),
                epsilon_total=float(epsilon_total),
                time=self._now(),
            )
            return writer.add(content)

    def settle(self, entry: int) -> None:
        """Record that the reserved release was made; the cost stays what it was.

        Raises:
            StateError: there is no such reservation, or it is settled.
            TrustError: the ledger was tampered with.
            HostError: it could not be written.
        """
        with self._store.writing() as writer:
            rows = writer.snapshot.rows
            if not 1 <= entry <= len(rows) or rows[entry - 1].kind != "reserve":
                raise StateError(f"the ledger has no reservation {entry}")
            reserved = rows[entry - 1]
            if _release(reserved) in {_release(row) for row in rows if row.kind == "settle"}:
                raise StateError(f"reservation {entry} is settled already")
            writer.add(replace(reserved, kind="settle", time=self._now()))

    def spent(self, delta: float, study: str | None = None) -> float:
        """Return epsilon of the patient who spent most, over all studies or over one.

        Raises:
            TrustError: the ledger was tampered with.
        """
        return most(collect(self._store.read(), study), delta)

    def fits(
        self,
        *,
        study: str,
        charges: Iterable[tuple[Sequence[str], Sequence[Event | None]]],
        epsilon_total: float,
        delta: float,
    ) -> bool:
        """Return whether a whole study would keep every patient under the total cap. Records nothing.

        Args:
            study: its digest; what it has spent so far is part of ``charges`` and not counted twice.
            charges: cohorts with all events that the study holds for them.
            epsilon_total: most that everything may cost a patient.
            delta: where the cap holds.

        Raises:
            TrustError: the ledger was tampered with.
        """
        charge: dict[str, tuple[str, ...]] = {}
        for patients, events in charges:
            texts = tuple(event_to_json(event) for event in events if event is not None)
            for patient in patients:
                charge[patient] = (*charge.get(patient, ()), *texts)
        return fits(add(collect(self._store.read(), None, without=study), charge), epsilon_total, delta)

    def studies(self, delta: float) -> tuple[StudySpending, ...]:
        """Return what each study has taken, in order of its first reservation.

        Raises:
            TrustError: the ledger was tampered with.
        """
        snapshot = self._store.read()
        settled = {_release(row) for row in snapshot.rows if row.kind == "settle"}
        reserved = [row for row in snapshot.rows if row.kind == "reserve"]
        result = []
        for study in dict.fromkeys(row.study for row in reserved):
            rows = [row for row in reserved if row.study == study]
            result.append(
                StudySpending(
                    study=study,
                    releases=len(rows),
                    unfinished=sum(_release(row) not in settled for row in rows),
                    unaccounted=sum(row.event is None for row in rows),
                    epsilon=most(collect(snapshot, study), delta) if any(row.event for row in rows) else None,
                )
            )
        return tuple(result)

    def entries(self) -> tuple[Entry, ...]:
        """Return all rows in order.

        Raises:
            TrustError: the ledger was tampered with.
        """
        snapshot = self._store.read()
        return tuple(
            Entry(
                id=number,
                kind=cast("Kind", row.kind),
                study=row.study,
                round=row.round,
                purpose=cast("Purpose", row.purpose),
                repeat=row.repeat,
                patients=len(snapshot.cohorts[row.cohort]),
                event=None if row.event is None else event_from_json(row.event),
                time=datetime.fromisoformat(row.time),
                hash=snapshot.hashes[number - 1],
            )
            for number, row in enumerate(snapshot.rows, start=1)
        )

    def last_delta(self) -> float | None:
        """Return the delta of the last row, for lack of a policy; None for an empty ledger."""
        rows = self._store.read().rows
        return rows[-1].delta if rows else None

    def verify(self, known: str | None = None) -> Head:
        """Check every row and what each settlement belongs to; return the end of the chain.

        Args:
            known: hash that :meth:`verify` returned before; it must still be in the chain, which shows
                that the file was not replaced by an older one.

        Raises:
            TrustError: a row was altered or removed, or ``known`` is missing.
        """
        snapshot = self._store.read()
        open_releases: dict[tuple[str, int, str, int], Content] = {}
        for number, row in enumerate(snapshot.rows, start=1):
            if row.kind == "reserve":
                open_releases[_release(row)] = row
            else:
                reserved = open_releases.pop(_release(row), None)
                if reserved is None or row != replace(reserved, kind="settle", time=row.time):
                    raise TrustError(f"the privacy ledger cannot be trusted: entry {number} settles nothing")
            if row.event is not None:
                event_from_json(row.event)
        if known is not None and known not in snapshot.hashes:
            raise TrustError(
                "the privacy ledger cannot be trusted: it does not contain the entry that was noted before",
                hint="The file may have been replaced by an older copy; look for a newer backup.",
            )
        return Head(len(snapshot.rows), snapshot.head)

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _check_arguments(
    study: str, round_number: int, repeat: int, patients: Sequence[str], per_study: float, total: float, delta: float
) -> None:
    if not study or round_number < 1 or repeat < 0:
        raise ValueError("a reservation names a study, a round from 1 on and a repetition from 0 on")
    if not patients or len(set(patients)) != len(patients):
        raise ValueError("a cohort has at least one patient and none twice")
    if not all(_KEY.fullmatch(patient) for patient in patients):
        raise ValueError("patients are named by keys of 64 hexadecimal digits, never by their labels")
    if not (per_study > 0 and total > 0 and 0 < delta < 1):
        raise ValueError("caps must be positive and delta between 0 and 1")


def _release(row: Content) -> tuple[str, int, str, int]:
    return row.study, row.round, row.purpose, row.repeat

"""Questions to the ledger: what is set aside, spent, and still available? Nothing here writes."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dura_client.ledger.answers import (
    Entry,
    Head,
    PatientInStudy,
    StudySpending,
    entries_of,
    history_of,
    most_in,
    most_in_all,
    redraws_of,
    room_for,
    spent_by,
    studies_of,
)
from dura_client.ledger.book import Book
from dura_client.ledger.charges import MOST, NOTHING, Charge, cap_of, charge_of
from dura_client.ledger.checks import check_order
from dura_client.ledger.store import LedgerStore
from dura_common.errors import TrustError
from dura_common.policy import Policy
from dura_common.privacy import event_to_json
from dura_common.privacy.accounting import epsilon_of
from dura_common.privacy.blocks import Block
from dura_common.sums.heads import Mark


@dataclass(frozen=True, slots=True)
class Caps:
    """The most that all studies together may cost a patient, at one delta."""

    epsilon_total: float
    epsilon_if_broken: float
    """The same cap against somebody who broke the aggregation and sees this site's vectors separately."""
    delta: float

    def __post_init__(self) -> None:
        if not (self.epsilon_total > 0 and self.epsilon_if_broken > 0 and 0 < self.delta < 1):
            raise ValueError("caps must be positive and delta between 0 and 1")

    @classmethod
    def of(cls, policy: Policy) -> Caps:
        """Return the caps that a policy sets."""
        return cls(policy.epsilon_total, policy.total_if_broken, policy.delta)

    @property
    def charge(self) -> Charge:
        """The most that a patient may be charged."""
        return cap_of(self.epsilon_total, self.epsilon_if_broken, self.delta)


@dataclass(frozen=True, slots=True)
class Identity:
    """The facts that tie a ledger to the pseudonyms of its patients."""

    check: str
    """Check value of the pseudonym key, hex."""
    held_out: float
    """The share of the site's patients that can be held out."""


@dataclass(frozen=True, slots=True)
class SetAside:
    """The allocation of a study that has not ended here."""

    manifest: str
    """Digest of the cohort file that the approval fixed."""
    begun: bool
    redraws: int


class Questions:
    """What a ledger can be asked.

    Args:
        target: its file, or the URL of its PostgreSQL database.
        clock: returns the present time (UTC); tests set it.
    """

    def __init__(self, target: Path | str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = LedgerStore(target)
        self._clock = clock

    def allocation(self, study: str) -> SetAside | None:
        """Return the allocation of a study; None if there is none, or the study has ended here.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            found = book.open_allocation(study)
            return None if found is None else SetAside(found.manifest, found.begun, redraws_of(found))

    def redraws(self, study: str) -> int:
        """Return how many draws of a study were repeated after a loss.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return sum(redraws_of(item) for item in book.studies.get(study, ()))

    def requested(self, key: bytes) -> Mark:
        """Return how many rows requests have caused, of all studies, and a mark of the ledger up to the last one.

        Others keep both and notice a ledger that went back, or runs twice. Without the key the mark tells nothing:
        rows before it may be about a withdrawal.

        Args:
            key: a secret of the site that outlives its other keys.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            rows = len(book.requested)
            return Mark(rows, _mark(key, book.after(rows) or ""))

    def marks(self, key: bytes, numbers: Iterable[int]) -> dict[int, Mark]:
        """Return the marks that this ledger had when it held so many requests and draws, without those to come.

        Args:
            key: as for :meth:`requested`.
            numbers: of requests and draws.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            known = {number: book.after(number) for number in numbers}
            return {number: Mark(number, _mark(key, found)) for number, found in known.items() if found is not None}

    def withdrawn(self) -> frozenset[str]:
        """Return the keys of all patients who have withdrawn.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return frozenset(book.withdrawn)

    def identity(self) -> Identity | None:
        """Return the identity of the ledger's pseudonyms; None before the first allocation.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return identity_of(book)

    def held_out_before(self) -> frozenset[str]:
        """Return the keys of all patients whom a study with noise has ever held out.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            rows = (row for row in book.rows if row.event is not None)
            return book.patients_of(
                *{
                    row.cohort
                    for row in rows
                    if (row.kind == "reserve" and row.purpose == "evaluate")
                    or (row.kind == "begin" and (row.purpose or "").startswith("evaluate"))
                }
            )

    def charged(self) -> frozenset[str]:
        """Return the keys of all patients who were charged, or have withdrawn.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            older = {cohort for _, cohort in book.older}
            newer = {block.cohort for items in book.studies.values() for item in items for _, block in item.charged()}
            return book.patients_of(*older, *newer) | book.withdrawn

    def manifests(self) -> tuple[tuple[str, str], ...]:
        """Return every study that still charges a patient, with the digest of its cohort file.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return tuple(
                (study, item.manifest) for study, items in book.studies.items() for item in items if any(item.charged())
            )

    def knows(self, patient: str) -> bool:
        """Tell whether a patient was ever in a cohort, or has withdrawn.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return bool(book.cohorts_with(patient))

    def history(self, patient: str, delta: float) -> tuple[PatientInStudy, ...]:
        """Return the part of one patient in each study, in the order of the first rows.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return history_of(book, patient, delta)

    def spent(self, delta: float, study: str | None = None) -> float:
        """Return the largest epsilon of any patient, over all studies or in one study.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return most_in_all(book, delta) if study is None else most_in(book, study, delta)

    def spent_by(self, patient: str, delta: float) -> float:
        """Return epsilon of one patient over all studies.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return spent_by(book, patient, delta)

    def room(
        self, patients: Sequence[str], blocks: Iterable[Block], caps: Caps, *, study: str | None = None, times: int = 1
    ) -> tuple[bool, ...]:
        """Tell for each patient whether some blocks still fit. Nothing is recorded.

        Args:
            patients: the patients' keys.
            blocks: the blocks for which each patient would be charged.
            caps: the caps that must hold.
            study: a study whose current allocation is not counted, because it would be returned.
            times: the number of such studies, one after another.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return fitting(book, patients, tuple(blocks), caps, study=study, times=times)

    def studies(self, delta: float) -> tuple[StudySpending, ...]:
        """Return the spending of each study, in the order of the first rows.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return studies_of(book, delta)

    def entries(self) -> tuple[Entry, ...]:
        """Return all rows in order.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return entries_of(book)

    def last_delta(self) -> float | None:
        """Return the delta of the last allocation, for a site without a policy; None if there is none."""
        with self._store.reading() as book:
            return next((row.delta for row in reversed(book.rows) if row.delta is not None), None)

    def verify(self, known: str | None = None) -> Head:
        """Check every row from the beginning, and that it follows from earlier rows. Return the end of the chain.

        Args:
            known: a hash that :meth:`verify` returned before. It must still be in the chain; otherwise, an older
                ledger may have replaced this one.

        Raises:
            TrustError: a row was altered or removed, or ``known`` is missing.
        """
        with self._store.reading(afresh=True) as book:
            check_order(book)
            if known is not None and known not in book.hashes:
                raise TrustError(
                    "the privacy ledger cannot be trusted: it does not contain the entry with the noted hash",
                    hint="The file may have been replaced by an older copy; look for a newer backup.",
                )
            return Head(len(book.rows), book.head)


def _mark(key: bytes, known: str) -> str:
    """Return the mark (hex) of a ledger up to the row with a hash."""
    return hmac.new(key, b"dura ledger mark v1" + known.encode(), "sha256").hexdigest()


def fitting(
    book: Book, patients: Sequence[str], blocks: Sequence[Block], caps: Caps, *, study: str | None, times: int = 1
) -> tuple[bool, ...]:
    """Tell for each patient whether blocks that belong together still fit; see :meth:`Questions.room`."""
    charge = sum((charge_for(block, caps.delta) for block in blocks), NOTHING)
    many = Charge(*(min(part * times, MOST) for part in charge))

    def first() -> bool:
        seen = [block.event for block in blocks if block.event is not None]
        alone = [block.alone for block in blocks if block.alone is not None]
        return (
            times == 1
            and epsilon_of(seen, caps.delta) <= caps.epsilon_total
            and epsilon_of(alone, caps.delta) <= caps.epsilon_if_broken
        )

    return tuple(room_for(book, tuple(patients), many, caps.charge, delta=caps.delta, without=study, first=first))


def charge_for(block: Block, delta: float) -> Charge:
    """Return the cost of a block for each of its patients at a delta."""
    return charge_of(
        None if block.event is None else event_to_json(block.event),
        None if block.alone is None else event_to_json(block.alone),
        delta,
    )


def identity_of(book: Book) -> Identity | None:
    """Return the identity of the pseudonyms from the rows."""
    known = book.identity
    return None if known is None else Identity(known["check"], known["held_out"])

"""The privacy ledger: what every patient has spent, recorded before it is spent.

Rules: the ledger keeps events, never epsilons, and composes them afresh for every question. A release is first
reserved, durably, then computed, then settled; a reservation that was never settled counts as spent, because a crash
does not tell what had left. A refund is possible only to the process that reserved, only if it asked for that, and
only before it begins to compute: nobody else can know that nothing left. A round of a study is reserved once for each
purpose. A patient pays for the cohorts that he or she was in and for no others, and is in no cohort after a
withdrawal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from dura_client.ledger.answers import (
    Entry,
    Head,
    PatientInStudy,
    Purpose,
    StudySpending,
    entries_of,
    history_of,
    state_of,
    studies_of,
)
from dura_client.ledger.book import Book, spending_of
from dura_client.ledger.checks import KEY, check_arguments, check_order, set_of
from dura_client.ledger.rows import Content, Release, withdrawal
from dura_client.ledger.store import LedgerStore
from dura_client.ledger.tally import Spending
from dura_common.errors import BudgetError, StateError, TrustError
from dura_common.privacy import Event, event_to_json
from dura_common.privacy.accounting import epsilon_of_mechanisms


class RepeatedRound(StateError):  # named after what happened, as the refusal reason is
    """This round of the study was reserved before for this purpose, finished or not."""


class WithdrawnPatient(StateError):
    """The cohort holds a patient who takes part in nothing any more."""


class Ledger:
    """The ledger of one site.

    Args:
        target: its file, or the URL of its PostgreSQL database; created by the first row.
        clock: returns the present time (UTC); tests set it.
    """

    def __init__(self, target: Path | str, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._store = LedgerStore(target)
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
        refundable: bool = False,
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
            refundable: whether :meth:`refund` may give it back until :meth:`begin` is called, which the caller then
                must do before anything is computed.

        Raises:
            RepeatedRound: reserved before and not refunded.
            WithdrawnPatient: one of the patients has withdrawn; nothing was recorded.
            BudgetError: a patient would exceed a cap; nothing was recorded.
            TrustError: the ledger was tampered with.
            HostError: it could not be written; nothing was recorded.
        """
        patients = tuple(patients)
        check_arguments(study, round, repeat, patients, epsilon_per_study, epsilon_total, delta)
        release = Release(study, round, purpose, repeat)
        with self._store.writing() as writer:
            book = writer.book
            before = book.last.get(release)
            if before is not None and before.kind != "refund":
                raise RepeatedRound(f"{purpose} round {round} of this study was recorded before")
            if not book.withdrawn.isdisjoint(set_of(patients)):
                raise WithdrawnPatient("a patient of the cohort has withdrawn since it was loaded")
            charge = spending_of([event])
            for cap, scope, words in (
                (epsilon_per_study, study, "for one study"),
                (epsilon_total, None, "for all studies together"),
            ):
                if charge and not book.fits(patients, charge, cap=cap, delta=delta, study=scope):
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
                attempt=1 if before is None else (before.attempt or 0) + 1,
                cohort=writer.add_cohort(patients),
                event=None if event is None else event_to_json(event),
                delta=float(delta),
                epsilon_per_study=float(epsilon_per_study),
                epsilon_total=float(epsilon_total),
                time=self._now(),
            )
            entry = writer.add(content)
        if refundable:
            self._store.hold(entry)
        return entry

    def settle(self, entry: int) -> None:
        """Record that the reserved release was made; the cost stays what it was.

        Raises:
            StateError: there is no such reservation, or it is settled or refunded.
            TrustError: the ledger was tampered with.
            HostError: it could not be written.
        """
        self.begin(entry)
        with self._store.writing() as writer:
            writer.add(_open(writer.book, entry).followed_by("settle", self._now()))

    def begin(self, entry: int) -> None:
        """Say that computing begins: from now on a refundable reservation counts as spent, whatever happens."""
        self._store.release(entry)

    def refund(self, entry: int) -> None:
        """Give back what was reserved, since nothing was computed; a row of its own says so.

        Raises:
            StateError: this process did not reserve it as refundable, or computing has begun, or it is closed: it
                stays spent.
            TrustError: the ledger was tampered with.
            HostError: it could not be written; it stays spent.
        """
        if not self._store.release(entry):
            raise StateError(
                f"reservation {entry} stays spent: nothing shows that nothing was computed",
                hint="Only the process that reserved can refund, and only before it begins to compute.",
            )
        with self._store.writing() as writer:
            writer.add(_open(writer.book, entry).followed_by("refund", self._now()))

    def withdraw(self, patient: str) -> bool:
        """Record that a patient takes part in nothing from here on; return whether that is new.

        Args:
            patient: the key (64 hexadecimal digits).

        Raises:
            TrustError: the ledger was tampered with.
            HostError: it could not be written.
        """
        if not KEY.fullmatch(patient):
            raise ValueError("patients are named by keys of 64 hexadecimal digits, never by their labels")
        with self._store.writing() as writer:
            if patient in writer.book.withdrawn:
                return False
            writer.add(withdrawal(writer.add_cohort((patient,)), self._now()))
        return True

    def withdrawn(self) -> frozenset[str]:
        """Return the keys of all patients who have withdrawn.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return frozenset(book.withdrawn)

    def knows(self, patient: str) -> bool:
        """Tell whether a patient was ever in a cohort, or has withdrawn.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return bool(book.cohorts_with(patient))

    def history(self, patient: str, delta: float) -> tuple[PatientInStudy, ...]:
        """Return what each study did with one patient, in order of the first reservation.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return history_of(book, patient, delta)

    def spent(self, delta: float, study: str | None = None) -> float:
        """Return epsilon of the patient who spent most, over all studies or over one.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return book.most(delta, study)

    def spent_by(self, patient: str, delta: float) -> float:
        """Return epsilon of one patient over all studies.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return epsilon_of_mechanisms(book.spending(patient), delta)

    def fits(
        self,
        *,
        study: str | None,
        charges: Iterable[tuple[Sequence[str], Sequence[Event | None]]],
        epsilon_total: float,
        delta: float,
    ) -> bool:
        """Return whether a whole study would keep every patient under the total cap. Records nothing.

        Args:
            study: its digest; what it has spent so far is part of ``charges`` and not counted twice. None for a
                study that is only thought of.
            charges: cohorts with all events that the study holds for them.
            epsilon_total: most that everything may cost a patient.
            delta: where the cap holds.

        Raises:
            TrustError: the ledger was tampered with.
        """
        with self._store.reading() as book:
            return all(
                book.fits(patients, charge, cap=epsilon_total, delta=delta, without=study)
                for patients, charge in _apart(charges)
            )

    def studies(self, delta: float) -> tuple[StudySpending, ...]:
        """Return what each study has taken, in order of its first reservation.

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
        """Return the delta of the last reservation, for lack of a policy; None without one."""
        with self._store.reading() as book:
            return next((row.delta for row in reversed(book.rows) if row.delta is not None), None)

    def verify(self, known: str | None = None) -> Head:
        """Check every row from the beginning, and what each belongs to; return the end of the chain.

        Args:
            known: hash that :meth:`verify` returned before; it must still be in the chain, which shows
                that the ledger was not replaced by an older one.

        Raises:
            TrustError: a row was altered or removed, or ``known`` is missing.
        """
        with self._store.reading(afresh=True) as book:
            check_order(book)
            if known is not None and known not in book.hashes:
                raise TrustError(
                    "the privacy ledger cannot be trusted: it does not contain the entry that was noted before",
                    hint="The file may have been replaced by an older copy; look for a newer backup.",
                )
            return Head(len(book.rows), book.head)

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _open(book: Book, entry: int) -> Content:
    """Return a reservation that is neither settled nor refunded."""
    if not 1 <= entry <= len(book.rows) or book.rows[entry - 1].kind != "reserve":
        raise StateError(f"the ledger has no reservation {entry}")
    reserved = book.rows[entry - 1]
    if state_of(book, reserved) != "reserve":
        raise StateError(f"reservation {entry} is closed already ({state_of(book, reserved)})")
    return reserved


def _apart(
    charges: Iterable[tuple[Sequence[str], Sequence[Event | None]]],
) -> Iterable[tuple[tuple[str, ...], Spending]]:
    """Return disjoint cohorts, each with everything that its patients would pay."""
    listed = [(tuple(patients), spending_of(events)) for patients, events in charges]
    roles: dict[str, tuple[int, ...]] = {}
    for number, (patients, _) in enumerate(listed):
        for patient in patients:
            roles[patient] = (*roles.get(patient, ()), number)
    for role in dict.fromkeys(roles.values()):
        total: Spending = spending_of([])
        for number in role:
            total.update(listed[number][1])
        yield tuple(patient for patient, theirs in roles.items() if theirs == role), total

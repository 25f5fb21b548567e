"""The privacy ledger: what every patient has spent, recorded before it is spent.

Rules:

- An approval sets the budget of a whole study aside, in blocks (:mod:`dura_common.privacy.blocks`). Every patient of
  its cohorts is charged for all blocks at once, under caps over all studies (:mod:`dura_client.ledger.charges`).
- A draw begins with one durable row, written under an exclusive lock, before anything is computed for it. It is refused
  beyond the declared number, after the study has ended here, and for a process that another process has replaced.
- When a study ends, blocks in which no draw began are returned. A block that has begun is spent as a whole: after a
  crash nobody can tell what had left, and the coordinator chose when to stop. What a process remembers returns nothing.
- The numbers of requests only grow, even through restarts of either side.
- Patients pay for the cohorts to which they belong, and for no others. After a withdrawal, no new cohort contains them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date

from dura_client.ledger.book import Allocation, Book
from dura_client.ledger.checks import KEY, check_cohort
from dura_client.ledger.questions import Caps, Identity, Questions, charge_for, fitting, identity_of
from dura_client.ledger.refusals import (
    Ended,
    Fenced,
    NoDrawLeft,
    NumberTooHigh,
    OldAttempt,
    OtherHost,
    WithdrawnPatient,
)
from dura_client.ledger.rows import content
from dura_client.ledger.store import Writer
from dura_common.errors import BudgetError, StateError, TrustError
from dura_common.messages import LEAP, MAX_REQUESTS
from dura_common.privacy import event_to_json
from dura_common.privacy.blocks import Block, BlockName, Purpose

__all__ = ["Begun", "Caps", "Identity", "Ledger"]


@dataclass(frozen=True, slots=True)
class Begun:
    """A draw that the site may compute now."""

    block: str
    number: int
    withdrawn: frozenset[str]
    """Keys of patients who have withdrawn: they count as zero in this draw."""


class Ledger(Questions):
    """The ledger of one site; its file or database is created by the first row."""

    def allocate(
        self,
        *,
        study: str,
        blocks: Sequence[Block],
        cohorts: Mapping[Purpose, Sequence[str]],
        manifest: str,
        caps: Caps,
        expires: date,
        identity: Identity,
    ) -> None:
        """Set the budget of a whole study aside, durably, for all blocks or for none.

        An earlier allocation of the study is returned if nothing had begun. Blocks that expired studies never began are
        returned too.

        Args:
            study: digest of the study.
            blocks: from the approved study.
            cohorts: keys of the patients of each purpose (64 hexadecimal digits each).
            manifest: digest of the cohort file that the approval fixed.
            caps: the caps for every patient.
            expires: last day of the study.
            identity: identity of the pseudonyms, recorded by the first allocation and never changed.

        Raises:
            StateError: the study has begun here, so it cannot be set aside a second time.
            WithdrawnPatient: one of the patients has withdrawn.
            BudgetError: a patient does not have enough budget.
            TrustError: the ledger was tampered with, or belongs to another pseudonym key.
            HostError: the ledger could not be written.

        In every case nothing was recorded.
        """
        for patients in cohorts.values():
            check_cohort(tuple(patients))
        self.end_expired()
        with self._store.writing() as writer:
            book = writer.book
            before = book.open_allocation(study)
            if any(item.begun for item in book.studies.get(study, ())):
                raise StateError(
                    "this study has begun here: its budget is set aside, and cannot be set aside again",
                    hint="For another run, sign another study with its own digest.",
                )
            if before is not None:
                self._end(writer, study, before)
            if not book.withdrawn.isdisjoint(patient for patients in cohorts.values() for patient in patients):
                raise WithdrawnPatient("a patient of the cohort has withdrawn")
            self._check_room(book, study, blocks, cohorts, caps)
            self._identify(writer, identity)
            number = book.studies[study][-1].number + 1 if study in book.studies else 1
            for block in blocks:
                self._set_aside(writer, study, number, block, cohorts[block.purpose], manifest, caps, expires)

    def serve(self, host: str) -> int:
        """Record that a process begins to serve on a host, and return its epoch. Earlier processes can no longer draw.

        Raises:
            OtherHost: the ledger was last used on another host.
            TrustError: the ledger was tampered with.
            HostError: it could not be written.
        """
        with self._store.writing() as writer:
            if writer.book.host not in {None, host}:
                raise OtherHost
            return self._serve(writer, host)

    def move(self, host: str) -> None:
        """Record that the ledger has moved to this host. From now on, no copy on another host may be used."""
        with self._store.writing() as writer:
            self._serve(writer, host)

    def attempt(self, study: str, purpose: Purpose, round_number: int, number: int) -> None:
        """Accept a request, durably.

        Raises:
            OldAttempt: a request with this or a higher number was accepted before.
            NumberTooHigh: the number skips too many others, or too many requests of the round were accepted before.
        """
        with self._store.writing() as writer:
            place = (study, purpose, round_number)
            highest = writer.book.attempts.get(place, 0)
            if number <= highest:
                raise OldAttempt(highest)
            if number > highest + LEAP or writer.book.taken[place] >= MAX_REQUESTS:
                raise NumberTooHigh(number, highest)
            values = {"study": study, "round": round_number, "purpose": purpose, "repeat": 0, "attempt": number}
            writer.add(content("attempt", writer.add_cohort(), self._now(), **values))

    def begin(
        self,
        study: str,
        purpose: Purpose,
        number: int,
        *,
        manifest: str,
        epoch: int,
        round_number: int,
        step: int,
    ) -> Begun:
        """Begin one draw, durably. Only then, the site may compute it.

        Args:
            study: digest of the study.
            purpose: ``train`` or ``evaluate``.
            number: number of the draw in its block, from 1: the step of the study with shared noise, otherwise the
                round; an evaluation has one draw. If this or a later draw has begun before, the spare block provides
                the draw.
            manifest: digest of the frozen cohort that is drawn from. A study that was declined and approved again
                while a request was under way has another one, and the patients of the old one have not paid.
            epoch: as :meth:`serve` returned it.
            round_number: of the study.
            step: within the round.

        Raises:
            Ended: no budget is set aside for this cohort of the study, or the study has ended here.
            NoDrawLeft: the draw has begun before, and no spare draw is left.
            Fenced: another process serves now.
            TrustError: the ledger was tampered with.
            HostError: the ledger could not be written.
        """
        with self._store.writing() as writer:
            book = writer.book
            found = book.open_allocation(study)
            if found is None or found.manifest != manifest:
                raise Ended
            if book.epoch != epoch:
                raise Fenced
            place = 0 if purpose == "train" else round_number
            name, draw = _next(found, purpose, place, number)
            row = content(
                "begin",
                found.blocks[name, place].cohort,
                self._now(),
                study=study,
                round=place,
                purpose=name,
                repeat=draw,
                attempt=found.number,
                event=_json({"epoch": epoch, "round": round_number, "step": step}),
            )
            writer.add(row)
            withdrawn = frozenset(book.withdrawn)
        return Begun(name, draw, withdrawn)

    def close(self, study: str) -> bool:
        """Record that a study has ended here; blocks that never began are returned. Tell whether it was open.

        Raises:
            TrustError: the ledger was tampered with.
            HostError: it could not be written.
        """
        with self._store.writing() as writer:
            found = writer.book.open_allocation(study)
            if found is None:
                return False
            self._end(writer, study, found)
        return True

    def end_expired(self) -> None:
        """Record the end of studies whose last day is over. Blocks that never began return to the budget.

        Raises:
            TrustError: the ledger was tampered with.
            HostError: it could not be written.
        """
        today = self._clock().astimezone(UTC).date().isoformat()
        with self._store.reading() as book:
            over = [name for name in book.studies if (item := book.open_allocation(name)) and item.expires < today]
        for study in over:
            self.close(study)

    def withdraw(self, patient: str) -> bool:
        """Record that a patient has withdrawn, and return whether this is new.

        Args:
            patient: the key (64 hexadecimal digits).

        Raises:
            TrustError: the ledger was tampered with.
            HostError: it could not be written.
        """
        if not KEY.fullmatch(patient):
            raise ValueError("patients must be named by keys of 64 hexadecimal digits, never by their labels")
        with self._store.writing() as writer:
            if patient in writer.book.withdrawn:
                return False
            writer.add(content("withdraw", writer.add_cohort((patient,)), self._now()))
        return True

    def _set_aside(
        self,
        writer: Writer,
        study: str,
        number: int,
        block: Block,
        patients: Sequence[str],
        manifest: str,
        caps: Caps,
        expires: date,
    ) -> None:
        said = {
            "draws": block.draws,
            "event": None if block.event is None else event_to_json(block.event),
            "alone": None if block.alone is None else event_to_json(block.alone),
            "charge": charge_for(block, caps.delta),
            "epsilon_if_broken": caps.epsilon_if_broken,
            "manifest": manifest,
            "expires": expires.isoformat(),
        }
        row = content(
            "allocate",
            writer.add_cohort(tuple(patients)),
            self._now(),
            study=study,
            round=block.round,
            purpose=block.name,
            repeat=0,
            attempt=number,
            event=_json(said),
            delta=caps.delta,
            epsilon_total=caps.epsilon_total,
        )
        writer.add(row)

    def _check_room(
        self,
        book: Book,
        study: str,
        blocks: Sequence[Block],
        cohorts: Mapping[Purpose, Sequence[str]],
        caps: Caps,
    ) -> None:
        for purpose, patients in cohorts.items():
            mine = [block for block in blocks if block.purpose == purpose]
            if not all(fitting(book, patients, mine, caps, study=study)):
                raise BudgetError(
                    f"a patient would exceed epsilon {caps.epsilon_total:g} at delta {caps.delta:g} over all studies, "
                    f"or {caps.epsilon_if_broken:g} if the aggregation were broken",
                    hint="`dura site ledger show` shows what was spent; the policy sets the caps.",
                )

    def _identify(self, writer: Writer, identity: Identity) -> None:
        known = identity_of(writer.book)
        if known is None:
            said = _json({"check": identity.check, "held_out": identity.held_out})
            writer.add(content("identity", writer.add_cohort(), self._now(), event=said))
        elif known != identity:
            raise TrustError(
                "the ledger belongs to another pseudonym key, or to another held-out side, than the site's present one",
                hint="Restore keys/pseudonym.key from a backup: without it, nobody knows what each patient has spent.",
            )

    def _serve(self, writer: Writer, host: str) -> int:
        epoch = writer.book.epoch + 1
        writer.add(content("host", writer.add_cohort(), self._now(), attempt=epoch, event=_json({"host": host})))
        return epoch

    def _end(self, writer: Writer, study: str, allocation: Allocation) -> None:
        values = {"study": study, "round": 0, "purpose": "", "repeat": 0, "attempt": allocation.number}
        writer.add(content("close", writer.add_cohort(), self._now(), **values))

    def _now(self) -> str:
        return self._clock().astimezone(UTC).isoformat(timespec="seconds")


def _next(allocation: Allocation, purpose: Purpose, place: int, number: int) -> tuple[BlockName, int]:
    """Return the block and the number of the next draw: the requested draw if it is new, otherwise a spare draw."""
    main: BlockName = "train" if purpose == "train" else "evaluate"
    spare: BlockName = "spare" if purpose == "train" else "evaluate-spare"
    block = allocation.blocks.get((main, place))
    if block is None or not 1 <= number <= block.draws:
        raise Ended
    if number > max(block.begun, default=0):
        return main, number
    extra = allocation.blocks.get((spare, place))
    if extra is None or len(extra.begun) >= extra.draws:
        raise NoDrawLeft
    return spare, len(extra.begun) + 1


def _json(said: Mapping[str, object]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"))

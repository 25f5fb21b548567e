"""What this site has seen of the other members: the rosters that they follow, and the lengths of their ledgers.

Every member of a secure sum reports both, with its signature (:mod:`dura_common.sums.heads`). Ledgers only grow, and
rosters only go forward. If a member reports less than before, it has returned to an older state, and its patients might
be charged too little. If a member reports something else about the same state, it is running twice. Two rosters with
one serial mean that somebody shows different members to different hospitals. In each of these cases, this site's part
in the sum ends before anything has left, until an officer here has talked to that hospital and accepts its state.

A report takes the place of the one before only once its sender shows that it has witnessed this site's own report of
that time. Otherwise a coordinator could keep this site's reports from a hospital that restored a backup, let its ledger
grow past what was seen of it, and have the new report stored: the old one, which gives the backup away, would be gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, NonNegativeInt, ValidationError

from dura_client.consortium.membership import Membership
from dura_client.consortium.rosters import followed_digest
from dura_client.site.home import SiteHome
from dura_common.consortium.roster import MAX_MEMBERS
from dura_common.errors import InputError, TrustError
from dura_common.runtime.files import exclusive, read_limited, write_atomic
from dura_common.study import Digest, Frozen, SiteName, explain_validation
from dura_common.sums.heads import Head, Mark

WHAT = "the file of the other members' reports"


class MemberWentBack(TrustError):
    """Another member's ledger or roster has changed backwards, or contradicts this site's."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            f"this site takes no part in a sum with these members: {'; '.join(faults)}",
            hint="Ask that hospital what happened. If it restored a backup and has said so: "
            "`dura site roster accept NAME`.",
        )


class ThisSiteWentBack(TrustError):
    """Another member has witnessed a state of this site's ledger that this ledger does not hold.

    Args:
        witnessed: by member, how many requests and draws it has seen in this site's ledger.
        rows: how many the ledger has now.
    """

    def __init__(self, witnessed: Mapping[str, int], rows: int) -> None:
        told = ", ".join(f"{name} (at {count} requests and draws)" for name, count in sorted(witnessed.items()))
        super().__init__(
            f"this site makes no draw: its ledger, with {rows} requests and draws, does not hold what other hospitals "
            f"have seen of it: {told}",
            hint="An older backup of the ledger stands here, or a copy of it runs elsewhere. Follow the guide on "
            "restoring a site. If nobody restored a backup, ask the people of those hospitals.",
        )


class Seen(Frozen):
    """The last report of one member."""

    name: SiteName
    serial: NonNegativeInt
    roster: Digest
    rows: NonNegativeInt
    mark: Digest
    told: NonNegativeInt = 0
    """Requests and draws in this site's own report of that session: a member that was there has witnessed as many."""
    when: AwareDatetime


class Witnessed(Frozen):
    """The file of this site."""

    seen: Annotated[tuple[Seen, ...], Field(max_length=4 * MAX_MEMBERS)] = ()

    def of(self, name: str) -> Seen | None:
        """Return the last report of a member, or None."""
        return next((one for one in self.seen if one.name == name), None)

    def marks(self, names: Iterable[str]) -> dict[str, Mark]:
        """Return the last reports of these members' ledgers, by name."""
        return {name: Mark(seen.rows, seen.mark) for name in names if (seen := self.of(name)) is not None}


def load_witnessed(home: SiteHome) -> Witnessed:
    """Read the reports so far.

    Raises:
        InputError: the file was altered.
    """
    if not home.witnessed.exists():
        return Witnessed()
    try:
        return Witnessed.model_validate_json(read_limited(home.witnessed, what=WHAT))
    except ValidationError as error:
        raise explain_validation(error, what=WHAT) from error


def witness(here: Membership, heads: Mapping[str, Head], now: datetime, told: int = 0) -> None:
    """Check the reports of the other members of a sum, and store them if all are consistent.

    Args:
        here: the roster that this site follows.
        heads: the reports of all other members, by name, with checked signatures.
        now: the time of the reports.
        told: requests and draws of this site's ledger, as it reported them to the same members.

    Raises:
        MemberWentBack: a report is not consistent; no report was stored.
        InputError: the file of earlier reports was altered.
    """
    with _changing(here.home) as before:
        judged = (_fault(here, before.of(name), name, head) for name, head in sorted(heads.items()))
        faults = [fault for fault in judged if fault is not None]
        if faults:
            raise MemberWentBack(faults)
        others = tuple(one for one in before.seen if one.name not in heads)
        own = here.card.name
        new = tuple(_seen(before.of(name), name, own, head, told, now) for name, head in sorted(heads.items()))
        _write(here.home, Witnessed(seen=(*others, *new)))


def _seen(before: Seen | None, name: str, own: str, head: Head, told: int, now: datetime) -> Seen:
    """Return what is stored of a member: its ledger's state as before, if it does not show that it was there then."""
    shown = head.seen[own].rows if own in head.seen else 0
    if before is not None and shown < before.told:
        return before.model_copy(update={"serial": head.serial, "roster": head.roster, "when": now})
    rows, mark = head.ledger.rows, head.ledger.mark
    return Seen(name=name, serial=head.serial, roster=head.roster, rows=rows, mark=mark, told=told, when=now)


def _fault(here: Membership, before: Seen | None, name: str, head: Head) -> str | None:
    known = here.digest if head.serial == here.roster.serial else followed_digest(here.home, head.serial)
    if known is not None and known != head.roster:
        return f"{name} follows another roster with serial {head.serial} than this site"
    return None if before is None else _against(before, head)


def _against(before: Seen, head: Head) -> str | None:
    """Compare a member's report with its report before."""
    name = before.name
    if head.serial < before.serial:
        return f"{name} followed roster {before.serial} and now follows {head.serial}"
    if head.serial == before.serial and head.roster != before.roster:
        return f"{name} has followed two different rosters with serial {head.serial}"
    if head.ledger.rows < before.rows:
        return f"the ledger of {name} had {before.rows} requests and draws and now has {head.ledger.rows}"
    if head.ledger.rows == before.rows and head.ledger.mark != before.mark:
        return f"{name} has two different ledgers with {before.rows} requests and draws"
    return None


def accept(home: SiteHome, name: str) -> Seen:
    """Forget a member's earlier reports. Its next report is accepted, and after that its ledger may only grow.

    Raises:
        InputError: the member has reported nothing yet.
    """
    with _changing(home) as before:
        seen = before.of(name)
        if seen is None:
            hint = "`dura site roster` lists all members."
            raise InputError(f"{name} has reported nothing to this site yet", hint=hint)
        _write(home, Witnessed(seen=tuple(one for one in before.seen if one.name != name)))
    return seen


@contextmanager
def _changing(home: SiteHome) -> Iterator[Witnessed]:
    """Lend the reports to whoever changes them: one at a time, or a report would be lost to somebody else's."""
    with exclusive(home.members_lock):
        yield load_witnessed(home)


def _write(home: SiteHome, content: Witnessed) -> None:
    write_atomic(home.witnessed, content.model_dump_json().encode())

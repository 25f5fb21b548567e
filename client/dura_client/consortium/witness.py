"""What this site has seen of the other members: the rosters that they follow, and how far their ledgers are.

Every member of a secure sum says both, under its signature (:mod:`dura_common.sums.heads`). A ledger only grows and
rosters only go forward, so a member that says less than before was set back to an older state, and patients there
might be charged too little; one that says something else of the same state runs twice. Two rosters of one serial mean
that somebody shows different members to different hospitals. Each of these ends this site's part in the sum, before
anything has left, until an officer here has talked to that hospital and accepts its state.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, NonNegativeInt, ValidationError

from dura_client.consortium.membership import Membership
from dura_client.consortium.rosters import followed_digest
from dura_client.site.home import SiteHome
from dura_common.consortium.roster import MAX_MEMBERS
from dura_common.errors import InputError, TrustError
from dura_common.runtime.files import read_limited, write_atomic
from dura_common.study import Digest, Frozen, SiteName, explain_validation
from dura_common.sums.heads import Head

WHAT = "the file of what other members have said of themselves"


class MemberWentBack(TrustError):
    """Another member's ledger or roster is not what it was, or contradicts this site's."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__(
            f"this site takes no part in a sum with these members: {'; '.join(faults)}",
            hint="Ask that hospital what happened. If it restored a backup and has said so: "
            "`dura site roster accept NAME`.",
        )


class Seen(Frozen):
    """The last word of one member."""

    name: SiteName
    serial: NonNegativeInt
    roster: Digest
    rows: NonNegativeInt
    """As it said, and one more for each sum since then that holds a vector of it."""
    mark: Digest | None
    """Of the ledger with so many rows; None if nobody here has seen it."""
    when: AwareDatetime


class Witnessed(Frozen):
    """The file of this site."""

    seen: Annotated[tuple[Seen, ...], Field(max_length=4 * MAX_MEMBERS)] = ()

    def of(self, name: str) -> Seen | None:
        """Return the last word of a member, or None."""
        return next((one for one in self.seen if one.name == name), None)


def load_witnessed(home: SiteHome) -> Witnessed:
    """Read what was seen so far.

    Raises:
        InputError: the file was altered.
    """
    if not home.witnessed.exists():
        return Witnessed()
    try:
        return Witnessed.model_validate_json(read_limited(home.witnessed, what=WHAT))
    except ValidationError as error:
        raise explain_validation(error, what=WHAT) from error


def witness(here: Membership, heads: Mapping[str, Head], now: datetime) -> None:
    """Judge what the other members of a sum say, and keep it if all of it holds.

    Args:
        here: the roster that this site follows.
        heads: by name, of everybody else; signatures were checked.
        now: when it was said.

    Raises:
        MemberWentBack: nothing was kept, of nobody.
        InputError: the file of what was seen before was altered.
    """
    before = load_witnessed(here.home)
    judged = (_fault(here, before.of(name), name, head) for name, head in sorted(heads.items()))
    faults = [fault for fault in judged if fault is not None]
    if faults:
        raise MemberWentBack(faults)
    others = tuple(one for one in before.seen if one.name not in heads)
    new = tuple(
        Seen(name=name, serial=head.serial, roster=head.roster, rows=head.rows, mark=head.mark, when=now)
        for name, head in sorted(heads.items())
    )
    _write(here.home, Witnessed(seen=(*others, *new)))


def _fault(here: Membership, before: Seen | None, name: str, head: Head) -> str | None:
    known = here.digest if head.serial == here.roster.serial else followed_digest(here.home, head.serial)
    if known is not None and known != head.roster:
        return f"{name} follows another roster of serial {head.serial} than this site"
    return None if before is None else _against(before, head)


def _against(before: Seen, head: Head) -> str | None:
    """Compare what a member says with what it said before."""
    name = before.name
    if head.serial < before.serial:
        return f"{name} followed roster {before.serial} and now follows {head.serial}"
    if head.serial == before.serial and head.roster != before.roster:
        return f"{name} has followed two different rosters of serial {head.serial}"
    if head.rows < before.rows:
        return f"the ledger of {name} had {before.rows} requests and draws and now has {head.rows}"
    if head.rows == before.rows and before.mark not in {None, head.mark}:
        return f"{name} has two different ledgers with {head.rows} requests and draws"
    return None


def contributed(home: SiteHome, sums: Mapping[str, int]) -> None:
    """Keep that members added vectors to sums that were opened: each had begun a draw in its ledger.

    Args:
        home: of this site.
        sums: how many, by name.

    Raises:
        InputError: the file of what was seen before was altered.
    """
    before = load_witnessed(home)
    grown = tuple(
        one.model_copy(update={"rows": one.rows + sums[one.name], "mark": None}) if sums.get(one.name) else one
        for one in before.seen
    )
    if grown != before.seen:
        _write(home, Witnessed(seen=grown))


def accept(home: SiteHome, name: str) -> Seen:
    """Forget what a member said before: whatever it says next is believed, and from then on it may only grow.

    Raises:
        InputError: it has said nothing yet.
    """
    before = load_witnessed(home)
    seen = before.of(name)
    if seen is None:
        raise InputError(f"{name} has said nothing of itself here yet", hint="`dura site roster` lists all members.")
    _write(home, Witnessed(seen=tuple(one for one in before.seen if one.name != name)))
    return seen


def _write(home: SiteHome, content: Witnessed) -> None:
    write_atomic(home.witnessed, content.model_dump_json().encode())

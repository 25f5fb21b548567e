"""What this site has seen of the other members: the rosters that they follow, and the lengths of their ledgers.

Every member of a secure sum reports both, with its signature (:mod:`dura_common.sums.heads`). Ledgers only grow, and
rosters only go forward. If a member reports less than before, it has returned to an older state, and its patients might
be charged too little. If a member reports something else about the same state, it is running twice. Two rosters with
one serial mean that somebody shows different members to different hospitals. In each of these cases, this site's part
in the sum ends before anything has left, until an officer here has talked to that hospital and accepts its state.

A report is kept until its sender has confirmed it: this site has shown it to the sender, and the sender has found it
in its ledger. Otherwise a coordinator could keep this site's messages from a hospital that restored a backup, let its
ledger grow past what was seen of it, and have the new report stored: the old one, which gives the backup away, would
be gone. Old messages that are sent again to a restored hospital bring no confirmation, since they show older reports.
A few reports of a member may wait. If there are more, this site takes no part in a sum with it until it has heard this
site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Self

from pydantic import AwareDatetime, Field, NonNegativeInt, ValidationError, model_validator

from dura_client.consortium.membership import Membership
from dura_client.consortium.rosters import followed_digest
from dura_client.site.home import SiteHome
from dura_common.consortium.roster import MAX_MEMBERS
from dura_common.errors import InputError, TrustError
from dura_common.runtime.files import exclusive, read_limited, write_atomic
from dura_common.study import Digest, Frozen, SiteName, explain_validation
from dura_common.sums.heads import MOST_REPORTS, Head, Mark, Shown

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


class NotHeard(TrustError):
    """Members have not heard this site in the last sums; they hear it now, and the next sum passes."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(
            f"this site takes no part in this sum: {', '.join(names)} did not receive what it said in the last sums",
            hint="If this happens again and again, the coordinator keeps messages back.",
        )


class Report(Frozen):
    """How far a ledger was."""

    rows: NonNegativeInt
    mark: Digest

    @classmethod
    def of(cls, mark: Mark) -> Self:
        """Return what is stored of a report."""
        return cls(rows=mark.rows, mark=mark.mark)

    @property
    def stands(self) -> Mark:
        """Return it as members say it."""
        return Mark(self.rows, self.mark)


class Seen(Frozen):
    """What this site knows of one member."""

    name: SiteName
    serial: NonNegativeInt
    roster: Digest
    reports: Annotated[tuple[Report, ...], Field(min_length=1, max_length=MOST_REPORTS)]
    """Its last report, and those before it that it has not confirmed yet."""
    confirmed: Report | None = None
    """The last of this site's own reports that the member has shown to this site, and this ledger holds."""
    when: AwareDatetime

    @model_validator(mode="before")
    @classmethod
    def _one_report(cls, data: object) -> object:
        """Read what an earlier version has written: one report of each member."""
        if not isinstance(data, dict) or "rows" not in data or "reports" in data:
            return data
        kept = {key: value for key, value in data.items() if key not in {"rows", "mark", "told"}}
        return {**kept, "reports": [{"rows": data["rows"], "mark": data.get("mark")}]}

    @property
    def rows(self) -> int:
        """How far its ledger was in its last report."""
        return self.reports[-1].rows

    def told(self) -> dict[str, object]:
        """Return what people are shown of the member's last report."""
        return {"rows": self.rows, **self.model_dump(mode="json", include={"serial", "when"})}


class Witnessed(Frozen):
    """The file of this site."""

    seen: Annotated[tuple[Seen, ...], Field(max_length=4 * MAX_MEMBERS)] = ()

    def of(self, name: str) -> Seen | None:
        """Return the last report of a member, or None."""
        return next((one for one in self.seen if one.name == name), None)

    def shown(self, names: Iterable[str], ledger: Callable[[Iterable[int]], Mapping[int, Mark]]) -> dict[str, Shown]:
        """Return what this site shows these members of what it has witnessed of them, by name.

        Args:
            names: of members; whoever has reported nothing is left out.
            ledger: returns the marks of this site's ledger at such numbers of rows. What was confirmed with a ledger
                that is not here any more is not confirmed.
        """
        known = [seen for seen in map(self.of, names) if seen is not None]
        marks = ledger({seen.confirmed.rows for seen in known if seen.confirmed is not None})
        return {seen.name: Shown.of([one.stands for one in seen.reports], _confirmed(seen, marks)) for seen in known}


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


def witness(
    here: Membership, heads: Mapping[str, Head], now: datetime, confirmed: Mapping[str, Mark] | None = None
) -> None:
    """Check the reports of the other members of a sum, and store them if all are consistent.

    Args:
        here: the roster that this site follows.
        heads: the reports of all other members, by name, with checked signatures.
        now: the time of the reports.
        confirmed: by member, how far this site's ledger was in the last report that the member shows; it is there.

    Raises:
        MemberWentBack: a report is not consistent; no report was stored.
        NotHeard: reports wait for their confirmation; everything else was stored.
        InputError: the file of earlier reports was altered.
    """
    with _changing(here.home) as before:
        judged = (_fault(here, before.of(name), name, head) for name, head in sorted(heads.items()))
        faults = [fault for fault in judged if fault is not None]
        if faults:
            raise MemberWentBack(faults)
        others = tuple(one for one in before.seen if one.name not in heads)
        new, full = [], []
        for name, head in sorted(heads.items()):
            shown, own = head.seen.get(here.card.name), (confirmed or {}).get(name)
            reports = _waiting(before.of(name), head, 0 if shown is None else shown.confirmed)
            if len(reports) > MOST_REPORTS:
                full.append(name)
            new.append(_seen(before.of(name), name, head, reports[:MOST_REPORTS], own, now))
        _write(here.home, Witnessed(seen=(*others, *new)))
    if full:
        raise NotHeard(full)


def _waiting(before: Seen | None, head: Head, confirmed: int) -> tuple[Report, ...]:
    """Return the reports of a member that it has not confirmed, and the new one."""
    new = Report.of(head.ledger)
    waiting = () if before is None else tuple(one for one in before.reports if one.rows > confirmed)
    return waiting if waiting and waiting[-1] == new else (*waiting, new)


def _seen(
    before: Seen | None, name: str, head: Head, reports: tuple[Report, ...], own: Mark | None, now: datetime
) -> Seen:
    kept = None if before is None else before.confirmed
    return Seen(
        name=name,
        serial=head.serial,
        roster=head.roster,
        reports=reports,
        confirmed=kept if own is None else Report.of(own),
        when=now,
    )


def _confirmed(seen: Seen, marks: Mapping[int, Mark]) -> int:
    known = seen.confirmed
    return known.rows if known is not None and marks.get(known.rows) == known.stands else 0


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
    if head.ledger.rows == before.rows and head.ledger.mark != before.reports[-1].mark:
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

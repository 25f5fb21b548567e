"""This hospital's own decisions on members: compared fingerprints, and members that are no longer trusted.

These decisions stay here. A confirmation is for one fingerprint: new keys must be compared again. Distrust is for a
name, under any keys, until somebody confirms that name again.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError

from dura_client.site.home import SiteHome
from dura_common.consortium.roster import MAX_MEMBERS, Member, Roster
from dura_common.errors import InputError
from dura_common.runtime.files import exclusive, read_limited, write_atomic
from dura_common.study import Frozen, SiteName, explain_validation

MAX_ENTRIES = 4 * MAX_MEMBERS


class Said(Frozen):
    """One line: a decision of a person here on one member."""

    name: SiteName
    fingerprint: Annotated[str, Field(max_length=64)]
    when: AwareDatetime
    by: Annotated[str, Field(max_length=80)]
    why: Annotated[str, Field(max_length=400)] = ""


class People(Frozen):
    """The file of this hospital."""

    confirmed: Annotated[tuple[Said, ...], Field(max_length=MAX_ENTRIES)] = ()
    distrusted: Annotated[tuple[Said, ...], Field(max_length=MAX_ENTRIES)] = ()

    def confirmation(self, member: Member) -> Said | None:
        """Return who has compared this member's fingerprint, or None."""
        mine = (member.name, member.fingerprint())
        return next((one for one in reversed(self.confirmed) if (one.name, one.fingerprint) == mine), None)

    def distrusts(self, name: str) -> bool:
        """Tell whether this hospital no longer trusts a name."""
        return any(one.name == name for one in self.distrusted)

    def confirmed_names(self, roster: Roster) -> frozenset[str]:
        """Return the members of a roster whose fingerprints were compared here and who are not distrusted."""
        return frozenset(
            member.name
            for member in roster.members
            if self.confirmation(member) is not None and not self.distrusts(member.name)
        )


def load_people(home: SiteHome) -> People:
    """Read the decisions so far.

    Raises:
        InputError: the file was altered. In this case, no member is trusted.
    """
    path = home.people
    if not path.exists():
        return People()
    what = "the file of confirmed and distrusted members"
    try:
        return People.model_validate_json(read_limited(path, what=what))
    except ValidationError as error:
        raise explain_validation(error, what=what) from error


def confirm(home: SiteHome, members: Iterable[Member], now: datetime, *, by: str | None = None) -> People:
    """Record that these fingerprints were compared. This ends distrust of the same names."""
    with exclusive(home.members_lock):
        people, names = load_people(home), set()
        kept = list(people.confirmed)
        for member in members:
            names.add(member.name)
            kept = [one for one in kept if one.name != member.name]
            kept.append(Said(name=member.name, fingerprint=member.fingerprint(), when=now, by=by or who()))
        distrusted = tuple(one for one in people.distrusted if one.name not in names)
        return _write(home, People(confirmed=tuple(kept), distrusted=distrusted))


def distrust(home: SiteHome, roster: Roster, name: str, why: str, now: datetime) -> People:
    """End all trust in a member at this site, at once.

    Raises:
        InputError: the roster that this site follows has no member with this name.
    """
    member = roster.member(name)
    if member is None:
        raise InputError(f"the roster has no member named {name}", hint="`dura site roster` lists all members.")
    with exclusive(home.members_lock):
        people = load_people(home)
        said = Said(name=name, fingerprint=member.fingerprint(), when=now, by=who(), why=why[:400])
        others = tuple(one for one in people.distrusted if one.name != name)
        confirmed = tuple(one for one in people.confirmed if one.name != name)
        return _write(home, People(confirmed=confirmed, distrusted=(*others, said)))


def who() -> str:
    """Return the account that acts, for the record."""
    try:
        return getpass.getuser()[:80]
    except (KeyError, OSError):
        return "unknown"


def _write(home: SiteHome, people: People) -> People:
    write_atomic(home.people, people.model_dump_json(indent=1).encode())
    return people

"""Decides whether a running request may continue: from decisions of people here, and from other members' reports."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from pathlib import Path

from dura_client.consortium.membership import Membership
from dura_client.consortium.witness import ThisSiteWentBack, load_witnessed, witness
from dura_client.ledger.ledger import Ledger
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.sums.heads import Head, Mark


class Standing:
    """The standing of one request; :class:`dura_client.sums.ports.Peers` describes the members' reports.

    Args:
        home: of this site.
        study: digest of the study.
        here: the roster that this site follows.
        ledger: of this site.
        verify: checks the request from the beginning, and raises a DuraError if it may not continue.
        clock: returns the present time (UTC).
    """

    def __init__(
        self,
        home: SiteHome,
        study: str,
        here: Membership,
        ledger: Ledger,
        *,
        verify: Callable[[], object],
        clock: Callable[[], datetime],
    ) -> None:
        self._home, self._here, self._ledger = home, here, ledger
        self._verify, self._clock = verify, clock
        self._key = SiteKeys(home).pseudonym_key()
        self._files = (
            home.people,
            home.policy,
            home.settings,
            home.approvals / f"{study}.json",
            home.consortium / "roster.json",
        )
        self._marks = self._present()

    def note(self, members: tuple[str, ...]) -> bytes:
        """Return this site's report about itself, and about what it has witnessed of the other members."""
        seen = load_witnessed(self._home).shown(members, self._held)
        head = Head(self._here.roster.serial, self._here.digest, self._ledger.requested(self._key), seen)
        return head.encode(self._here.card.name, members)

    def heard(self, members: tuple[str, ...], notes: Mapping[str, bytes]) -> None:
        """Check the reports of the other members: first what they say of this site, then what they say of themselves.

        Raises:
            ThisSiteWentBack: a member has witnessed a state that this site's ledger does not hold.
            MemberWentBack: a member has returned to an older state, or contradicts itself.
            NotHeard: a member has not received what this site said in the last sums.
        """
        heads = {name: Head.decode(note, name, members) for name, note in notes.items()}
        own = self._here.card.name
        said = {name: head.seen[own] for name, head in heads.items() if own in head.seen}
        held = self._held({rows for shown in said.values() for rows in shown.rows})
        unknown = {name: max(shown.rows) for name, shown in said.items() if not shown.fits(held)}
        if unknown:
            raise ThisSiteWentBack(unknown, self._ledger.requested(self._key).rows)
        confirmed = {name: held[max(shown.rows)] for name, shown in said.items() if any(shown.rows)}
        witness(self._here, heads, self._clock(), confirmed)

    def _held(self, numbers: Iterable[int]) -> dict[int, Mark]:
        return self._ledger.marks(self._key, numbers)

    def still(self) -> None:
        """Verify the request again if a file with decisions of people here has changed, or a day has ended.

        Raises:
            DuraError: the request may not continue.
        """
        now = self._present()
        if now != self._marks:
            self._verify()
            self._marks = now

    def _present(self) -> tuple[object, ...]:
        return (self._clock().date(), *map(_mark, self._files))


def _mark(path: Path) -> object:
    try:
        known = path.stat()
    except OSError:
        return None
    return known.st_mtime_ns, known.st_ino, known.st_size

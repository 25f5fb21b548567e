"""Exchanges rosters and countersignatures over Flower: the coordinator's go to the sites, and the sites' come back.

Nobody trusts this exchange: every site verifies every roster and countersignature itself. A coordinator that withholds
them can only cause a delay, and sites notice it when the roster expires.
"""

from __future__ import annotations

import logging

from dura_common.consortium.chain import MAX_LINKS, Link
from dura_common.errors import DuraError
from dura_common.messages import MAX_BODY_BYTES, AskRoster, Countersigned
from dura_server.consortium.enrolment import collect, links, read_roster
from dura_server.home import CoordinatorHome
from dura_server.rounds.ports import Sites

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
LINK_BYTES = MAX_BODY_BYTES // 2
"""The largest part of a message that rosters may take; the same message also carries a study."""


def exchange_rosters(home: CoordinatorHome, sites: Sites) -> tuple[Link, ...]:
    """Send the newest rosters to all current sites, store their countersignatures, and return all rosters."""
    names = tuple(sorted(site.name for site in read_roster(home)[0].sites))
    replies = sites.ask(names, AskRoster(links=newest_links(home)), None).collect(PATIENCE_SECONDS)
    for name in names:
        reply = replies.get(name)
        if not isinstance(reply, Countersigned):
            continue
        try:
            collect(home, reply.countersignatures)
        except DuraError as error:
            log.warning("the countersignatures of %s cannot be used: %s", name, error.message)
    return newest_links(home)


def newest_links(home: CoordinatorHome) -> tuple[Link, ...]:
    """Return the newest rosters, oldest first, as many as one message carries."""
    chosen: list[Link] = []
    room = LINK_BYTES
    for link in reversed(links(home)):
        room -= len(link.model_dump_json())
        if len(chosen) == MAX_LINKS or (chosen and room < 0):
            break
        chosen.append(link)
    return tuple(reversed(chosen))

"""What attacks on who is a member share: four hospitals that have joined, and what their attacker can sign."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from tests.common.consortium.rosters import Person, signed
from tests.support.consortium import NOW, Consortium, gather, root_key
from tests.support.studies import study

from dura_client.studies.approvals import approve, receive_offer
from dura_common.consortium.roster import Roster
from dura_common.messages import Offer
from dura_server.studies.researcher import sign_study

NAMES = ("east", "north", "south", "west")
SITES = dict.fromkeys(NAMES, 40)


def forge(made: Consortium, roster: Roster) -> str:
    """Return a roster with the signature of the root key, which the attacker has."""
    return signed(roster, root_key(made.coordinator))


def study_for(made: Consortium, envelope: str, /, **changes: Any) -> tuple[Offer, str]:
    """Return a study that ada signed for any roster: the researcher is honest or not, the roster is the attacker's."""
    text, reference = sign_study(made.researcher, study(sites=SITES, **changes), envelope)
    return Offer(study=text, roster=envelope, links=gather(made.coordinator, ())), reference


def approved(made: Consortium, name: str = "north", **changes: Any) -> str:
    """Return the digest of a study that a hospital has approved."""
    offer, reference = made.offer(study(sites=SITES, **changes))
    receive_offer(made.site(name), offer, NOW)
    approve(made.site(name), reference, "ward-3", NOW)
    return reference


def swapped(roster: Roster, victim: str, when: datetime) -> tuple[list[Any], Person]:
    """Return the members with one hospital's keys replaced, and who has the new keys."""
    evil = Person(victim)
    return [evil.entry(when) if member.name == victim else member for member in roster.members], evil

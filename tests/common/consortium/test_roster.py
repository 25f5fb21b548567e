"""Rosters: what may follow what, and what a fingerprint covers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dura_common.consortium.envelope import canonical_json, sign
from dura_common.consortium.identity import CLOCK_SKEW, fingerprint, node_public_text
from dura_common.consortium.roster import (
    CARD_TYPE,
    ROSTER_TYPE,
    Expired,
    ResearcherCard,
    Roster,
    RosterSite,
    changes,
    check_successor,
    encode_identity,
    read_any_roster,
    read_card,
    read_roster,
)
from dura_common.errors import InputError, TrustError

NOW = datetime(2030, 5, 1, tzinfo=UTC)
KEY = Ed25519PrivateKey.generate()


def _site(name: str) -> RosterSite:
    node = node_public_text(ec.generate_private_key(ec.SECP384R1()))
    return RosterSite(name=name, identity=_identity(), node_key=node)


def _identity() -> str:
    return encode_identity(Ed25519PrivateKey.generate().public_key())


NORTH, EAST, SOUTH = _site("north"), _site("east"), _site("south")


def _roster(*sites: RosterSite, serial: int = 3, consortium: str = "brains") -> Roster:
    return Roster(
        consortium=consortium,
        serial=serial,
        issued=NOW,
        expires=NOW + timedelta(days=10),
        fleet="localhost:8443",
        sites=sites,
    )


def test_a_later_roster_may_add_and_drop_sites() -> None:
    """Sites come and go; only keys of those who stay must stay."""
    old, new = _roster(NORTH, EAST), _roster(NORTH, SOUTH, serial=4)
    check_successor(old, new)
    difference = changes(old, new)
    assert (difference.added, difference.removed, difference.altered) == (("south",), ("east",), ())


def test_altered_keys_are_refused_unless_a_person_accepted_exactly_them() -> None:
    """A coordinator cannot slip in new keys of a known site; a person may accept one site, not others."""
    old = _roster(NORTH, EAST)
    new = _roster(_site("north"), _site("east"), serial=4)
    with pytest.raises(TrustError, match="changes the keys of east, north"):
        check_successor(old, new)
    with pytest.raises(TrustError, match=r"changes the keys of east$"):
        check_successor(old, new, accepted=["north"])
    check_successor(old, new, accepted=["north", "east"])


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (_roster(NORTH, serial=2), "older"),
        (_roster(NORTH, EAST, SOUTH), "same serial"),
        (_roster(NORTH, EAST, serial=4, consortium="others"), "another consortium"),
    ],
)
def test_rollback_fork_and_foreign_rosters_are_refused(new: Roster, reason: str) -> None:
    """A roster may not go back, say two things at once, or come from another consortium."""
    with pytest.raises(TrustError, match=reason):
        check_successor(_roster(NORTH, EAST), new)


def test_roster_is_valid_between_its_dates_with_tolerance_for_clocks() -> None:
    """Expired and future rosters are refused; ten minutes of clock difference are not the future."""
    envelope = sign(canonical_json(_roster(NORTH)), ROSTER_TYPE, KEY)
    public = KEY.public_key()
    read_roster(envelope, public, NOW - CLOCK_SKEW)
    with pytest.raises(TrustError, match="issued in the future"):
        read_roster(envelope, public, NOW - CLOCK_SKEW - timedelta(seconds=1))
    with pytest.raises(Expired, match="expired"):
        read_roster(envelope, public, NOW + timedelta(days=10, seconds=1))
    assert read_any_roster(envelope, public) == _roster(NORTH)


def test_roster_without_timezone_is_refused() -> None:
    """A date without timezone could mean two moments."""
    with pytest.raises(ValidationError, match="timezone"):
        Roster.model_validate({**_roster().model_dump(), "expires": "2031-01-01T00:00:00"})


@pytest.mark.parametrize("what", ["name", "identity", "node_key"])
def test_names_and_keys_on_a_roster_are_distinct(what: str) -> None:
    """Two sites share neither name nor key."""
    clash = EAST.model_copy(update={what: getattr(NORTH, what)})
    with pytest.raises(ValidationError, match="must be distinct"):
        _roster(NORTH, clash)


def test_wrong_curve_is_refused() -> None:
    """A node key on another curve than Flower's cannot stand on a roster."""
    with pytest.raises(ValidationError, match="P-384"):
        RosterSite(
            name="north", identity=_identity(), node_key=node_public_text(ec.generate_private_key(ec.SECP256R1()))
        )


def test_a_card_signed_by_somebody_else_is_refused() -> None:
    """A card is good only if signed by the very identity it carries."""
    card = ResearcherCard(name="ada", identity=_identity(), created=NOW)
    with pytest.raises(TrustError, match="signature"):
        read_card(sign(canonical_json(card), CARD_TYPE, KEY))


def test_a_roster_is_not_a_card() -> None:
    """The wrong kind of signed document is refused with a reason."""
    with pytest.raises(InputError, match="the card"):
        read_card(sign(canonical_json(_roster(NORTH)), ROSTER_TYPE, KEY))


@given(parts=st.lists(st.binary(max_size=8), min_size=2, max_size=4))
def test_fingerprint_depends_on_where_parts_end(parts: list[bytes]) -> None:
    """Moving a byte from one part to the next gives another fingerprint."""
    merged = [parts[0] + parts[1], b"", *parts[2:]]
    assert (fingerprint(*parts) == fingerprint(*merged)) == (parts == merged)

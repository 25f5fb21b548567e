"""Attempts: what may be sent again, decided from what was sent; and the pieces in which frames travel."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from tests.support.secagg.sim import identities, parameters

from dura_common.errors import InputError, TrustError
from dura_common.messages.proto.aggregation_pb2 import Piece, ToSite
from dura_common.secagg import Kind
from dura_common.sums.attempts import (
    Attempt,
    LastSum,
    Position,
    Series,
    TooFew,
    attempt_parameters,
    decode_values,
    encode_values,
    next_attempt,
)
from dura_common.sums.plane import PIECE_BYTES, Assembler, bind, check_binding, pieces

KEYS = identities(4)
NAMES = tuple(sorted(KEYS))


def series(kind: Kind = Kind.STEP, **changes: object) -> Series:
    """Return a series of ten sums of four sites."""
    return Series.of(parameters(KEYS, kind=kind, length=3, steps=10 if kind is Kind.STEP else 1, **changes), 10)


def positions() -> st.SearchStrategy[dict[str, Position]]:
    """Return where sites may stand, honest ones and liars alike."""
    position = st.builds(Position, opened=st.integers(0, 3), draw=st.integers(0, 3), sent=st.booleans())
    return st.dictionaries(st.sampled_from(NAMES), position, max_size=4)


@pytest.mark.parametrize("kind", Kind)
def test_an_attempt_keeps_two_that_do_not_collude(kind: Kind) -> None:
    """With two colluders three sites are too few, whatever the minimum says: one honest vector would lie open."""
    numbers = {"colluders": 2, "threshold": 4}
    known = {name: Position(opened=0, draw=0, sent=False) for name in NAMES}
    assert next_attempt(series(kind, **numbers), 1, 0, known).members == NAMES
    del known[NAMES[0]]
    with pytest.raises(TooFew, match=r"^$"):  # its type says everything
        next_attempt(series(kind, **numbers), 2, 0, known)


@given(positions(), st.integers(0, 3), st.sampled_from(Kind))
def test_what_was_sent_never_comes_again(known: dict[str, Position], opened: int, kind: Kind) -> None:
    """Whatever the sites report, a site that has sent its draw is asked for a later one, and no draw comes back."""
    try:
        attempt = next_attempt(series(kind), 7, opened, known)
    except TooFew:
        return
    assert attempt.members == tuple(sorted(attempt.members))
    assert len(attempt.members) >= 2
    for name in attempt.members:
        position = known[name]
        assert position.opened == opened
        assert attempt.draw > position.draw if position.sent else attempt.draw >= position.draw


def test_the_same_sites_again_draw_afresh() -> None:
    """After a reconnect of everybody, vectors that were sent are not sent again: all draw anew."""
    known = {name: Position(4, 1, sent=True) for name in NAMES}
    assert next_attempt(series(), 3, 4, known) == Attempt(3, NAMES, 4, 2)


def test_a_lost_site_means_a_fresh_draw_for_those_who_sent() -> None:
    """A smaller cohort gets the next draw; a site that had not sent yet changes nothing about that."""
    known = {name: Position(4, 0, sent=True) for name in NAMES[:2]} | {NAMES[2]: Position(4)}
    assert next_attempt(series(), 3, 4, known) == Attempt(3, NAMES[:3], 4, 1)


def test_sites_that_missed_a_sum_are_left_out() -> None:
    """A sum is told once; a site that claims to know more than was opened is left out, too."""
    known = {NAMES[0]: Position(4), NAMES[1]: Position(4), NAMES[2]: Position(3), NAMES[3]: Position(5)}
    assert next_attempt(series(), 2, 4, known).members == NAMES[:2]


def test_fewer_than_the_study_demands() -> None:
    """Below the minimum, or without two sites that do not collude, there is no attempt."""
    known = {name: Position(0) for name in NAMES[:2]}
    with pytest.raises(TooFew, match=r"^$"):  # its type says everything
        next_attempt(series(minimum=3), 1, 0, known)
    with pytest.raises(TooFew, match=r"^$"):  # its type says everything
        next_attempt(series(colluders=2), 1, 0, known)


def test_everything_that_sites_must_agree_on_changes_the_session_id() -> None:
    """Two sites that were told anything different are in different sessions of the secure aggregation."""
    last = LastSum(np.arange(3), NAMES)
    attempt = Attempt(2, NAMES, 4, 0)
    variants = [
        (series(), attempt, last),
        (series(), replace(attempt, number=3), last),
        (series(), replace(attempt, members=NAMES[:3]), last),
        (series(), replace(attempt, opened=5), last),
        (series(), replace(attempt, draw=1), last),
        (series(), attempt, LastSum(np.array([0, 1, 3]), NAMES)),
        (series(), attempt, LastSum(np.arange(3), NAMES[:3])),
        (series(state="44" * 32), attempt, last),
        (series(attempt=2), attempt, last),
    ]
    assert len({attempt_parameters(*variant).session_id for variant in variants}) == len(variants)


@pytest.mark.parametrize(
    "attempt", [Attempt(1, (*NAMES[:3], "zzz"), 0, 0), Attempt(1, NAMES[:1], 0, 0), Attempt(1, NAMES, 10, 0)]
)
def test_attempts_that_do_not_fit_the_series(attempt: Attempt) -> None:
    """Strangers, too few members and sums beyond the last are refused."""
    with pytest.raises(ValueError, match=r"members|all sums"):
        attempt_parameters(series(), attempt, None)


@pytest.mark.parametrize("bits", [32, 64])
@given(data=st.data())
def test_sums_travel_unchanged(bits: int, data: st.DataObject) -> None:
    """Encoding and decoding give back every value of a ring; another length or another ring is refused."""
    values = data.draw(st.lists(st.integers(-(1 << bits - 1), (1 << bits - 1) - 1), min_size=1, max_size=20))
    content = encode_values(np.array(values, dtype=np.int64), bits)
    assert len(content) == len(values) * bits // 8
    assert decode_values(content, len(values), bits).tolist() == values
    for length, ring in ((len(values) + 1, bits), (len(values), 96 - bits)):
        with pytest.raises(ValueError, match="expected"):
            decode_values(content, length, ring)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_frames_come_together_again(size: int) -> None:
    """A frame of any size is the same after it was cut, within its limit and not one byte below."""
    frame = (hashlib.sha256(b"frame").digest() * (size // 32 + 1))[:size]
    cut = [message.piece for message in pieces(frame, 3, ToSite)]
    whole = Assembler(size)
    assert [whole.add(piece) for piece in cut][:-1] == [None] * (len(cut) - 1)
    assert Assembler(size + 1).add(cut[0]) == (frame if len(cut) == 1 else None)
    if size:
        small = Assembler(size - 1)
        for piece in cut[:-1]:
            small.add(piece)
        with pytest.raises(InputError, match="at most"):
            small.add(cut[-1])


def test_pieces_that_no_honest_sender_cuts() -> None:
    """Small pieces that keep a frame open are refused: nobody holds a frame byte by byte."""
    for size in (0, 1, PIECE_BYTES - 1, PIECE_BYTES + 1):
        with pytest.raises(InputError, match="expected a piece"):
            Assembler(2**30).add(Piece(attempt=1, data=bytes(size), last=False))


def test_a_frame_of_an_attempt_that_is_over_is_dropped() -> None:
    """Half a frame of an old attempt never becomes part of a new one."""
    assembler = Assembler(2**30)
    assert assembler.add(Piece(attempt=1, data=bytes(PIECE_BYTES), last=False)) is None
    assert assembler.add(Piece(attempt=2, data=b"new", last=True)) == b"new"


def test_a_certificate_is_bound_to_one_identity() -> None:
    """Another identity's signature, or that of another certificate, does not hold."""
    mine, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    check_binding(mine.public_key(), b"certificate", bind(mine, b"certificate"))
    for signature in (bind(other, b"certificate"), bind(mine, b"another"), b"", mine.sign(b"certificate")):
        with pytest.raises(TrustError, match="not signed"):
            check_binding(mine.public_key(), b"certificate", signature)

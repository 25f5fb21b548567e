"""Messages: only the known shapes cross the boundary."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dura_common.errors import InputError
from dura_common.messages import (
    MAX_BODY_BYTES,
    AskApproval,
    EvaluateRound,
    Offer,
    Refusal,
    RefusalReason,
    RoundDone,
    Standing,
    TrainRound,
    decode_reply,
    decode_request,
    encode,
)

DIGEST = "ab" * 32
REQUESTS = [
    Offer(study="{}", roster="{}"),
    AskApproval(study=DIGEST),
    TrainRound(study=DIGEST, round=1, attempt=2, members=("east", "north"), first_step=4),
    TrainRound(study=DIGEST, round=2, attempt=3, members=("east", "north"), last=9),
    EvaluateRound(study=DIGEST, round=3, attempt=1, members=("east", "north")),
]
TRAIN = {"kind": "train-round", "study": DIGEST, "round": 1, "attempt": 1, "members": ["east", "north"]}
REPLIES = [
    Standing(state="offered"),
    RoundDone(study=DIGEST, round=1, attempt=2, state=DIGEST),
    Refusal(reason=RefusalReason.POLICY),
]


@pytest.mark.parametrize("message", REQUESTS, ids=lambda m: m.kind)
def test_requests_survive_the_wire(message: Offer) -> None:
    """A request decodes to itself and is no reply."""
    assert decode_request(encode(message)) == message
    with pytest.raises(InputError, match="a reply does not have the expected form"):
        decode_reply(encode(message))


@pytest.mark.parametrize("message", REPLIES, ids=lambda m: m.kind)
def test_replies_survive_the_wire(message: Standing) -> None:
    """A reply decodes to itself and is no request."""
    assert decode_reply(encode(message)) == message
    with pytest.raises(InputError, match="a request does not have the expected form"):
        decode_request(encode(message))


@pytest.mark.parametrize(
    "body",
    [
        {"kind": "train-round", "study": DIGEST},
        {**TRAIN, "round": 0},
        {**TRAIN, "round": "1; drop"},
        {**TRAIN, "study": DIGEST.upper()},
        {**TRAIN, "epsilon": 100},
        {**TRAIN, "attempt": 0},
        {**TRAIN, "members": ["east"]},
        {**TRAIN, "members": ["east", "drop table"]},
        {**TRAIN, "threshold": 1},
        {"kind": "shell", "command": "id"},
        [],
    ],
)
def test_anything_else_is_refused_without_being_quoted(body: object) -> None:
    """A malformed request is refused, and the error does not repeat what came."""
    with pytest.raises(InputError, match="a request does not have the expected form") as caught:
        decode_request(json.dumps(body).encode())
    assert "drop" not in str(caught.value)


def test_oversized_bodies_are_refused_before_parsing() -> None:
    """A body above the limit is refused by its size."""
    with pytest.raises(InputError, match="larger"):
        decode_request(b" " * (MAX_BODY_BYTES + 1))


@given(body=st.binary(max_size=200))
def test_random_bytes_raise_only_input_errors(body: bytes) -> None:
    """Whatever comes in, decoding ends in an InputError."""
    with pytest.raises(InputError, match="a request does not have the expected form"):
        decode_request(body)

"""The messages between coordinator and site: nothing else crosses the boundary.

A message is a small JSON body (one of the models below) and at most one flat float32 vector. Only the coordinator sends
vectors this way: the results of a site leave it masked, over the aggregation plane, and in no other way. A message that
is too large or has unknown keys is refused before it is used. Replies contain no free text that a site did not mean to
release: a refusal is one word of :class:`RefusalReason`.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

from dura_common.consortium.chain import MAX_LINKS, Envelope, Link
from dura_common.errors import InputError
from dura_common.study import Digest, Frozen, SiteName

MAX_BODY_BYTES = 4_194_304
"""Largest JSON body: a roster of 500 sites is about 0.5 MB."""

MAX_ATTEMPTS = 1_000_000
"""The largest number of a request. It says nothing about how often a round may be drawn: that is the study's to say."""

LEAP = 1000
"""How far the number of a request may lie above the one before it at a site, which may have been away meanwhile.
Otherwise, one message would use up all numbers of a round."""
LEARNED = 100
"""How far a coordinator follows a site that claims a higher number. Otherwise, one site would use up all numbers that
the other sites accept."""
MAX_REQUESTS = 1000
"""How many requests of one round a site takes up: each is a row in its ledger."""

T = TypeVar("T")


class RefusalReason(StrEnum):
    """The reason for a site's refusal. The list is fixed, because free text could carry data out of the hospital.

    No word depends on recordings, on withdrawals, or on what a patient has spent. Each word follows from the study,
    the policy, the roster, the clock, counters and the messages themselves.
    """

    NOT_UNDERSTOOD = "not-understood"
    UNKNOWN_STUDY = "unknown-study"
    NOT_APPROVED = "not-approved"
    NOT_AUTHENTIC = "not-authentic"
    EXPIRED = "expired"
    OTHER_ROSTER = "other-roster"
    REPEATED_ROUND = "repeated-round"
    """The number of the request is not higher than the number of every earlier request."""
    POLICY = "policy"
    NO_DRAW_LEFT = "no-draw-left"
    """This draw was made before, and no spare draw is left; or the study has ended at this site."""
    MEMBER_WENT_BACK = "member-went-back"
    """A member's ledger or roster is not what another member has seen of it before; the member may be this site."""
    AGGREGATION = "aggregation"
    """A sum was not opened: a site left, was late, or broke the protocol."""
    SITE_FAULT = "site-fault"


Links = Annotated[tuple[Link, ...], Field(max_length=MAX_LINKS)]


class Offer(Frozen):
    """Coordinator to site: here is a signed study, the roster that it names, and the chain of rosters."""

    kind: Literal["offer"] = "offer"
    study: Envelope
    """DSSE envelope, JSON text."""
    roster: Envelope
    """DSSE envelope, JSON text."""
    links: Links = ()
    """Newest rosters, oldest first, with the countersignatures that the coordinator has."""


class AskRoster(Frozen):
    """Coordinator to site: these are the newest rosters; which have you countersigned?"""

    kind: Literal["ask-roster"] = "ask-roster"
    links: Links


class AskApproval(Frozen):
    """Coordinator to site: has your privacy officer decided on this study?"""

    kind: Literal["ask-approval"] = "ask-approval"
    study: Digest


class SumRound(Frozen):
    """The content of every request for a sum: which sum, and which sites add to it."""

    study: Digest
    round: Annotated[int, Field(ge=1, le=10_000)]
    attempt: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)]
    """Grows with every repetition after a loss. A site accepts only numbers above all earlier ones."""
    members: Annotated[tuple[SiteName, ...], Field(min_length=2, max_length=500)]
    """The sites that add to the sum, sorted. Each site checks them against the study and its policy."""


class TrainRound(SumRound):
    """Coordinator to site: make the steps of one round, or of several, from the training state in the vector.

    A request for several rounds saves an exchange of messages for each of them. The site computes each next state
    itself, as everybody does. After a sum to which not all members have added, the request is over: who was lost can
    take part in the next one.
    """

    kind: Literal["train-round"] = "train-round"
    first_step: Annotated[int, Field(ge=1, le=100_000)] = 1
    """First step of the round to compute. After a loss it is above 1, if earlier sums of the round were opened."""
    last: Annotated[int, Field(ge=1, le=10_000)] | None = None
    """Last round to work through, with the evaluations that the study names. Without it, the steps of ``round``."""


class EvaluateRound(SumRound):
    """Coordinator to site: score the parameters in the vector on held-out patients."""

    kind: Literal["evaluate-round"] = "evaluate-round"


class Standing(Frozen):
    """Site to coordinator: the state of a study at this site."""

    kind: Literal["standing"] = "standing"
    state: Literal["offered", "approved", "declined"]
    approval: str | None = None
    """DSSE envelope of the site's approval, JSON text, if approved."""


class Countersigned(Frozen):
    """Site to coordinator: this site's countersignatures of rosters, for the other sites."""

    kind: Literal["countersigned"] = "countersigned"
    serial: Annotated[int, Field(ge=1)]
    """The digest of the roster that this site follows now."""
    countersignatures: Annotated[tuple[Annotated[str, Field(max_length=65_536)], ...], Field(max_length=MAX_LINKS)]
    """DSSE envelopes, JSON text."""


class RoundDone(Frozen):
    """Site to coordinator: everything that this request asked for has been added to sums."""

    kind: Literal["round-done"] = "round-done"
    study: Digest
    round: Annotated[int, Field(ge=1, le=10_000)]
    """The last round that this site took part in."""
    attempt: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)]
    state: Digest | None = None
    """Digest of the training state after the last opened sum, if sites make the steps themselves."""
    redraws: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    """Number of draws that this site has repeated in the whole study. Many repetitions are a reason for suspicion."""


class Refusal(Frozen):
    """Site to coordinator: a refusal, with the reason in one word."""

    kind: Literal["refusal"] = "refusal"
    reason: RefusalReason
    attempt: Annotated[int, Field(ge=1, le=MAX_ATTEMPTS)] | None = None
    """With ``repeated-round``, the number that the next request must exceed."""


Request = Annotated[Offer | AskApproval | AskRoster | TrainRound | EvaluateRound, Field(discriminator="kind")]
Reply = Annotated[Standing | Countersigned | RoundDone | Refusal, Field(discriminator="kind")]

_REQUEST: TypeAdapter[Request] = TypeAdapter(Request)
_REPLY: TypeAdapter[Reply] = TypeAdapter(Reply)


def encode(message: Request | Reply) -> bytes:
    """Return the JSON body of a message."""
    return message.model_dump_json().encode()


def decode_request(body: bytes) -> Request:
    """Parse a message from a coordinator.

    Raises:
        InputError: the message is too large, is not JSON, has an unknown kind, or has unknown or missing keys.
    """
    return _decode(_REQUEST, body, what="a request")


def decode_reply(body: bytes) -> Reply:
    """Parse a message from a site.

    Raises:
        InputError: the message is too large, is not JSON, has an unknown kind, or has unknown or missing keys.
    """
    return _decode(_REPLY, body, what="a reply")


def _decode(adapter: TypeAdapter[T], body: bytes, *, what: str) -> T:
    if len(body) > MAX_BODY_BYTES:
        raise InputError(f"{what} is larger than {MAX_BODY_BYTES} bytes")
    try:
        return adapter.validate_json(body)
    except ValidationError as error:
        raise InputError(f"{what} does not have the expected form ({error.error_count()} faults)") from error

"""What travels between coordinator and site: requests and replies, their form for Flower, the plane's wire types."""

from dura_common.messages.requests import (
    MAX_ATTEMPTS,
    MAX_BODY_BYTES,
    AskApproval,
    EvaluateRound,
    Offer,
    Refusal,
    RefusalReason,
    Reply,
    Request,
    RoundDone,
    Standing,
    SumRound,
    TrainRound,
    decode_reply,
    decode_request,
    encode,
)

__all__ = [
    "MAX_ATTEMPTS",
    "MAX_BODY_BYTES",
    "AskApproval",
    "EvaluateRound",
    "Offer",
    "Refusal",
    "RefusalReason",
    "Reply",
    "Request",
    "RoundDone",
    "Standing",
    "SumRound",
    "TrainRound",
    "decode_reply",
    "decode_request",
    "encode",
]

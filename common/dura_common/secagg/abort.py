"""The one way in which a session ends early."""

from __future__ import annotations

from enum import IntEnum

from dura_common.errors import TrustError


class Reason(IntEnum):
    """Why a session ended. The number is sent to the other side, so a number never changes its meaning."""

    MALFORMED = 1
    """A frame is not what its type demands, or belongs to another session."""
    OUT_OF_TURN = 2
    """A frame, step or call at the wrong time, or a second one of its kind."""
    NOT_AUTHENTIC = 3
    """A signature, a tag or a commitment is not valid."""
    TOO_FEW = 4
    """There are fewer sites than the approved study demands."""
    INCONSISTENT = 5
    """Lists that contradict each other or the session."""
    OUT_OF_RANGE = 6
    """A number that could not have come from honest sites, or would not fit."""
    LOST = 7
    """A site left, or was too late."""


def reason_of(code: int) -> Reason:
    """Return the reason that the other side gave; an unknown number counts as malformed."""
    try:
        return Reason(code)
    except ValueError:
        return Reason.MALFORMED


class Abort(TrustError):
    """The session is over, its secrets are erased; another attempt needs a new session with fresh keys.

    Attributes:
        reason: the reason for programs and for the other side; the message is for the local log.
        site: the site at fault, if the coordinator can tell.
    """

    code = "aggregation"

    def __init__(self, reason: Reason, message: str, *, site: str | None = None) -> None:
        super().__init__(message, hint="A new attempt runs with fresh keys; if it fails again, read the node's log.")
        self.reason = reason
        self.site = site

"""Events in a session of secure sums: the streams' reports to the session, and the session's reports to the run."""

from __future__ import annotations

from dataclasses import dataclass

from dura_common.messages.proto.aggregation_pb2 import Reason
from dura_common.secagg import Opened
from dura_common.sums.attempts import Position
from dura_server.sums.stream import SiteStream


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a session waits, in seconds."""

    join: float = 120.0
    """For all members, before the session continues with the members that came."""
    step: float = 300.0
    """For each stage. The slowest site must compute its vector within this time."""
    rejoin: float = 15.0
    """For a site that was lost."""


@dataclass(frozen=True, slots=True)
class Sum:
    """One opened sum on its way to the ServerApp."""

    opened: Opened
    draw: int


@dataclass(frozen=True, slots=True)
class Over:
    """The end of a session: FINISHED or the reason of the failure, and the members that were missing at the end."""

    reason: Reason
    attempts: int
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A site joins the session, or joins it again."""

    stream: SiteStream
    position: Position


@dataclass(frozen=True, slots=True)
class Arrived:
    """A frame of a site."""

    stream: SiteStream
    attempt: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Left:
    """A stream has ended."""

    stream: SiteStream
    reason: Reason | None
    """None if the connection was lost; the site may then come back."""

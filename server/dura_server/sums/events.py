"""What happens in a session of secure sums: what streams report to it, and what it reports to the run."""

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
    """For all members, before it goes on with those who came."""
    step: float = 300.0
    """For each stage: the slowest site computes its vector within this time."""
    rejoin: float = 15.0
    """For a site that was lost."""


@dataclass(frozen=True, slots=True)
class Sum:
    """One opened sum on its way to the ServerApp."""

    opened: Opened
    draw: int


@dataclass(frozen=True, slots=True)
class Over:
    """The end of a session: FINISHED, or why not, and which members were not there at the end."""

    reason: Reason
    attempts: int
    lost: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Joined:
    """A site attends, or attends again."""

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
    """None: the connection was lost, the site may come back."""

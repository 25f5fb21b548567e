"""The coordinator's common part of both kinds of sums. It trusts nobody, and its only secrets are unopened sums."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from dura_common.secagg import wire
from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.arithmetic.masks import Words, word_type
from dura_common.secagg.params import Kind, SessionParameters
from dura_common.secagg.site import Opened
from dura_common.secagg.wire import Frame, Type


@dataclass(frozen=True, slots=True)
class Progress:
    """The result of one frame, one loss or one deadline."""

    outgoing: Mapping[str, bytes | memoryview] = field(default_factory=dict, repr=False)
    """Frames to send, by site."""
    opened: Opened | None = None


class Coordinator(ABC):
    """The coordinator's side of one session. Bytes in, bytes out; no clock, no network.

    Call ``receive`` for every frame, ``lost`` for a site that is gone, and ``close`` when the time of a stage is over.
    :attr:`waiting` says who has not answered yet. An :class:`Abort` ends the session for good.
    """

    def __init__(self, params: SessionParameters) -> None:
        self.params = params
        self.ended = False
        self._waiting = set(range(len(params.members)))
        self._begin_sum(params.first_step if params.kind is Kind.STEP else 0)

    @property
    def waiting(self) -> frozenset[str]:
        """Sites that have not answered in the current stage."""
        return frozenset(self.params.names[index] for index in self._waiting)

    def receive(self, sender: str, content: bytes | memoryview) -> Progress:
        """React to a frame of a site, which the transport has authenticated.

        Raises:
            Abort: the session is over.
        """
        index = self._index(sender)
        try:
            self._take(index, self._part(index, content))
        except Abort as abort:
            abort.site = sender
            return self._drop(index, abort)
        self._waiting.discard(index)
        return self._advance()

    def lost(self, sender: str) -> Progress:
        """Continue without a site for the rest of the session, or end the session.

        Raises:
            Abort: the session is over.
        """
        return self._drop(self._index(sender), Abort(Reason.LOST, f"{sender} is out of reach", site=sender))

    def close(self) -> Progress:
        """The time of this stage is over: continue without the sites that have not answered, or end the session.

        Raises:
            Abort: the session is over.
        """
        late = ", ".join(sorted(self.waiting))
        progress = Progress()
        for index in sorted(self._waiting):
            progress = self._drop(index, Abort(Reason.LOST, f"too late: {late}", site=self.params.names[index]))
        return progress

    @abstractmethod
    def _take(self, index: int, frame: Frame) -> None:
        """Check and store one expected frame of a site."""

    @abstractmethod
    def _drop(self, index: int, cause: Abort) -> Progress:
        """Continue without a site if the kind of sum allows it; otherwise raise ``cause``."""

    @abstractmethod
    def _advance(self) -> Progress:
        """Enter the next stage if all sites have answered."""

    def _part(self, index: int, content: bytes | memoryview) -> Frame:
        frame = wire.decode(content)
        if frame.session != self.params.session_id:
            raise Abort(Reason.MALFORMED, "a frame belongs to another session")
        if frame.type is Type.ABORT:
            raise Abort(Reason.LOST, f"{self.params.names[index]} left the session")
        if index not in self._waiting:
            raise Abort(Reason.OUT_OF_TURN, f"{self.params.names[index]} answered twice or out of turn")
        return frame

    def _index(self, sender: str) -> int:
        if self.ended:
            raise Abort(Reason.OUT_OF_TURN, "the session is over")
        if sender not in self.params.names:
            raise Abort(Reason.INCONSISTENT, "a frame came from a site that is no member")
        return self.params.index(sender)

    def _expect(self, frame: Frame, kind: Type, step: int) -> None:
        if (frame.type, frame.step) != (kind, step):
            raise Abort(
                Reason.OUT_OF_TURN,
                f"expected {kind.name} of step {step}, got {frame.type.name} of step {frame.step}",
            )

    def _add(self, frame: Frame) -> None:
        """Add a masked vector to the sum. This needs the memory of one vector for any number of sites."""
        if len(frame.body) != self._sum.nbytes:
            raise Abort(Reason.MALFORMED, f"a vector of {self._sum.nbytes} bytes is expected, got {len(frame.body)}")
        self._sum += np.frombuffer(frame.body, dtype=self._sum.dtype)

    def _begin_sum(self, step: int) -> None:
        """Begin a sum at zero, inside the frame that will carry it to the sites."""
        kind = word_type(self.params.ring_bits)
        size = (self.params.length + wire.CHECK_WORDS) * kind.itemsize
        self._opened_frame, body = wire.open_frame(Type.OPENED, self.params.session_id, step, size)
        self._sum: Words = np.frombuffer(body, dtype=kind)

    def _broadcast(self, indices: set[int], kind: Type, body: bytes) -> dict[str, bytes | memoryview]:
        return self._to(indices, wire.encode(kind, self.params.session_id, 0, body))

    def _to(self, indices: set[int], frame: bytes | memoryview) -> dict[str, bytes | memoryview]:
        return {self.params.names[index]: frame for index in sorted(indices)}

    def _end(self, cause: Abort) -> Abort:
        self._erase()
        return cause

    def _erase(self) -> None:
        """End for good; shares and half-opened sums are not kept."""
        self.ended = True
        self._waiting.clear()
        self._sum = self._sum[:0]
        self._opened_frame = memoryview(b"")

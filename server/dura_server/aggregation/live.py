"""One session that runs: the coordinator's side of the protocol between the streams of sites and the ServerApp.

Frames go through in the order in which they come; every stage has a time after which it goes on, or ends, without
those who have not answered. A site attends a session once: its secrets live in one process only, so a second stream
cannot go on where a first one broke off.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field

from dura_common.errors import StateError
from dura_common.secagg import Abort, Opened, Progress, Reason, SessionParameters, open_coordinator

log = logging.getLogger(__name__)

QUEUE_FRAMES = 4
"""Frames that wait for a slow site; the protocol is in step, so more than two never do."""


@dataclass(slots=True)
class Seat:
    """One site's place: frames to it, in order; None ends its stream."""

    outgoing: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_FRAMES))


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a session ended early."""

    message: str
    gone: tuple[str, ...]


class LiveSession:
    """See the module.

    Args:
        params: of the session.
        join_seconds: how long members have to come and give their keys.
        stage_seconds: how long they have for every stage after that.
    """

    def __init__(self, params: SessionParameters, *, join_seconds: float, stage_seconds: float) -> None:
        self.params = params
        self.events: asyncio.Queue[Opened | Failure | None] = asyncio.Queue(QUEUE_FRAMES)
        """For the ServerApp; None after the last sum."""
        self._coordinator = open_coordinator(params)
        self._seats: dict[str, Seat] = {}
        self._stage_seconds = stage_seconds
        self._due = asyncio.get_running_loop().time() + join_seconds
        self._over = False
        self._clock = asyncio.create_task(self._watch())

    @property
    def over(self) -> bool:
        """Whether nothing will be opened any more."""
        return self._over

    def attend(self, name: str) -> Seat:
        """Give a member its place.

        Raises:
            StateError: not a member, here already, or too late.
        """
        if self._over or name not in self.params.names or name in self._seats:
            raise StateError("no place in this session")
        self._seats[name] = Seat()
        return self._seats[name]

    async def receive(self, name: str, frame: bytes) -> None:
        """Take one frame of a site."""
        if not self._over:
            await self._step(lambda: self._coordinator.receive(name, frame))

    async def leave(self, name: str) -> None:
        """Go on, or end, without a site whose stream is gone."""
        if not self._over:
            await self._step(lambda: self._coordinator.lost(name))

    async def end(self, message: str) -> None:
        """End early, from the coordinator's side."""
        if not self._over:
            await self._fail(Abort(Reason.LOST, message))

    async def _step(self, act) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001  # a call without arguments
        try:
            progress: Progress = act()
        except Abort as abort:
            await self._fail(abort)
            return
        for receiver, frame in progress.outgoing.items():
            self._send(receiver, frame)
        if progress.outgoing:
            self._due = asyncio.get_running_loop().time() + self._stage_seconds
        if progress.opened is not None:
            await self.events.put(progress.opened)
        if self._coordinator.ended:
            await self._finish(None)

    def _send(self, name: str, frame: bytes) -> None:
        seat = self._seats.get(name)
        if seat is None:
            return  # it left after it had answered
        try:
            seat.outgoing.put_nowait(frame)
        except asyncio.QueueFull:
            log.warning("%s does not read; its stream will time out", name)

    async def _fail(self, abort: Abort) -> None:
        log.warning("session of round %d lost: %s", self.params.round, abort.message)
        waiting = sorted(self._coordinator.waiting)
        for name in self._seats:
            self._send(name, self._coordinator.abort_frame(abort.reason))
        gone = (abort.site,) if abort.site else tuple(waiting) if abort.reason is Reason.LOST else ()
        await self._finish(Failure(abort.message, gone))

    async def _finish(self, failure: Failure | None) -> None:
        self._over = True
        for seat in self._seats.values():
            if seat.outgoing.full():
                seat.outgoing.get_nowait()  # a site that does not read loses a frame, not the others their end
            seat.outgoing.put_nowait(None)
        await self.events.put(failure)
        if asyncio.current_task() is not self._clock:
            self._clock.cancel()

    async def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._over:
            left = self._due - loop.time()
            if left > 0:
                await asyncio.sleep(left)
            else:
                await self._step(self._coordinator.close)
                self._due = max(self._due, loop.time() + self._stage_seconds)

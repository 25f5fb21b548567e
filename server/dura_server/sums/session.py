"""One session of secure sums at the coordinator: attempts until all sums are opened, or a clean end.

1. Wait until all members attend. After ``join_seconds``, continue with the members that came.
2. Make an attempt: fresh keys for all members, then one sum after another. A round sum is a separate attempt. Every
   opened sum is kept on disk (:mod:`dura_server.sums.kept`), and then goes to the sites and to the ServerApp.
3. If a site is lost, an attempt of step sums ends (a round sum continues without the site). Wait ``rejoin_seconds``
   for the site, then make the next attempt, without the site if necessary. A site that was too late, broke the
   protocol or missed an opened sum stays out.

All events come through one queue, so a session is one task and needs no lock. It holds the last opened sum and no
other value. Only the secure aggregation holds masked vectors.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from dura_common.errors import HostError
from dura_common.messages.proto.aggregation_pb2 import Begin, Reason, ToSite
from dura_common.secagg import Abort, Coordinator, Kind, Opened, Progress, open_coordinator
from dura_common.secagg import Reason as AbortReason
from dura_common.sums.attempts import (
    Attempt,
    LastSum,
    Position,
    Series,
    TooFew,
    attempt_parameters,
    next_attempt,
)
from dura_common.sums.plane import pieces
from dura_server.sums.events import Arrived, Joined, Left, Over, Sum, Timing
from dura_server.sums.identity import Peer
from dura_server.sums.stream import SiteStream

log = logging.getLogger(__name__)

FRUITLESS_ATTEMPTS = 5
"""Number of attempts in a row that may open no sum."""
QUEUED_FRAMES = 64
"""Number of frames that may wait. Beyond it, the sites' streams are not read (HTTP/2 flow control)."""
LONG_VECTOR = 500_000
"""From this number of words on, a thread does the arithmetic, so that other sessions do not have to wait."""
QUEUED_SUMS = 4
"""Number of opened sums that may wait for the ServerApp. Beyond it, the session waits."""


class _Failed(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(Reason.Name(reason))
        self.reason = reason


class Session:
    """One session; :meth:`run` is its task.

    Args:
            series: the sums of the session, with all members.
            timing: how long the session waits.
            still: tells whether a peer is still on the roster.
            keep: writes an opened sum to disk. It is called in a thread, before any site hears of the sum.
    """

    def __init__(
        self, series: Series, timing: Timing, *, still: Callable[[Peer], bool], keep: Callable[[Opened], None]
    ) -> None:
        self.series = series
        self.params = series.params
        self.opened = 0
        self.attempt = 0
        self.results: asyncio.Queue[Sum | Over] = asyncio.Queue(QUEUED_SUMS)
        self._timing = timing
        self._still = still
        self._keep = keep
        self._events: asyncio.Queue[Joined | Arrived | Left] = asyncio.Queue()
        self._room = asyncio.Semaphore(QUEUED_FRAMES)
        self._streams: dict[str, SiteStream] = {}
        self._positions: dict[str, Position] = {}
        self._came: set[str] = set()
        """Sites that attended once and were not sent away. The session waits for them."""
        self._out: set[str] = set()
        self._last: LastSum | None = None

    @property
    def attending(self) -> tuple[str, ...]:
        """Names of the sites with a stream."""
        return tuple(sorted(self._streams))

    def joined(self, stream: SiteStream, position: Position) -> None:
        """Admit a site after its Hello was checked."""
        self._events.put_nowait(Joined(stream, position))

    async def arrived(self, stream: SiteStream, attempt: int, frame: bytes) -> None:
        """Accept a frame; wait while the session is busy."""
        await self._room.acquire()
        self._events.put_nowait(Arrived(stream, attempt, frame))

    def left(self, stream: SiteStream, reason: Reason | None) -> None:
        """Note that a stream has ended; None means that its connection was lost and the site may come back."""
        self._events.put_nowait(Left(stream, reason))

    async def run(self) -> None:
        """Run the session to its end. The end is also the last entry of :attr:`results`."""
        reason = Reason.CANCELLED
        try:
            await self._gather(set(self.params.names), self._timing.join)  # step 1
            fruitless = 0
            while self.opened < self.series.sums:
                before = self.opened
                await self._attempt()  # step 2
                fruitless = fruitless + 1 if self.opened == before else 0
                _check_fruitless(fruitless)
                if self.opened < self.series.sums and (self.opened == before or self.params.kind is Kind.STEP):
                    await self._gather(self._came, self._timing.rejoin)  # step 3
            reason = Reason.FINISHED
            log.info("session %s: finished", self._label)
            await self._report(reason)
        except _Failed as failed:
            reason = failed.reason
            log.warning("session %s: ended, %s", self._label, Reason.Name(reason).lower())
            await self._report(reason)
        finally:
            for stream in self._streams.values():
                stream.end(reason)

    async def _report(self, reason: Reason) -> None:
        lost = tuple(name for name in self.params.names if name not in self._streams)
        await self.results.put(Over(reason, self.attempt, lost))

    async def _gather(self, wanted: set[str], seconds: float) -> None:
        """Wait until all wanted sites attend, or until the time is over."""
        deadline = time.monotonic() + seconds
        while not wanted - self._out <= self._streams.keys():
            if await self._next(deadline) is None:
                return

    async def _attempt(self) -> None:
        """Run one attempt until it has opened all sums or has ended."""
        attempt = self._plan()
        machine = open_coordinator(attempt_parameters(self.series, attempt, self._last))
        self._begin(attempt)
        deadline = time.monotonic() + self._timing.step
        while not machine.ended:
            event = await self._next(deadline)
            try:
                progress = await self._judge(machine, attempt, event)
            except Abort as abort:
                self._aborted(attempt, abort)
                return
            if progress.outgoing:
                await self._tell(attempt, progress)
                deadline = time.monotonic() + self._timing.step  # a stage is done
            if progress.opened:
                await self._open(attempt, progress)

    def _plan(self) -> Attempt:
        for name, stream in list(self._streams.items()):
            if not self._still(stream.peer):
                self._dismiss(name, Reason.REVOKED)
        self.attempt += 1
        present = {name: self._positions[name] for name in self._streams}
        try:
            attempt = next_attempt(self.series, self.attempt, self.opened, present)
        except TooFew:
            raise _Failed(Reason.TOO_FEW_SITES) from None
        for name in set(present) - set(attempt.members):
            self._dismiss(name, Reason.NOT_A_MEMBER)  # it missed too much
        log.info("session %s: attempt %d of %d sites", self._label, attempt.number, len(attempt.members))
        return attempt

    def _begin(self, attempt: Attempt) -> None:
        begin = Begin(attempt=attempt.number, members=attempt.members, opened=attempt.opened, draw=attempt.draw)
        for name in attempt.members:
            self._streams[name].begin(begin)
            self._positions[name] = Position(attempt.opened, attempt.draw, sent=True)  # it may send at any time

    async def _judge(self, machine: Coordinator, attempt: Attempt, event: Joined | Arrived | Left | None) -> Progress:
        """Hand one event to the secure aggregation."""
        if event is None:
            late = machine.waiting
            for name in late:
                self._dismiss(name, Reason.TOO_LATE)
            return await self._compute(machine.close)
        name = event.stream.name
        if name not in attempt.members:
            if self.params.kind is Kind.STEP:
                self._dismiss(name, Reason.NOT_A_MEMBER)  # too late for this session; the site can join the next one
            return Progress()
        if isinstance(event, Arrived):
            if event.attempt != attempt.number:
                return Progress()  # the frame was sent before this attempt began
            if event.stream is not self._streams.get(name):
                return Progress()
            return await self._compute(machine.receive, name, event.frame)
        return await self._compute(machine.lost, name)  # the site is gone, or is back without the state of this attempt

    async def _compute(self, act: Callable[..., Progress], *arguments: object) -> Progress:
        if self.params.length < LONG_VECTOR:
            return act(*arguments)
        return await asyncio.to_thread(act, *arguments)

    async def _tell(self, attempt: Attempt, progress: Progress) -> None:
        """Send frames; a sum is kept durably before any site hears of it: sites draw for the next one when they do."""
        keeping = None if progress.opened is None else self._put_by(progress.opened)
        messages = _messages(progress.outgoing, attempt.number)  # while the disk is flushed
        if keeping is not None:
            await self._kept(keeping)
        for name, cut in messages.items():
            if name in self._streams:
                self._streams[name].send(cut)

    def _put_by(self, opened: Opened) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(None, self._keep, opened)

    async def _kept(self, keeping: asyncio.Future[None]) -> None:
        try:
            await keeping
        except HostError as error:
            log.error("session %s: %s", self._label, error.message)  # noqa: TRY400  # the message says it all
            raise _Failed(Reason.NOT_KEPT) from error

    async def _open(self, attempt: Attempt, progress: Progress) -> None:
        opened = progress.opened
        if opened is None:
            return
        self.opened += 1
        self._last = LastSum(opened.total, opened.contributors)
        may_send = self.params.kind is Kind.STEP
        for name in progress.outgoing:
            if name in self._streams:
                self._positions[name] = Position(self.opened, 0, sent=may_send)
        await self.results.put(Sum(opened, attempt.draw if self.opened == attempt.opened + 1 else 0))

    def _aborted(self, attempt: Attempt, abort: Abort) -> None:
        """Continue after an attempt that ended early, without the site that caused it, if any."""
        log.info("session %s: attempt %d is over: %s", self._label, attempt.number, abort.message)
        if abort.reason in {AbortReason.LOST, AbortReason.TOO_FEW}:
            return
        if abort.site is None:
            raise _Failed(Reason.PROTOCOL)
        self._dismiss(abort.site, Reason.PROTOCOL)

    async def _next(self, deadline: float) -> Joined | Arrived | Left | None:
        """Return the next event of a current stream, after updating the records; None when the time is over."""
        while True:
            event = await self._event(deadline)
            if event is None:
                return None
            name = event.stream.name
            if isinstance(event, Joined):
                if name in self._out:
                    event.stream.end(Reason.NOT_A_MEMBER)
                    continue
                self._replace(name, event)
                return event
            if event.stream is not self._streams.get(name):
                continue  # the event of a stream that was replaced or sent away
            if isinstance(event, Left):
                del self._streams[name]
                if event.reason not in {None, Reason.FINISHED}:
                    self._out.add(name)
                log.info("session %s: %s left", self._label, name)
            return event

    async def _event(self, deadline: float) -> Joined | Arrived | Left | None:
        if self._events.empty():
            try:
                async with asyncio.timeout(max(deadline - time.monotonic(), 0.0)):
                    event = await self._events.get()
            except TimeoutError:
                return None
        else:
            event = self._events.get_nowait()
        if isinstance(event, Arrived):
            self._room.release()
        return event

    def _replace(self, name: str, event: Joined) -> None:
        if name in self._streams:
            self._streams[name].end(Reason.REPLACED)
        self._streams[name] = event.stream
        self._positions[name] = event.position
        self._came.add(name)

    def _dismiss(self, name: str, reason: Reason) -> None:
        """Send a site away for the rest of this session."""
        self._out.add(name)
        stream = self._streams.pop(name, None)
        if stream is not None:
            log.info("session %s: %s is out, %s", self._label, name, Reason.Name(reason).lower())
            stream.end(reason)

    @property
    def _label(self) -> str:
        return f"{self.params.study[:12]} {self.params.purpose} {self.params.round}"


def _messages(frames: Mapping[str, bytes | memoryview], attempt: int) -> dict[str, Sequence[ToSite]]:
    """Return what each site is sent, by name; a frame that goes to many sites is cut once."""
    cut: dict[int, Sequence[ToSite]] = {}
    for frame in frames.values():
        if id(frame) not in cut:
            cut[id(frame)] = tuple(pieces(frame, attempt, ToSite))
    return {name: cut[id(frame)] for name, frame in frames.items()}


def _check_fruitless(attempts: int) -> None:
    if attempts == FRUITLESS_ATTEMPTS:
        raise _Failed(Reason.TOO_MANY_ATTEMPTS)

"""The thread that takes part in a session of secure sums while the caller trains.

1. Open a stream and send a Hello with this site's position.
2. At Begin, compare the attempt with the session and with what this site has sent (:mod:`dura_common.sums.attempts`).
   Then make fresh keys. A vector that left under masks is never sent again; the caller is asked for another draw.
3. Carry frames between the coordinator and the secure aggregation. Send the caller's vector when it is ready.
4. If the stream is lost, erase the attempt's secrets. Return to 1 until the time for it is over.
5. After all sums, end the stream.

There is one inbox, and one thread decides. The caller and the network only fill the inbox. A vector stays in memory
until its sum is opened. A process that has died never sends its vector again.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from dura_client.sums.link import Ended, Endpoint, Event, Frame, Link, Lost
from dura_client.sums.ports import Peers
from dura_common.errors import DuraError, HostError, TrustError
from dura_common.messages.proto.aggregation_pb2 import Begin, Hello, Reason
from dura_common.secagg import Opened, Site, max_frame, open_site
from dura_common.sums.attempts import Attempt, LastSum, Position, Series, attempt_parameters
from dura_common.sums.plane import bind

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 1_000
"""Of one session; the coordinator gives up long before. A bound on what a hostile one can ask for."""
SERVED_SECONDS = 5.0
"""A stream that lived so long was let in: what refuses a stream does so at once."""
RETRY_SECONDS = (0.05, 0.2, 0.5, 1.0)
"""Between tries to reach the coordinator; the last one again and again."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long this site waits, in seconds."""

    join: float = 300.0
    """For the other sites to come."""
    step: float = 600.0
    """For the other sites' vectors, once its own was sent."""
    rejoin: float = 20.0
    """For a coordinator that is out of reach, or does not know the session: it opens sessions before it asks sites, and
    none outlives its service. A site that waited longer would answer no other request meanwhile."""


@dataclass(frozen=True, slots=True)
class Redraw:
    """This site has sent a vector whose sum is lost. Another vector is needed, and must be paid for again."""

    step: int
    """As in the session's parameters."""
    draw: int
    members: tuple[str, ...]
    """The sites whose vectors the new sum will contain."""


class Wanted:
    """The members have verified each other: the first vector has its place now."""


class SumFailed(HostError):
    """The session ended before all its sums were opened.

    Attributes:
        word: the reason, a name of ``Reason`` in aggregation.proto.
    """

    code = "aggregation"

    def __init__(self, word: str, message: str) -> None:
        super().__init__(
            message, hint="Everything that was sent counts as spent. The coordinator may begin a new session."
        )
        self.word = word


Answer = Opened | Redraw | Wanted | DuraError


@dataclass(frozen=True, slots=True)
class _Vector:
    opened: int
    values: NDArray[np.signedinteger] = field(repr=False)
    """In the clear: shown in no representation."""


class _Close:
    """The caller leaves."""


class Driver(threading.Thread):
    """See the module; ``answers`` is what the caller reads."""

    def __init__(self, endpoint: Endpoint, series: Series, patience: Patience, peers: Peers | None = None) -> None:
        super().__init__(name="dura-sums", daemon=True)
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._endpoint = endpoint
        self._series = series
        self._params = series.params
        self._patience = patience
        self._peers = peers
        self._inbox: queue.SimpleQueue[tuple[Link, Event] | _Vector | _Close] = queue.SimpleQueue()
        self._limit = max_frame(series.params)
        self._link: Link | None = None
        self._position = Position(opened=0)
        self._pending: NDArray[np.signedinteger] | None = None
        self._last: LastSum | None = None
        self._attempt: Attempt | None = None
        self._number = 0
        """Of the last attempt that began."""
        self._machine: Site | None = None
        self._ready = self._wanted = False
        self._tries = 0
        self._connected = self._away = time.monotonic()
        """When the present stream was opened, and since when none has served."""
        self._deadline = time.monotonic() + patience.join

    def give(self, opened: int, values: NDArray[np.signedinteger]) -> None:
        """Provide the vector of the step after ``opened`` sums."""
        self._inbox.put(_Vector(opened, values))

    def finish(self) -> None:
        """End the session from here if it still runs."""
        self._inbox.put(_Close())

    def run(self) -> None:
        """Take part until all sums are seen; a failure is the last answer."""
        word = Reason.SITE_FAULT
        try:
            word = self._take_part()
        except DuraError as error:
            log.warning("the secure sum ended here: %s", error.message)
            word = Reason.PROTOCOL if isinstance(error, TrustError) else Reason.CANCELLED
            self.answers.put(error)
        except Exception:  # the boundary of the thread: its caller waits for an answer
            log.exception("the secure sum failed inside the site")
            self.answers.put(SumFailed("SITE_FAULT", "the secure sum failed inside the site; its log says more"))
        finally:
            self._forget_attempt()
            self._pending = None
            if self._link is not None:
                self._link.close(word)

    def _take_part(self) -> Reason:
        self._connect()  # step 1
        while self._position.opened < self._series.sums:
            event = self._next()
            if isinstance(event, _Close):
                return Reason.CANCELLED
            if isinstance(event, _Vector):
                if event.opened == self._position.opened:
                    self._pending = event.values
                    self._send()
            else:
                self._handle(event)
        return Reason.FINISHED  # step 5

    def _handle(self, event: Event) -> None:
        if isinstance(event, Begin):
            self._begin(event)
        elif isinstance(event, Frame):
            self._frame(event)
        elif isinstance(event, Ended):
            self._ended(event.reason)
        else:
            self._lost(event)

    def _connect(self) -> None:
        endpoint, position = self._endpoint, self._position
        self._connected = time.monotonic()
        hello = Hello(
            binding=bind(endpoint.identity, endpoint.certificate_der()),
            session=self._series.key,
            opened=position.opened,
            draw=position.draw,
            sent=position.sent,
        )
        self._link = Link(endpoint, hello, limit=self._limit, inbox=self._inbox)

    def _begin(self, begin: Begin) -> None:  # step 2
        self._forget_attempt()
        attempt = Attempt(begin.attempt, tuple(begin.members), begin.opened, begin.draw)
        if not self._number < attempt.number <= MAX_ATTEMPTS:
            raise TrustError(f"expected an attempt after {self._number}, got {attempt.number}")
        if attempt.opened != self._position.opened:
            raise TrustError(
                f"this site has seen {self._position.opened} sums, the attempt begins after {attempt.opened}"
            )
        if list(attempt.members) != sorted(set(attempt.members)) or self._endpoint.site not in attempt.members:
            raise TrustError("the members of the attempt are not a sorted list with this site in it")
        self._number, self._attempt, self._tries = attempt.number, attempt, 0
        self._wait(self._patience.step)
        self._enter(attempt)

    def _enter(self, attempt: Attempt) -> None:
        """Begin the secure aggregation of an attempt, after deciding what may be sent in it."""
        position = self._position
        if attempt.draw < position.draw + position.sent:
            raise TrustError(f"expected a draw from {position.draw + position.sent} on, got {attempt.draw}")
        if position.sent:
            self._pending = None
            self.answers.put(Redraw(self._params.first_step + attempt.opened, attempt.draw, attempt.members))
        self._position = Position(position.opened, attempt.draw)
        try:
            params = attempt_parameters(self._series, attempt, self._last)
        except ValueError as error:
            raise TrustError(f"the attempt does not fit the session: {error}") from error
        peers, site, identity = self._peers, self._endpoint.site, self._endpoint.identity
        if peers is None:
            self._machine = open_site(params, site, identity)
        else:
            self._machine = open_site(
                params, site, identity, peers.note(params.names), partial(peers.heard, params.names)
            )
        self._transmit(self._machine.advertise())

    def _frame(self, frame: Frame) -> None:  # step 3
        attempt = self._attempt
        if attempt is None or frame.attempt != attempt.number:
            raise TrustError("a frame came that belongs to no attempt of this site")
        if self._machine is None:
            raise TrustError("a frame came before its attempt")
        reaction = self._machine.receive(frame.content)
        self._wait(self._patience.step)
        if reaction.reply is not None:
            self._transmit(reaction.reply)
        if reaction.opened is not None:
            self._opened(reaction.opened)
        self._ready = reaction.ready
        if self._ready and not self._wanted:
            self._wanted = True
            self.answers.put(Wanted())
        self._send()

    def _opened(self, opened: Opened) -> None:
        self._last = LastSum(opened.total, opened.contributors)
        self._position = Position(self._position.opened + 1)
        self._pending = None
        self.answers.put(opened)

    def _send(self) -> None:
        """Send the caller's vector if it is there and has its place now."""
        if self._machine is None or self._attempt is None or not self._ready or self._pending is None:
            return
        frame = self._machine.mask(self._pending)
        self._ready = False
        position = self._position
        # Recorded before the first byte leaves: from here on, the vector counts as sent, even if the connection fails.
        self._position = Position(position.opened, position.draw, sent=True)
        self._wait(self._patience.step)
        self._transmit(frame)

    def _transmit(self, frame: bytes | memoryview) -> None:
        if self._link is not None and self._attempt is not None:
            self._link.send(self._attempt.number, frame)

    def _ended(self, reason: Reason) -> None:
        word = Reason.Name(reason) if reason in Reason.values() else "PROTOCOL"
        if reason == Reason.UNKNOWN_SESSION and self._number == 0:
            self._lost(Lost("the coordinator knows no such session", refused=False), word)
        elif reason == Reason.REVOKED:
            raise TrustError("the coordinator has removed this site from the roster")
        else:
            raise SumFailed(word, f"the coordinator ended the secure sum ({word.lower().replace('_', ' ')})")

    def _lost(self, lost: Lost, word: str = "TOO_LATE") -> None:  # step 4
        """Go back to step 1 for as long as patience lasts.

        Raises:
            TrustError: the coordinator does not admit this site.
            SumFailed: the time for waiting is over.
        """
        if lost.refused:
            raise TrustError(
                f"the coordinator does not admit this site: {lost.why}",
                hint="Is the site on the current roster with these keys? The coordinator's log gives the reason.",
            )
        now = time.monotonic()
        if self._attempt is not None or now - self._connected > SERVED_SECONDS:
            self._away = now
            self._wait(self._patience.join)
        if self._tries == 0:
            log.warning("the connection to the coordinator: %s", lost.why)
        self._forget_attempt()
        if self._link is not None:
            self._link.drop()
            self._link = None
        if now - self._away > self._patience.rejoin:
            raise SumFailed(word, lost.why if word == "UNKNOWN_SESSION" else self._impatience())

    def _forget_attempt(self) -> None:
        if self._machine is not None and not self._machine.ended:
            self._machine.leave()  # erases its secrets
        self._machine, self._attempt, self._ready = None, None, False

    def _wait(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds

    def _next(self) -> Event | _Vector | _Close:
        """Return the next event of the caller or of the present stream; opens a stream if there is none.

        Raises:
            SumFailed: the time for waiting is over.
        """
        retry = time.monotonic() + RETRY_SECONDS[min(self._tries, len(RETRY_SECONDS) - 1)]
        while True:
            item = self._take(retry if self._link is None else None)
            if item is None:
                self._tries += 1
                self._connect()
            elif not isinstance(item, tuple):
                return item
            else:
                item[0].taken()
                if item[0] is self._link:
                    return item[1]

    def _take(self, retry: float | None) -> tuple[Link, Event] | _Vector | _Close | None:
        """Return the next item of the inbox, or None if it is time to connect again."""
        mine = (
            self._ready and self._link is not None
        )  # the coordinator waits for this site's caller and limits the time
        ends = [limit for limit in (retry, None if mine else self._deadline) if limit is not None]
        try:
            return self._inbox.get(timeout=max(min(ends) - time.monotonic(), 0.0) if ends else None)
        except queue.Empty:
            if time.monotonic() >= self._deadline and not mine:
                raise SumFailed("TOO_LATE", self._impatience()) from None
            return None

    def _impatience(self) -> str:
        if self._link is None:
            return "the coordinator's aggregation service could not be reached for too long"
        if self._attempt is None:
            return "the other sites did not come to the secure sum in time"
        return "the secure sum did not continue in time"

"""The aggregation plane in memory: the real protocol between real sites, with threads in place of a network."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dura_client.node.service import SiteService
from dura_client.sums.ports import Part
from dura_client.sums.session import SumFailed
from dura_common.errors import HostError
from dura_common.messages import Refusal, Reply, Request, decode_reply, encode
from dura_common.secagg import Abort, Opened, Reason, SessionParameters, open_coordinator, open_site
from dura_server.home import CoordinatorHome
from dura_server.rounds.ports import Vector
from dura_server.sums.kept import Kept, SumLog
from dura_server.sums.ports import Lost

PATIENCE = 30.0


@dataclass
class Hub:
    """Where sites and the coordinator meet; one session at a time for each set of parameters."""

    home: CoordinatorHome
    """Where opened sums are kept before anybody hears of them."""
    killed: dict[tuple[str, int], str] = field(default_factory=dict)
    """(site, step) to how a site is lost when it is about to send that step's vector; taken out when it happens."""
    watch: Callable[[str, SessionParameters, int], None] = lambda _stage, _params, _step: None
    """Called with ``opened``, ``kept`` and ``told`` for every sum; what it raises ends the coordinator there."""
    _meetings: dict[bytes, _Meeting] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def meeting(self, params: SessionParameters) -> _Meeting:
        """Return the meeting of a session, the same for everybody with the same parameters."""
        with self._lock:
            return self._meetings.setdefault(params.session_id, _Meeting(params, self))

    def forget(self, params: SessionParameters) -> None:
        """Let the next one with these parameters meet anew."""
        with self._lock:
            self._meetings.pop(params.session_id, None)

    @contextmanager
    def run(self, params: SessionParameters, *, stop: Callable[[], bool]) -> Iterator[Iterator[Opened]]:
        """Play the coordinator of one session."""
        yield self.meeting(params).sums(stop)

    def way_of(self, name: str, identity: Ed25519PrivateKey) -> SiteWay:
        """Return one site's way into sums."""
        return SiteWay(self, name, identity)


class _Meeting:
    def __init__(self, params: SessionParameters, hub: Hub) -> None:
        self.params = params
        self.hub = hub
        self.kept = SumLog.of(hub.home, params.study)
        self.up: queue.Queue[tuple[str, bytes | None]] = queue.Queue()
        self.down: dict[str, queue.Queue[bytes | None]] = {name: queue.Queue() for name in params.names}
        """Frames for each site; None is the end of the stream, as when the aggregation plane ends a session."""

    @staticmethod
    def _check(stop: Callable[[], bool], deadline: float) -> None:
        if stop() or time.monotonic() > deadline:
            raise Abort(Reason.LOST, "sites refused or did not come")

    def sums(self, stop: Callable[[], bool]) -> Iterator[Opened]:
        """Yield what is opened."""
        coordinator = open_coordinator(self.params)
        deadline = time.monotonic() + PATIENCE
        try:
            while not coordinator.ended:
                self._check(stop, deadline)
                try:
                    name, frame = self.up.get(timeout=0.05)
                except queue.Empty:
                    continue
                progress = coordinator.lost(name) if frame is None else coordinator.receive(name, frame)
                opened = progress.opened
                if opened is not None:
                    self.hub.watch("opened", self.params, opened.step)
                    self.kept.append(self.params.purpose, self.params.round, Kept.of(self.params.attempt, opened))
                    self.hub.watch("kept", self.params, opened.step)
                for receiver, outgoing in progress.outgoing.items():
                    self.down[receiver].put(bytes(outgoing))
                if opened is not None:
                    self.hub.watch("told", self.params, opened.step)
                    yield opened
        except Abort as abort:
            self._part()
            raise Lost(abort.message, (abort.site,) if abort.site else ()) from abort
        except BaseException:  # the coordinator died, or the run left the session: sites notice at once
            self._part()
            raise

    def _part(self) -> None:
        for frames in self.down.values():
            frames.put(None)


@dataclass
class SiteWay:
    """One site's way into sums (see :class:`dura_client.sums.ports.Sums`)."""

    hub: Hub
    name: str
    identity: Ed25519PrivateKey

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take part in one session to its end."""
        meeting = self.hub.meeting(params)
        note, heard = part.peers.note(params.names), partial(part.peers.heard, params.names)
        site = open_site(params, self.name, self.identity, note, heard)
        step = params.first_step
        meeting.up.put((self.name, site.advertise()))
        while not site.ended:
            try:
                frame = meeting.down[self.name].get(timeout=PATIENCE)
            except queue.Empty:
                raise HostError("the coordinator does not answer") from None
            if frame is None:
                site.leave()
                raise SumFailed("LOST", "the coordinator ended the secure sum")
            reaction = site.receive(frame)
            if reaction.opened is not None:
                part.opened(reaction.opened)
                step = reaction.opened.step + 1
            if reaction.reply is not None:
                meeting.up.put((self.name, reaction.reply))
            if reaction.ready:
                vector = part.draw(step)
                if self.hub.killed.pop((self.name, step), None):
                    meeting.up.put((self.name, None))
                    raise HostError("this site was lost")
                meeting.up.put((self.name, bytes(site.mask(vector))))


@dataclass
class MemorySites:
    """Sites in threads: every message is encoded and decoded as on the wire."""

    services: Mapping[str, SiteService]
    asked: list[tuple[str, Request]] = field(default_factory=list)

    def ask(self, names: tuple[str, ...], request: Request, vector: Vector | None) -> MemoryReplies:
        """Ask each named site in a thread of its own."""
        pool = ThreadPoolExecutor(len(names))
        self.asked += [(name, request) for name in names]
        futures = {
            name: pool.submit(self.services[name].answer, encode(request), None if vector is None else vector.copy())
            for name in names
        }
        pool.shutdown(wait=False)
        return MemoryReplies(futures)


@dataclass
class MemoryReplies:
    """Futures as replies."""

    futures: dict[str, Future[Reply]]

    def refused(self) -> int:
        """Count refusals so far."""
        return sum(isinstance(f.result(), Refusal) for f in self.futures.values() if f.done())

    def absent(self) -> frozenset[str]:
        """Nobody is: threads are always there."""
        return frozenset()

    def collect(self, seconds: float, *, but: Collection[str] = ()) -> dict[str, Reply | None]:
        """Wait for all but some."""
        wait([future for name, future in self.futures.items() if name not in but], timeout=seconds)
        return {
            name: decode_reply(encode(future.result())) if future.done() else None
            for name, future in self.futures.items()
        }

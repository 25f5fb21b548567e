"""The site's way into secure sums: one outbound stream a session, mutual TLS 1.3, the protocol's frames in pieces.

Everything that this module decides is when to stop waiting; what a frame may say is judged by the protocol.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import grpc
from cryptography.hazmat.primitives.serialization import Encoding

from dura_client.enrolment import Consortium, load_consortium
from dura_client.home import SiteHome
from dura_client.keys import SiteKeys
from dura_client.parts import Part, SumLost
from dura_client.settings import load_settings
from dura_common.errors import InputError, StateError
from dura_common.identity import load_certificate, private_pem
from dura_common.plane import SITE_OPTIONS, Assembler, bind, pieces
from dura_common.proto.aggregation_pb2 import FromSite, Hello, ToSite
from dura_common.proto.aggregation_pb2 import Reason as EndReason
from dura_common.proto.aggregation_pb2_grpc import AggregationStub
from dura_common.runtime.files import read_limited
from dura_common.secagg import SessionParameters, Site, max_frame, open_site

log = logging.getLogger(__name__)

WAIT_SECONDS = 3600.0
"""Longest wait for the others: their training in one stage. A frozen or dead coordinator is noticed in seconds."""


class PlaneSums:
    """See :class:`dura_client.parts.Sums`.

    Args:
        home: the site's folder.
        clock: returns the present time (UTC); tests set it.
        wait_seconds: longest wait for one frame.
    """

    def __init__(
        self,
        home: SiteHome,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        self._home = home
        self._clock = clock
        self._wait = wait_seconds

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Take part in one session to its end.

        Raises:
            Abort: the protocol's checks failed, or the coordinator ended the session.
            SumLost: the stream broke, or the others did not come.
            DuraError: a draw was refused.
        """
        keys, name = SiteKeys(self._home), load_settings(self._home).name
        site = open_site(params, name, keys.identity())
        consortium = load_consortium(self._home, self._clock())
        with self._channel(consortium, keys) as channel:
            stub = AggregationStub(channel)  # type: ignore[no-untyped-call]  # generated
            stream = _Stream(stub, max_frame(params), self._wait)
            try:
                stream.greet(bind(keys.identity(), self._certificate()), params.session_id)
                _follow(site, part, stream, params.first_step)
            finally:
                if not site.ended:
                    stream.send(site.leave())
                stream.close()

    def _channel(self, consortium: Consortium, keys: SiteKeys) -> grpc.Channel:
        address = consortium.roster.aggregation
        if address is None:
            raise StateError(
                "the roster names no aggregation service",
                hint="The coordinator renews the roster; then join again with the new admission.",
            )
        credentials = grpc.ssl_channel_credentials(
            root_certificates=read_limited(consortium.authority_file, what="the authority's certificate"),
            private_key=private_pem(keys.tls()),
            certificate_chain=self._certificate_pem(),
        )
        return grpc.secure_channel(address, credentials, options=SITE_OPTIONS)

    def _certificate_pem(self) -> bytes:
        return read_limited(self._home.consortium / "certificate.pem", what="the site's certificate")

    def _certificate(self) -> bytes:
        return load_certificate(self._certificate_pem()).public_bytes(Encoding.DER)


def _follow(site: Site, part: Part, stream: _Stream, first_step: int) -> None:
    """Answer frames until the session is over."""
    step = first_step
    stream.send(site.advertise())
    while not site.ended:
        reaction = site.receive(stream.receive())
        if reaction.opened is not None:
            part.opened(reaction.opened)
            step = reaction.opened.step + 1
        if reaction.reply is not None:
            if site.releasing:
                part.releasing()
            stream.send(reaction.reply)
        if reaction.ready:
            stream.send(site.mask(part.draw(step)))


class _Stream:
    """Frames over one call; a thread reads, so that a wait can have an end."""

    def __init__(self, stub: AggregationStub, limit: int, wait_seconds: float) -> None:
        self._outgoing: queue.Queue[FromSite | None] = queue.Queue()
        self._incoming: queue.Queue[bytes | Exception] = queue.Queue()
        self._wait = wait_seconds
        self._call = stub.Attend(iter(self._outgoing.get, None))
        self._assembler = Assembler(limit)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def greet(self, binding: bytes, session: bytes) -> None:
        """Say who this is and which session it wants."""
        self._outgoing.put(FromSite(hello=Hello(binding=binding, session=session)))

    def send(self, frame: bytes) -> None:
        """Send one frame."""
        for piece in pieces(frame):
            self._outgoing.put(FromSite(piece=piece))

    def receive(self) -> bytes:
        """Return the next frame.

        Raises:
            SumLost: the stream is over, or nothing came for too long.
        """
        try:
            item = self._incoming.get(timeout=self._wait)
        except queue.Empty:
            raise SumLost(f"nothing came from the aggregation service for {self._wait:g} seconds") from None
        if isinstance(item, Exception):
            raise item
        return item

    def close(self) -> None:
        """Let what was sent go out, and end the call."""
        self._outgoing.put(None)
        self._reader.join(timeout=1.0)
        self._call.cancel()

    def _read(self) -> None:
        try:
            for message in self._messages():
                frame = self._assembler.add(message.piece)
                if frame is not None:
                    self._incoming.put(frame)
        except grpc.RpcError as error:
            code = error.code()
            self._incoming.put(SumLost(f"the aggregation service is out of reach or refused ({code.name.lower()})"))
        except InputError as error:
            self._incoming.put(error)

    def _messages(self) -> Iterator[ToSite]:
        for message in self._call:
            if message.WhichOneof("kind") == "end":
                reason = EndReason.Name(message.end.reason).lower().replace("_", " ")
                self._incoming.put(SumLost(f"the aggregation service ended the stream ({reason})"))
                return
            yield message

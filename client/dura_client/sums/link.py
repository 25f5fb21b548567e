"""One stream from this site to the coordinator: mutual TLS, opened outwards, pieces in and out.

gRPC finds an HTTP CONNECT proxy by the usual variables (``https_proxy`` or ``http_proxy``, ``no_proxy``). TLS runs
through the proxy from end to end. Everything received goes to the owner's inbox, so that one thread decides.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from dura_client.consortium.enrolment import load_consortium
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.settings import load_settings
from dura_common.consortium.identity import check_issued, load_certificate
from dura_common.consortium.keyfile import private_pem
from dura_common.errors import InputError
from dura_common.messages.proto.aggregation_pb2 import Begin, FromSite, Hello, Leave, Reason, ToSite
from dura_common.messages.proto.aggregation_pb2_grpc import AggregationStub
from dura_common.runtime.files import read_limited
from dura_common.sums.plane import SITE_OPTIONS, Assembler, pieces

QUEUED_FRAMES = 8
"""Sessions run in lockstep; more frames than this never wait unless the coordinator does not read."""
WAITING_EVENTS = 4
"""Events that came and were not looked at yet. A coordinator that sends more has to wait (gRPC's flow control)."""
GOODBYE_SECONDS = 2.0


@dataclass(frozen=True, repr=False)
class Endpoint:
    """The coordinator's address, and this site's credentials; its representation shows neither."""

    site: str
    address: str
    authority: bytes
    """PEM."""
    certificate: bytes
    """PEM."""
    key: bytes
    """PEM of the TLS key."""
    identity: Ed25519PrivateKey

    @classmethod
    def of_site(cls, home: SiteHome, now: datetime, *, address: str | None = None) -> Self:
        """Read the endpoint of a site; ``address`` replaces the roster's address, for a relay that passes TLS on.

        Raises:
            StateError: the site has not joined.
            TrustError: the roster or a certificate was altered or has expired.
        """
        consortium = load_consortium(home, now)
        known = address or consortium.roster.aggregation
        authority, clients = consortium.roster.authority.encode(), consortium.roster.clients.encode()
        certificate = read_limited(home.consortium / "certificate.pem", what="the site's certificate")
        check_issued(load_certificate(certificate), load_certificate(clients), now)
        keys = SiteKeys(home)
        name = load_settings(home).name
        return cls(name, known, authority, certificate, private_pem(keys.tls()), keys.identity())

    def certificate_der(self) -> bytes:
        """Return the certificate as TLS shows it."""
        return load_certificate(self.certificate).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Frame:
    """A whole frame has arrived."""

    attempt: int
    content: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ended:
    """The coordinator has sent its last message."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Lost:
    """The stream broke; ``refused`` if the coordinator does not let this site in."""

    why: str
    refused: bool


Event = Begin | Frame | Ended | Lost


class Link:
    """One stream; its events come as (link, event) through ``inbox``, whose owner says :meth:`taken` for each.

    Args:
        endpoint: the address and the credentials.
        hello: the first message.
        limit: largest frame in bytes that may come.
        inbox: of the owner.
    """

    def __init__(self, endpoint: Endpoint, hello: Hello, *, limit: int, inbox: queue.SimpleQueue[Any]) -> None:
        credentials = grpc.ssl_channel_credentials(endpoint.authority, endpoint.key, endpoint.certificate)
        self._channel = grpc.secure_channel(endpoint.address, credentials, SITE_OPTIONS)
        self._assembler = Assembler(limit)
        self._inbox = inbox
        self._room = threading.Semaphore(WAITING_EVENTS)
        self._dropped = False
        self._outgoing: queue.SimpleQueue[Iterator[FromSite] | None] = queue.SimpleQueue()
        self._outgoing.put(iter([FromSite(hello=hello)]))
        self._call = AggregationStub(self._channel).Attend(self._messages())
        self._reader = threading.Thread(target=self._read, name="dura-sums-reader", daemon=True)
        self._reader.start()

    def send(self, attempt: int, frame: bytes | memoryview) -> None:
        """Send one frame; never waits.

        Raises:
            InputError: the coordinator lets frames wait.
        """
        if self._outgoing.qsize() >= QUEUED_FRAMES:
            raise InputError("the coordinator does not read what this site sends")
        self._outgoing.put(pieces(frame, attempt, FromSite))

    def taken(self) -> None:
        """Let one more event come."""
        self._room.release()

    def close(self, reason: Reason) -> None:
        """Send a goodbye, wait a moment for its arrival, and close."""
        self._outgoing.put(iter([FromSite(leave=Leave(reason=reason))]))
        self._outgoing.put(None)
        self._reader.join(GOODBYE_SECONDS)
        self.drop()

    def drop(self) -> None:
        """Close without a message."""
        self._dropped = True
        self._room.release()  # the reader may wait for room, and nobody makes any more
        self._call.cancel()
        self._channel.close()
        self._outgoing.put(None)  # gRPC's thread may wait for one more

    def _messages(self) -> Iterator[FromSite]:
        while (messages := self._outgoing.get()) is not None:
            yield from messages

    def _read(self) -> None:
        """Put everything that arrives into the inbox; the last event is Ended or Lost."""
        try:
            for message in self._call:
                event = self._event(message)
                if event is not None:
                    self._room.acquire()
                    if self._dropped:
                        return
                    self._inbox.put((self, event))
                if isinstance(event, Ended):
                    return
            lost = Lost("the coordinator closed the stream", refused=False)
        except InputError as error:
            lost = Lost(error.message, refused=False)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            refused = code in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
            details = error.details() if isinstance(error, grpc.Call) else ""
            lost = Lost(f"{getattr(code, 'name', 'broken')}: {details}"[:300], refused=refused)
        self._inbox.put((self, lost))

    def _event(self, message: ToSite) -> Event | None:
        kind = message.WhichOneof("kind")
        if kind == "begin":
            return message.begin
        if kind == "end":
            return Ended(message.end.reason)
        if kind != "piece":
            raise InputError("the coordinator sent a message of an unknown kind")
        content = self._assembler.add(message.piece)
        return None if content is None else Frame(message.piece.attempt, content)

"""A site's stream without the site: raw messages to the real service, for attacks and for sites that die half-way."""

from __future__ import annotations

import queue
import time
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.plane.service import Plane

from dura_client.site.keys import SiteKeys
from dura_common.consortium.identity import load_certificate
from dura_common.consortium.keyfile import private_pem
from dura_common.messages.proto.aggregation_pb2 import FromSite, Hello, ToSite
from dura_common.messages.proto.aggregation_pb2_grpc import AggregationStub
from dura_common.secagg import SessionParameters, open_site
from dura_common.sums.attempts import Attempt, Series, attempt_parameters
from dura_common.sums.plane import SITE_OPTIONS, bind, pieces


def own(plane: Plane, name: str) -> tuple[bytes, bytes]:
    """Return a site's real (key, certificate)."""
    home = plane.site(name)
    return private_pem(SiteKeys(home).tls()), (home.consortium / "certificate.pem").read_bytes()


class Stream:
    """A stream whose other end is the real service: raw messages in and out."""

    def __init__(self, plane: Plane, pair: tuple[bytes, bytes] | None, *, authority: bytes | None = None) -> None:
        trust = authority or (plane.coordinator.keys / "authority.pem").read_bytes()
        key, certificate = pair or (None, None)
        credentials = grpc.ssl_channel_credentials(trust, key, certificate)
        self.certificate = certificate
        options = [*SITE_OPTIONS, ("grpc.max_send_message_length", 2**30)]
        self.channel = grpc.secure_channel(f"127.0.0.1:{plane.port}", credentials, options)
        self.outgoing: queue.Queue[FromSite | None] = queue.Queue()
        self.call = AggregationStub(self.channel).Attend(iter(self.outgoing.get, None), timeout=30)

    def hello(self, params: SessionParameters, identity: Ed25519PrivateKey, **changes: Any) -> None:
        """Send a Hello that is honest but for the changes."""
        assert self.certificate is not None
        der = load_certificate(self.certificate).public_bytes(Encoding.DER)
        values = {"binding": bind(identity, der), "session": Series.of(params).key, **changes}
        self.outgoing.put(FromSite(hello=Hello(**values)))

    def answer(self) -> ToSite:
        """Return the next message of the service."""
        message: ToSite = next(self.call)
        return message

    def frame(self, attempt: int, content: bytes | memoryview) -> None:
        """Send one frame."""
        for message in pieces(content, attempt, FromSite):
            self.outgoing.put(message)

    def refusal(self) -> grpc.StatusCode:
        """Return how gRPC says that the stream was refused."""
        with pytest.raises(grpc.RpcError, match="status = StatusCode") as caught:
            next(self.call)
        code: grpc.StatusCode = caught.value.code()
        return code

    def close(self) -> None:
        """End the stream."""
        self.outgoing.put(None)
        self.call.cancel()
        self.channel.close()


def identity_of(plane: Plane, name: str) -> Ed25519PrivateKey:
    """Return a site's identity key."""
    return SiteKeys(plane.site(name)).identity()


def die_after(plane: Plane, name: str, series: Series, frames: int, vector: Any) -> None:
    """Be an honest site of one attempt that vanishes after it has sent so many frames."""
    made = Stream(plane, own(plane, name))
    made.hello(series.params, identity_of(plane, name), session=series.key)
    begin = made.answer().begin
    attempt = Attempt(begin.attempt, tuple(begin.members), begin.opened, begin.draw)
    machine = open_site(attempt_parameters(series, attempt, None), name, identity_of(plane, name))
    if frames:
        made.frame(attempt.number, machine.advertise())
    for _ in range(frames - 1):
        reaction = machine.receive(made.answer().piece.data)
        made.frame(attempt.number, machine.mask(vector) if reaction.ready else reaction.reply or b"")
    time.sleep(0.3)  # what was sent has left before the connection goes
    made.close()

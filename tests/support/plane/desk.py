"""A question at the desk without the desk: raw messages to the real service, for attacks."""

from __future__ import annotations

import queue
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.plane.service import Plane

from dura_common.consortium.identity import load_certificate
from dura_common.consortium.keyfile import private_pem
from dura_common.messages.proto.desk_pb2 import FromDesk, ToDesk
from dura_common.messages.proto.desk_pb2_grpc import DeskStub
from dura_common.sums.plane import SITE_OPTIONS
from dura_server.desk.membership import check_admission, join
from dura_server.desk.request import Request, certificate_mark, sign_request
from dura_server.studies.researcher import ResearcherHome, create_identity

CONSORTIUM = "test"


def add_researcher(plane: Plane, name: str) -> bytes:
    """Make a researcher's folder below the plane's and return the card."""
    _, path = create_identity(ResearcherHome(plane.root / name), name, plane.now())
    return path.read_bytes()


def join_researcher(plane: Plane, name: str, folder: str | None = None) -> ResearcherHome:
    """Let an admitted researcher join."""
    home = ResearcherHome(plane.root / (folder or name))
    join(home, *check_admission(home, plane.admission(name), plane.now()))
    return home


def pair_of(home: ResearcherHome) -> tuple[bytes, bytes]:
    """Return a researcher's real (key, certificate)."""
    return private_pem(home.tls_key()), home.certificate.read_bytes()


class Question:
    """A stream whose other end is the real service: raw messages in and out."""

    def __init__(self, plane: Plane, pair: tuple[bytes, bytes] | None) -> None:
        key, certificate = pair or (None, None)
        trust = (plane.coordinator.keys / "authority.pem").read_bytes()
        self.certificate = certificate
        options = [*SITE_OPTIONS, ("grpc.max_send_message_length", 2**30)]
        self.channel = grpc.secure_channel(
            f"127.0.0.1:{plane.port}", grpc.ssl_channel_credentials(trust, key, certificate), options
        )
        self.outgoing: queue.Queue[FromDesk | None] = queue.Queue()
        self.call = DeskStub(self.channel).Ask(iter(self.outgoing.get, None), timeout=60)

    def challenge(self) -> bytes:
        """Return what the service opens with."""
        message: ToDesk = next(self.call)
        assert message.WhichOneof("kind") == "challenge"
        return bytes(message.challenge)

    def request(self, home: ResearcherHome, name: str, given: bytes, **changes: Any) -> bytes:
        """Return a signed request that is honest but for the changes."""
        assert self.certificate is not None
        der = load_certificate(self.certificate).public_bytes(Encoding.DER)
        values = {
            "consortium": CONSORTIUM,
            "researcher": name,
            "certificate": certificate_mark(der),
            "challenge": given.hex(),
            "action": "list",
            **changes,
        }
        return sign_request(Request(**values), home.identity())

    def send(self, content: bytes) -> None:
        """Send one message."""
        self.outgoing.put(FromDesk(request=content))

    def rest(self) -> list[ToDesk]:
        """Return every message up to the end."""
        return list(self.call)

    def refusal(self) -> grpc.StatusCode:
        """Return how gRPC says that the question was refused."""
        with pytest.raises(grpc.RpcError, match="status = StatusCode") as caught:
            list(self.call)
        code: grpc.StatusCode = caught.value.code()
        return code

    def close(self) -> None:
        """End the stream."""
        self.outgoing.put(None)
        self.call.cancel()
        self.channel.close()

"""Attacks on the aggregation plane from the network: who gets in, what a stream may send, how many, how slowly."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.plane import QUICK, SITES, Plane, expected, vector_of, wait_until
from tests.plane_stream import Stream, identity_of, own
from tests.support.members import agree, authority_of

from dura_client.sums.session import Patience, SumFailed, SumSession
from dura_common.consortium.identity import load_certificate, load_private, make_authority, private_pem, site_uri
from dura_common.errors import DuraError, TrustError
from dura_common.messages.proto.aggregation_pb2 import Begin, FromSite, Hello, Leave, Piece, Reason
from dura_common.messages.proto.aggregation_pb2_grpc import AggregationStub
from dura_common.secagg import SessionParameters
from dura_common.sums.plane import HELLO_BYTES, MESSAGE_BYTES, PIECE_BYTES
from dura_server.consortium import authority as at_authority
from dura_server.sums.client import open_session

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plane]:
    """Return a running service of three hospitals; after all attacks its log holds no secret and it still serves."""
    made = Plane(tmp_path_factory.mktemp("p"))
    made.make()
    made.start()
    try:
        yield made
        serves(made, 9_999)
        assert "Traceback" not in made.log
        assert "PRIVATE KEY" not in made.log
    finally:
        made.stop()


def serves(plane: Plane, number: int) -> None:
    """Check that an honest session works."""
    params = plane.params(number=number)
    with honest(plane, params):
        (opened,) = plane.run(params)
    assert np.array_equal(opened.values, expected(SITES, 1, params.length))


@contextlib.contextmanager
def honest(plane: Plane, params: SessionParameters, names: Iterable[str] = SITES) -> Iterator[None]:
    """Let honest sites take part in a session, each in a thread; an error in one of them is an error."""
    errors: list[BaseException] = []

    def take_part(name: str) -> None:
        try:
            with SumSession(plane.site(name), params) as sums:
                for step in range(1, params.steps + 1):
                    sums.step(vector_of(name, step, params.length))
        except DuraError as error:
            errors.append(error)

    threads = [threading.Thread(target=take_part, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(60)
    assert errors == []


class Forger:
    """Makes certificates with the authority's own key: what a careless or hostile authority could issue."""

    def __init__(self, plane: Plane) -> None:
        keys = authority_of(plane.coordinator)
        self.authority = load_certificate(keys.clients.read_bytes())
        key = load_private(keys.clients_key.read_bytes())
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        self.authority_key = key

    def issue(
        self,
        names: Iterable[x509.GeneralName],
        *,
        usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
        ends: datetime = NOW + timedelta(days=9),
        common_name: str = "somebody",
    ) -> tuple[bytes, bytes]:
        """Return (key, certificate) as PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = list(names)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
            .issuer_name(self.authority.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=30))
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.authority_key, hashes.SHA256())
        return private_pem(key), certificate.public_bytes(Encoding.PEM)


def uri(name: str) -> x509.UniformResourceIdentifier:
    """Return the name of a site in a certificate."""
    return x509.UniformResourceIdentifier(site_uri(name))


@contextlib.contextmanager
def stream(plane: Plane, pair: tuple[bytes, bytes] | None, **options: Any) -> Iterator[Stream]:
    """Open a stream and close it again."""
    made = Stream(plane, pair, **options)
    try:
        yield made
    finally:
        made.close()


def begun(plane: Plane, name: str, params: SessionParameters) -> tuple[Stream, Begin]:
    """Return a stream of a real site, attending a session whose attempt has begun."""
    made = Stream(plane, own(plane, name))
    made.hello(params, identity_of(plane, name))
    message = made.answer()
    assert message.WhichOneof("kind") == "begin"
    return made, message.begin


# who gets in


def test_without_a_certificate(plane: Plane) -> None:
    """TLS refuses who shows none."""
    with stream(plane, None) as made:
        assert made.refusal() == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_of_another_authority(plane: Plane) -> None:
    """TLS refuses a certificate that names a real site and was issued by somebody else."""
    forger = Forger(plane)
    forger.authority_key = ec.generate_private_key(ec.SECP256R1())
    forger.authority = make_authority(forger.authority_key, "test", NOW)
    with stream(plane, forger.issue([uri("north")])) as made:
        assert made.refusal() == grpc.StatusCode.UNAVAILABLE


def test_an_expired_certificate(plane: Plane) -> None:
    """TLS refuses a certificate whose time is over."""
    with stream(plane, Forger(plane).issue([uri("north")], ends=NOW - timedelta(hours=1))) as made:
        assert made.refusal() == grpc.StatusCode.UNAVAILABLE


def test_a_certificate_for_servers(plane: Plane) -> None:
    """TLS refuses a certificate of the right authority and name, issued for another use."""
    pair = Forger(plane).issue([uri("north")], usage=ExtendedKeyUsageOID.SERVER_AUTH)
    with stream(plane, pair) as made:
        assert made.refusal() == grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "names",
    [
        [uri("north"), uri("south")],
        [uri("north"), uri("north")],
        [uri("north"), x509.DNSName("north.example.org")],
        [x509.DNSName("north")],
        [x509.UniformResourceIdentifier("urn:dura:researcher:north")],
        [x509.UniformResourceIdentifier("URN:DURA:SITE:north")],
        [uri("")],
        [uri("north/../south")],
        [uri("west")],
        [],
    ],
    ids=["two", "twice", "uri-and-dns", "dns", "other-kind", "case", "empty", "path", "not-on-roster", "none"],
)
def test_certificates_that_name_no_site(plane: Plane, names: list[x509.GeneralName]) -> None:
    """Of the right authority, but without exactly one name of a site on the roster; the common name never counts."""
    with stream(plane, Forger(plane).issue(names, common_name="north")) as made:
        made.hello(plane.params(number=50), identity_of(plane, "north"))
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


def test_a_second_certificate_for_a_real_name(plane: Plane) -> None:
    """The authority alone cannot put somebody in a site's place: the site must have signed the certificate."""
    with stream(plane, Forger(plane).issue([uri("north")])) as made:
        made.hello(plane.params(number=51), Ed25519PrivateKey.generate())
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


def test_one_site_in_the_name_of_another(plane: Plane) -> None:
    """A member with its own certificate and another member's name: the certificate decides, so it is just itself."""
    params = plane.params(number=52)
    with open_session(plane.coordinator, params, QUICK), stream(plane, own(plane, "south")) as made:
        made.hello(params, identity_of(plane, "north"))
        assert made.refusal() == grpc.StatusCode.PERMISSION_DENIED


def test_without_tls(plane: Plane) -> None:
    """Plaintext gets no answer."""
    channel = grpc.insecure_channel(f"127.0.0.1:{plane.port}")
    with channel, pytest.raises(grpc.RpcError) as caught:
        next(AggregationStub(channel).Attend(iter([FromSite()]), timeout=5))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE


def test_older_tls(plane: Plane) -> None:
    """A site that speaks TLS 1.2 only is let in by gRPC, so the service itself refuses it."""
    home = plane.site("north")
    context = ssl.create_default_context(cafile=str(home.consortium / "authority.pem"))
    key, _ = own(plane, "north")
    (plane.root / "north.key").write_bytes(key)
    context.load_cert_chain(home.consortium / "certificate.pem", plane.root / "north.key")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    before = plane.log.count("expected TLS 1.3")
    with (
        socket.create_connection(("127.0.0.1", plane.port), timeout=5) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(open_attend())
        wait_until(lambda: plane.log.count("expected TLS 1.3") == before + 1, "it is refused", 5)


def open_attend() -> bytes:
    """Return the bytes that open an Attend stream over HTTP/2: preface, settings, headers without compression."""
    fields = (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", "/dura.aggregation.v1.Aggregation/Attend"),
        (":authority", "127.0.0.1"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    )
    block = b"".join(
        b"\x00" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode() for name, value in fields
    )
    settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
    headers = len(block).to_bytes(3, "big") + b"\x01\x04\x00\x00\x00\x01" + block
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings + headers


def test_a_hospital_that_poses_as_the_coordinator(plane: Plane) -> None:
    """A site's client refuses a server with a site's certificate, and one of another consortium, before its Hello."""
    heard: list[object] = []
    server = grpc.server(ThreadPoolExecutor(2))
    handler = grpc.stream_stream_rpc_method_handler(lambda requests, _: heard.extend(requests))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("dura.aggregation.v1.Aggregation", {"Attend": handler}),)
    )
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([own(plane, "south")]))
    server.start()
    try:
        patience = Patience(join=1.5, step=1, rejoin=1)
        options = {"patience": patience, "address": f"127.0.0.1:{port}"}
        with (
            SumSession(plane.site("north"), plane.params(), **options) as sums,
            pytest.raises(SumFailed, match=r"out of reach|did not come"),
        ):
            sums.step(vector_of("north", 1, 8))
    finally:
        server.stop(0)
    assert heard == []


def test_sessions_that_do_not_exist(plane: Plane) -> None:
    """Without the ServerApp's request there is no session, whoever asks."""
    with stream(plane, own(plane, "north")) as made:
        made.hello(plane.params(number=53), identity_of(plane, "north"))
        assert made.answer().end.reason == Reason.UNKNOWN_SESSION


def test_a_site_that_is_no_member(plane: Plane) -> None:
    """On the roster, but not in this session."""
    params = plane.params(number=54)
    members = tuple(member for member in params.members if member.name != "south")
    params = replace(params, members=members, threshold=2)
    with open_session(plane.coordinator, params, QUICK), stream(plane, own(plane, "south")) as made:
        made.hello(params, identity_of(plane, "south"))
        assert made.answer().end.reason == Reason.NOT_A_MEMBER


def test_health_needs_a_certificate_too(plane: Plane) -> None:
    """The standard health service answers an admitted site."""
    trust = (plane.coordinator.keys / "authority.pem").read_bytes()
    key, certificate = own(plane, "north")
    address = f"127.0.0.1:{plane.port}"
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(trust, key, certificate)) as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(trust)) as channel, pytest.raises(grpc.RpcError):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)


# what a stream may send


@pytest.mark.parametrize(
    "message",
    [
        FromSite(),
        FromSite(piece=Piece(attempt=1, data=b"x", last=True)),
        FromSite(leave=Leave(reason=Reason.FINISHED)),
        FromSite(hello=Hello(binding=bytes(HELLO_BYTES))),
    ],
    ids=["nothing", "piece", "leave", "too-large"],
)
def test_streams_that_begin_with_no_hello(plane: Plane, message: FromSite) -> None:
    """Only a Hello of a sensible size opens a stream."""
    with stream(plane, own(plane, "north")) as made:
        made.outgoing.put(message)
        assert made.refusal() == grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_beyond_grpcs_limit(plane: Plane) -> None:
    """No message larger than one piece is ever taken into memory."""
    with stream(plane, own(plane, "north")) as made:
        made.outgoing.put(FromSite(hello=Hello(binding=bytes(MESSAGE_BYTES))))
        assert made.refusal() == grpc.StatusCode.RESOURCE_EXHAUSTED


HOSTILE_FRAMES = {
    "oversized": [Piece(attempt=1, data=bytes(10_000), last=True)],
    "oversized-in-pieces": [Piece(attempt=1, data=bytes(PIECE_BYTES), last=False)],
    "drip": [Piece(attempt=1, data=b"x", last=False)],
    "truncated": [Piece(attempt=1, data=bytes(40), last=True)],
    "empty": [Piece(attempt=1, data=b"", last=True)],
    "garbage": [Piece(attempt=1, data=bytes(range(200)), last=True)],
}


@pytest.mark.parametrize("name", HOSTILE_FRAMES)
def test_frames_that_no_site_would_send(plane: Plane, name: str) -> None:
    """The sender is out of the session, and the others have their sum without it."""
    params = plane.params(number=100 + list(HOSTILE_FRAMES).index(name))
    others = ("east", "north")
    with honest(plane, params, others), open_session(plane.coordinator, params, QUICK) as session:
        made, _ = begun(plane, "south", params)
        for piece in HOSTILE_FRAMES[name]:
            made.outgoing.put(FromSite(piece=piece))
        (opened,) = list(session)
        made.close()
    assert opened.contributors == others
    assert np.array_equal(opened.values, expected(others, 1, params.length))


def test_a_frame_cut_off_by_a_lost_connection(plane: Plane) -> None:
    """Half a frame is nothing: its sender counts as lost, the others go on."""
    params = plane.params(number=120, length=700_000)
    others = ("east", "north")
    with honest(plane, params, others), open_session(plane.coordinator, params, QUICK) as session:
        made, _ = begun(plane, "south", params)
        made.outgoing.put(FromSite(piece=Piece(attempt=1, data=bytes(PIECE_BYTES), last=False)))
        time.sleep(0.2)
        made.call.cancel()
        made.channel.close()
        (opened,) = list(session)
    assert opened.contributors == others


@pytest.mark.full  # on a machine with no processor to spare a stream can be taken for a dead one and be replaced
def test_frames_of_another_attempt_are_ignored(plane: Plane) -> None:
    """What was on its way when an attempt ended changes nothing in the next one."""
    params = plane.params(number=121)
    with open_session(plane.coordinator, params, QUICK) as session, honest(plane, params):
        made = Stream(plane, own(plane, "north"))
        made.hello(params, identity_of(plane, "north"))
        with contextlib.suppress(StopIteration, grpc.RpcError):
            for _ in range(50):
                made.outgoing.put(FromSite(piece=Piece(attempt=77, data=b"late", last=True)))
            made.answer()
        made.close()
        (opened,) = list(session)
    assert opened.contributors == SITES


# how many and how slowly


def test_a_flood_of_streams(plane: Plane) -> None:
    """One site can hold four streams; the rest are refused, and the other sites notice nothing."""
    params = plane.params(number=130)
    with open_session(plane.coordinator, params, QUICK):
        streams = [Stream(plane, own(plane, "north")) for _ in range(30)]
        try:
            wait_until(lambda: sum(made.call.done() for made in streams) >= 26, "most are refused", 4)
            assert {made.call.code() for made in streams if made.call.done()} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            names = ("east", "south")
            other = replace(params, round=131, threshold=2, members=tuple(m for m in params.members if m.name in names))
            with honest(plane, other, names):
                (opened,) = plane.run(other)
            assert opened.contributors == names
        finally:
            for made in streams:
                made.close()


def test_a_stream_that_says_nothing(plane: Plane) -> None:
    """A site that opens a stream and sends no Hello is sent away after five seconds."""
    with stream(plane, own(plane, "north")) as made:
        begin = time.monotonic()
        assert made.refusal() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert time.monotonic() - begin < 8


def test_connections_that_never_get_through_tls(plane: Plane) -> None:
    """A hundred half-open connections are closed within seconds, and an honest session runs meanwhile."""
    idle = [socket.create_connection(("127.0.0.1", plane.port), timeout=20) for _ in range(100)]
    begin = time.monotonic()
    try:
        serves(plane, 140)
        for connection in idle:
            with contextlib.suppress(ConnectionResetError):
                while connection.recv(4096):
                    pass
        assert time.monotonic() - begin < 15
    finally:
        for connection in idle:
            connection.close()


def test_a_stream_that_never_answers(plane: Plane) -> None:
    """A member that attends and then sends nothing is out when the time of the stage is over."""
    params, others = plane.params(number=150), ("east", "north")
    timing = replace(QUICK, step=1.0)
    with honest(plane, params, others), open_session(plane.coordinator, params, timing) as session:
        made, _ = begun(plane, "south", params)
        (opened,) = list(session)
        assert made.answer().end.reason == Reason.TOO_LATE
        made.close()
    assert opened.contributors == others


# who leaves


def test_revoked_in_the_middle(tmp_path: Path) -> None:
    """A site that is taken off the roster loses its stream within seconds and is not admitted again."""
    made = Plane(tmp_path)
    made.make()
    made.start()
    try:
        params = made.params(steps=400)
        with open_session(made.coordinator, params, QUICK) as session:
            for name in SITES:
                made.start_site(name, params, pause=0.02)
            sums = iter(session)
            for _ in range(5):
                assert next(sums).contributors == SITES
            at_authority.remove(authority_of(made.coordinator), "south", datetime.now(UTC))
            agree(made.coordinator, [made.site(name) for name in SITES if name != "south"])
            begin = time.monotonic()
            wait_until(lambda: made.sites["south"].poll() is not None, "south is out", 8)
            assert time.monotonic() - begin < 8
            assert next(opened for opened in sums if opened.contributors != SITES).contributors == ("east", "north")
        assert "off the roster" in (tmp_path / "south.log").read_text()
        with SumSession(made.site("south"), params) as again, pytest.raises(TrustError, match="does not admit"):
            again.step(vector_of("south", 1, params.length))
    finally:
        made.stop()


def test_two_services_never_share_the_port(plane: Plane) -> None:
    """A second service on the same port fails to start instead of taking half of the sites."""
    other = Plane(plane.root / "other", port=plane.port)
    other.root.mkdir()
    other.make()
    command = [sys.executable, "-m", "dura_server.services.aggregator", str(other.coordinator.path)]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert b"cannot be used" in ended.stderr

"""Attacks on the aggregation plane from the network: who gets in."""

from __future__ import annotations

import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import ExtendedKeyUsageOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.attacks.plane.intruders import NOW, Forger, stream, uri
from tests.support.plane.service import QUICK, Plane, vector_of
from tests.support.plane.stream import identity_of, own
from tests.support.processes import wait_until

from dura_client.sums.session import Patience, SumFailed, SumSession
from dura_common.consortium.identity import make_authority
from dura_common.messages.proto.aggregation_pb2 import FromSite, Reason
from dura_common.messages.proto.aggregation_pb2_grpc import AggregationStub
from dura_server.sums.client import open_session


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
    with channel, pytest.raises(grpc.RpcError, match="UNAVAILABLE") as caught:
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
            pytest.raises(SumFailed, match=r"could not be reached|did not come"),
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
    with (
        grpc.secure_channel(address, grpc.ssl_channel_credentials(trust)) as channel,
        pytest.raises(grpc.RpcError, match="UNAVAILABLE"),
    ):
        health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)

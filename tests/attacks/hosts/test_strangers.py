"""Strangers at the gateway of a real coordinator: what they can make it keep, and whether members get through."""

from __future__ import annotations

import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from tests.attacks.hosts.probes import ProbedConsortium
from tests.support.processes import children, wait_until

from dura_client.site.keys import SiteKeys
from dura_server.services.doorkeeper import EACH, SECONDS, STRANGERS
from dura_server.services.gateway import MAX_HEAD_BYTES, MAX_REQUEST_BYTES

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(300)]

MIB = 1 << 20
PULL = b"POST /v1/fleet/pull-messages HTTP/1.1\r\nHost: x\r\n"
ACCEPTED = (200, 400, 422)
"""The SuperLink's answers to a signed request with a body that means nothing: it has got through."""
ESTABLISHED = "01"
BLIND = ssl.create_default_context()
BLIND.check_hostname, BLIND.verify_mode = False, ssl.CERT_NONE


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProbedConsortium]:
    """Return a running coordinator; the member of the tests speaks by itself."""
    consortium = ProbedConsortium(tmp_path_factory.mktemp("strangers"), ("north", "east"))
    consortium.make_all()
    try:
        consortium.start_coordinator()
        yield consortium
    finally:
        consortium.stop()


def memory(made: ProbedConsortium, name: str) -> int:
    """Return the resident memory of one of the coordinator's processes, in MiB."""
    process = children(made.coordinator.run)[name]["pid"]
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * 4096 // MIB


def held(made: ProbedConsortium) -> int:
    """Return how many connections to its public port the gateway holds open."""
    process = children(made.coordinator.run)["gateway"]["pid"]
    sockets = set()
    for link in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            sockets.add(str(link.readlink()))
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = f":{made.settings.port:04X}"
    return sum(
        fields[1].endswith(port) and fields[3] == ESTABLISHED and f"socket:[{fields[9]}]" in sockets for fields in lines
    )


@contextmanager
def connections(made: ProbedConsortium, count: int, *, tls: bool) -> Iterator[list[socket.socket]]:
    """Open many connections; a part of them may have been closed from the other side already."""
    with ExitStack() as stack:
        opened = []
        for _ in range(count):
            raw = stack.enter_context(socket.create_connection(("127.0.0.1", made.settings.port), timeout=10))
            with suppress(OSError):
                opened.append(stack.enter_context(BLIND.wrap_socket(raw)) if tls else raw)
        yield opened


def signed(key: ec.EllipticCurvePrivateKey, *, ago: timedelta = timedelta(0)) -> dict[str, str]:
    """Return the headers by which Flower's node says who it is."""
    moment = (datetime.now(UTC) - ago).isoformat()
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "flwr-public-key": b64encode(public).decode(),
        "flwr-timestamp": moment,
        "flwr-signature": b64encode(key.sign(moment.encode(), ec.ECDSA(hashes.SHA256()))).decode(),
        "content-type": "application/protobuf",
    }


def node_key(made: ProbedConsortium) -> ec.EllipticCurvePrivateKey:
    """Return the node key of a member."""
    return SiteKeys(made.site("north")).node()


def member_gets_through(made: ProbedConsortium) -> None:
    """A request that a member signed is answered by the SuperLink, over a new connection."""
    with httpx.Client(verify=BLIND, timeout=20) as client:
        url = f"https://127.0.0.1:{made.settings.port}/v1/fleet/pull-messages"
        assert client.post(url, headers=signed(node_key(made)), content=b"").status_code in {401, *ACCEPTED}
        # 401 is the SuperLink's word about a node that has not activated; the gateway's closes the connection
        assert client.post(url, headers=signed(node_key(made)), content=b"").headers.get("connection") != "close"


def test_bodies_of_strangers_are_not_kept(made: ProbedConsortium) -> None:
    """Two hundred anonymous uploads of 31 MiB each leave the gateway's memory as it was, and a member gets through."""
    before = memory(made, "gateway")
    block = b"x" * MIB
    with connections(made, 200, tls=True) as opened:
        sent = 0
        for connection in opened:
            with suppress(OSError):
                connection.settimeout(0.5)
                connection.sendall(PULL + b"Content-Length: %d\r\n\r\n" % (31 * MIB))
                for _ in range(31):
                    connection.sendall(block)
                    sent += 1
        member_gets_through(made)
        assert memory(made, "gateway") - before < 48
    assert sent < 200 * 31 // 2  # refused in the middle of the body


def test_connections_that_say_nothing_are_few_and_short(made: ProbedConsortium) -> None:
    """Of five hundred silent connections, before and after TLS, at most so many stay, and none for long."""
    for tls in (False, True):
        with connections(made, 500 if not tls else 150, tls=tls):
            assert held(made) <= STRANGERS + 2
            member_gets_through(made)
            wait_until(lambda: held(made) <= 2, "all are sent away", SECONDS + 10)


def test_half_a_head_is_not_waited_for(made: ProbedConsortium) -> None:
    """A head that comes byte by byte ends with the connection, and one beyond the limit at once."""
    with connections(made, 2, tls=True) as (slow, large):
        large.sendall(PULL + b"X-Fill: " + b"x" * (2 * MAX_HEAD_BYTES))
        assert large.recv(100).startswith(b"HTTP/1.1 400")
        begin = time.monotonic()
        slow.settimeout(1)
        ended = False
        while not ended and time.monotonic() - begin < SECONDS + 10:
            try:
                slow.sendall(b"P")
                ended = slow.recv(1) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
        assert ended


@pytest.mark.parametrize("who", ["nobody", "a stranger", "an old recording", "another time", "garbage"])
def test_who_is_no_member_is_not_listened_to(made: ProbedConsortium, who: str) -> None:
    """Without a fresh signature of a member's node key the body is not read: 401, and the connection ends."""
    headers = signed(ec.generate_private_key(ec.SECP384R1()) if who == "a stranger" else node_key(made))
    if who == "nobody":
        headers = {}
    elif who == "an old recording":
        headers = signed(node_key(made), ago=timedelta(minutes=10))
    elif who == "another time":
        headers["flwr-timestamp"] = datetime.now(UTC).isoformat()
    elif who == "garbage":
        headers["flwr-public-key"] = "%%%"
    url = f"https://127.0.0.1:{made.settings.port}/v1/fleet/pull-messages"
    with httpx.Client(verify=BLIND) as client:
        answer = client.post(url, headers=headers, content=b"x")
    assert (answer.status_code, answer.headers["connection"], answer.content) == (401, "close", b"")


def test_a_member_is_bounded_too(made: ProbedConsortium) -> None:
    """A member's body beyond the limit is refused by its length, or where it goes on; its connections are counted."""
    url = f"https://127.0.0.1:{made.settings.port}/v1/fleet/push-object"
    before = memory(made, "gateway"), memory(made, "superlink")
    with connections(made, 1, tls=True) as (announced,):
        lines = "".join(f"{name}: {value}\r\n" for name, value in signed(node_key(made)).items()).encode()
        announced.sendall(PULL + lines + b"Content-Length: %d\r\n\r\n" % (MAX_REQUEST_BYTES + 1))
        assert announced.recv(100).startswith(b"HTTP/1.1 413")
    with httpx.Client(verify=BLIND, timeout=60) as client:
        endless = (b"x" * MIB for _ in range(2 * MAX_REQUEST_BYTES // MIB))
        with suppress(httpx.WriteError):  # the refusal comes while the body is still on its way
            assert client.post(url, headers=signed(node_key(made)), content=endless).status_code == 413
    assert memory(made, "gateway") - before[0] < 32
    assert memory(made, "superlink") - before[1] < 3 * MAX_REQUEST_BYTES // MIB
    with ExitStack() as stack:
        for _ in range(3 * EACH):
            client = stack.enter_context(httpx.Client(verify=BLIND, timeout=20))
            client.post(url, headers=signed(node_key(made)), content=b"")
        assert held(made) <= EACH + 2

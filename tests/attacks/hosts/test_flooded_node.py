"""A hospital's real SuperNode and a coordinator that floods it: what the node keeps, and whom else it speaks to."""

from __future__ import annotations

import gzip
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.proto.fleet_pb2 import ActivateNodeResponse
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatResponse
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supernode.nodestate import NodeStateFactory
from tests.support.consortium import Consortium
from tests.support.processes import wait_until

from dura_client.node.bounds import (
    MAX_ANSWER_BYTES,
    MAX_BUNDLE_BYTES,
    MAX_OBJECTS,
    REMEMBERED,
    Recent,
    TooMuch,
    bound_answer,
    bound_state,
    bounded_pull,
)
from dura_client.site.keys import SiteKeys
from dura_common.runtime.environment import flower_environment, module

MIB = 1 << 20
pytestmark = pytest.mark.timeout(240)


@dataclass
class Hostile:
    """A coordinator with the real certificate; ``answer`` writes what comes to every pull."""

    answer: Callable[[BaseHTTPRequestHandler], None]
    pulls: int = 0
    heard: list[str] = field(default_factory=list)

    @contextmanager
    def serving(self, certificate: Path | None, key: Path | None) -> Iterator[str]:
        """Serve on a port of this machine and return its address."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.heard.append(self.path)
                self.rfile.read(int(self.headers.get("content-length", 0)))
                if self.path.endswith("/pull-messages"):
                    outer.pulls += 1
                    with suppress(OSError):  # the node hung up
                        outer.answer(self)
                    return
                known: dict[str, Any] = {
                    "activate-node": ActivateNodeResponse(node_id=7),
                    "send-node-heartbeat": SendNodeHeartbeatResponse(success=True),
                }
                found = known.get(self.path.rsplit("/", 1)[1])
                reply(self, b"" if found is None else found.SerializeToString())

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None and key is not None:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()


def reply(request: BaseHTTPRequestHandler, content: bytes, **headers: str) -> None:
    """Answer a request."""
    request.send_response(200)
    for name, value in {"content-type": "application/protobuf", "content-length": str(len(content)), **headers}.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    request.wfile.write(content)


def endless(request: BaseHTTPRequestHandler) -> None:
    """Answer with a gigabyte."""
    request.send_response(200)
    request.send_header("content-length", str(1024 * MIB))
    request.end_headers()
    for _ in range(1024):
        request.wfile.write(bytes(MIB))


def packed(request: BaseHTTPRequestHandler) -> None:
    """Answer with half a gigabyte in half a megabyte."""
    reply(request, BOMB, content_encoding="gzip")


BOMB = gzip.compress(bytes(512 * MIB), compresslevel=1)


@contextmanager
def node(consortium: Consortium, address: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a site's SuperNode towards an address, as the site's supervisor does."""
    home = consortium.site("north")
    home.run.mkdir(exist_ok=True)
    (home.run / "secret").write_text("s" * 64)
    with SiteKeys(home).node_file() as (key, descriptor), (home.run / "log").open("wb") as log:
        words = module("dura_client.node.supernode", str(home.run / "node.sock"), "--superlink", address)
        words += ["--root-certificates", str(home.consortium / "authority.pem"), "--auth-supernode-private-key", key]
        words += ["--isolation", "process", "--superexec-auth-secret-file", str(home.run / "secret")]
        process = subprocess.Popen(
            words,
            env=flower_environment(home.path / "flower", DURA_SITE_HOME=str(home.path)),
            cwd=home.run,
            pass_fds=(descriptor,),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def peak(process: subprocess.Popen[bytes]) -> int:
    """Return the most memory that a process has ever had, in MiB."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """Return a founded consortium."""
    made = Consortium(tmp_path_factory.mktemp("flooded"), moment=None)
    made.make_all()
    return made


@pytest.mark.federation
@pytest.mark.parametrize("answer", [endless, packed])
def test_answers_beyond_a_size_are_not_kept(
    consortium: Consortium, answer: Callable[[BaseHTTPRequestHandler], None]
) -> None:
    """However much an answer holds, packed or not, the node's memory stays as it was, and the node goes on asking."""
    keys = consortium.coordinator.keys
    calm = threading.Event()

    def act(request: BaseHTTPRequestHandler) -> None:
        answer(request) if calm.is_set() else reply(request, b"")

    hostile = Hostile(act)
    with hostile.serving(keys / "server.pem", keys / "server.key") as address, node(consortium, address) as process:
        wait_until(lambda: hostile.pulls >= 3, "the node asks for messages", 60)
        before = peak(process)
        calm.set()
        seen = hostile.pulls
        wait_until(lambda: hostile.pulls >= seen + 4, "the node asks again", 60)
        assert peak(process) - before < 3 * MAX_ANSWER_BYTES // MIB
        assert process.poll() is None
    assert "was dropped" in (consortium.site("north").run / "log").read_text()


@pytest.mark.federation
def test_the_node_is_sent_nowhere_else(consortium: Consortium) -> None:
    """A redirection to a server inside the hospital is not followed: nothing of the node arrives there."""
    keys = consortium.coordinator.keys
    inside = Hostile(lambda request: reply(request, b""))
    with inside.serving(None, None) as target:

        def redirect(request: BaseHTTPRequestHandler) -> None:
            request.send_response(307)
            request.send_header("location", f"http://{target}/v1/fleet/pull-messages")
            request.send_header("content-length", "0")
            request.end_headers()

        hostile = Hostile(redirect)
        with hostile.serving(keys / "server.pem", keys / "server.key") as address, node(consortium, address):
            wait_until(lambda: hostile.pulls >= 1, "the node asks for messages", 60)
            threading.Event().wait(3.0)
    assert inside.heard == []


def test_a_message_is_pulled_up_to_a_size() -> None:
    """The sum over all objects of a message is bounded, and their number; at the bound everything passes."""
    calls: list[str] = []

    def real(ids: list[str], pull_object_fn: Callable[[str], bytes]) -> dict[str, bytes]:
        return {one: pull_object_fn(one) for one in ids}

    def fetch(identifier: str) -> bytes:
        calls.append(identifier)
        return bytes(100)

    pull = bounded_pull(real, most=1000)
    names = [str(number) for number in range(50)]
    assert len(pull(names[:10], fetch)) == 10
    calls.clear()
    with pytest.raises(TooMuch, match="more than 1000 bytes"):
        pull(names, fetch)
    assert len(calls) == 11
    calls.clear()
    with pytest.raises(TooMuch, match="objects"):
        pull(["x"] * (MAX_OBJECTS + 1), fetch)
    assert calls == []


def test_packed_answers_are_refused_before_they_are_read() -> None:
    """The head of an answer is enough."""
    with pytest.raises(TooMuch, match="compressed"):
        bound_answer(httpx.Response(200, headers={"content-encoding": "br"}))


def test_what_a_node_remembers_is_bounded() -> None:
    """Runs, contexts, times and tasks beyond a number are forgotten, oldest first; a large bundle is never kept."""
    state: Any = NodeStateFactory(objectstore_factory=ObjectStoreFactory()).state()
    bound_state(state)
    for number in range(2 * max(REMEMBERED.values())):
        for name in REMEMBERED:
            getattr(state, name)[number] = SimpleNamespace(number=number)
    assert {name: len(getattr(state, name)) for name in REMEMBERED} == REMEMBERED
    assert min(state.run_store) == 2 * max(REMEMBERED.values()) - REMEMBERED["run_store"]
    state.fab_store.clear()
    with pytest.raises(TooMuch, match="bundle"):
        state.store_fab(Fab("", bytes(MAX_BUNDLE_BYTES + 1), {}))
    assert state.fab_store == {}
    assert state.store_fab(Fab("", b"small", {})) in state.fab_store


def test_a_table_forgets_what_was_written_longest_ago() -> None:
    """Writing an entry again makes it the youngest."""
    table = Recent(2)
    for key in ("a", "b", "a", "c"):
        table[key] = key
    assert list(table) == ["a", "c"]

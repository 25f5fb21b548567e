"""Real services that are killed, refused or broken: a start says what is true, and nothing loops for ever."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.commands import Failed, dura, failed
from tests.support.processes import alive, children, free_port, processes_of, wait_until
from tests.support.running import RunningConsortium

from dura_common.consortium.identity import certificate_pem, load_certificate, make_server_certificate
from dura_common.consortium.keyfile import load_private, private_pem
from dura_common.errors import HostError, TrustError
from dura_common.runtime.running import status
from dura_server.services.superlink import connected

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(600)]

STARTS = 10
LOOP_SECONDS = 400.0
"""Six tries with their delays, on a busy machine."""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[RunningConsortium]:
    """Return a coordinator that runs, and a hospital that does not; no process is left of them afterwards."""
    consortium = RunningConsortium(tmp_path, ("north", "east"))
    consortium.make_all()
    try:
        consortium.start_coordinator()
        yield consortium
    finally:
        consortium.stop()
    wait_until(lambda: not processes_of(tmp_path), "no process is left", 60)


def online(made: RunningConsortium, name: str = "north") -> bool:
    """Tell whether the coordinator counts a node as connected."""
    return connected(made.coordinator, made.roster()[0])[name]


def test_after_the_supervisors_were_killed_a_start_tells_the_truth(made: RunningConsortium) -> None:
    """Both sides, three times, without a pause: what is told as running runs, and the node is connected again."""
    made.start_site("north")
    for _ in range(3):
        for run, start in (
            (made.coordinator.run, made.start_coordinator),
            (made.site("north").run, lambda: made.start_site("north")),
        ):
            before = {child["pid"] for child in children(run).values()}
            os.kill(status(run)["pid"], signal.SIGKILL)
            start()
            now = {child["pid"] for child in children(run).values()}
            assert not before & now
            assert not any(alive(pid) for pid in before)
            assert all(alive(pid) for pid in now)
        wait_until(lambda: online(made), "the node is connected", 60)
    for home in (made.coordinator, made.site("north")):
        assert {child["restarts"] for child in children(home.run).values()} == {0}


def test_a_stop_and_a_start_succeed_ten_times_of_ten(made: RunningConsortium) -> None:
    """A node signs off when it is stopped, even if it is told twice, and is taken on at once when it starts."""
    for turn in range(STARTS):
        made.start_site("north")
        wait_until(lambda: online(made), "the node is connected")
        if turn % 2:
            supernode = children(made.site("north").run)["supernode"]["pid"]
            for _ in range(2):
                os.kill(supernode, signal.SIGTERM)
        dura("site", "stop", "--home", made.site("north"))
        assert not online(made)
        assert not processes_of(made.site("north").path)


def test_a_node_that_nobody_knows_is_told_so(made: RunningConsortium) -> None:
    """The start ends with a reason that a person can act on; so does the status."""
    home = made.site("north")
    (home.keys / "node.pem").write_bytes(private_pem(ec.generate_private_key(ec.SECP384R1())))
    said = failed("site", "start", "--detach", "--home", home, code=TrustError.exit_code).error
    assert "does not know this node" in said["message"]
    assert "dura coordinator roster" in said["hint"]
    told = dura("site", "status", "--home", home)
    assert "does not know this node" in told["ended"]["message"]
    assert not processes_of(home.path)


def test_a_node_whose_notes_are_lost_waits_until_it_is_taken_on(made: RunningConsortium) -> None:
    """Killed, and its run folder restored from nowhere: the coordinator takes it for alive for a minute."""
    made.start_site("north")
    home = made.site("north")
    wait_until(lambda: online(made), "the node is connected")
    for pid in processes_of(home.path):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not processes_of(home.path), "it is dead")
    (home.run / "node-id").unlink()
    made.start_site("north")
    wait_until(lambda: children(home.run)["supernode"]["pid"] and (home.run / "node-id").exists(), "taken on", 120)
    assert children(home.run)["supernode"]["restarts"] == 0


def ended(made: RunningConsortium) -> dict[str, str]:
    """Wait until the coordinator has given up, and return its reason."""
    wait_until(lambda: not status(made.coordinator.run)["running"], "it has given up", LOOP_SECONDS)
    wait_until(lambda: not processes_of(made.coordinator.path), "no process is left")
    return dict(status(made.coordinator.run)["ended"])


def test_a_port_that_somebody_else_took_ends_the_services_with_that_reason(made: RunningConsortium) -> None:
    """The gateway is killed, and another process has its port: not a loop for ever."""
    with socket.socket() as thief:
        thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(children(made.coordinator.run)["gateway"]["pid"], signal.SIGKILL)

        def taken() -> bool:
            try:
                thief.bind(("127.0.0.1", made.settings.port))
            except OSError:
                return False
            return True

        wait_until(taken, "the port is taken")
        thief.listen()
        said = ended(made)
        assert f"port {made.settings.port} for the gateway cannot be used" in said["message"]
        again = failed("coordinator", "start", "--detach", "--home", made.coordinator, code=HostError.exit_code)
        assert f"port {made.settings.port} for the gateway" in again.error["message"]


def test_a_broken_database_ends_the_services_with_that_reason(made: RunningConsortium) -> None:
    """The hint says what to do, and doing it helps."""
    database = made.coordinator.database
    dura("coordinator", "stop", "--home", made.coordinator)
    database.write_bytes(b"no database" * 1000)
    for path in database.parent.glob("state.db-*"):
        path.unlink()
    with pytest.raises(Failed, match=r"state\.db cannot be used") as caught:
        made.start_coordinator()
    assert "Move the file away" in caught.value.error["hint"]
    assert "cannot be used" in status(made.coordinator.run)["ended"]["message"]
    database.rename(database.with_suffix(".broken"))
    made.start_coordinator()
    made.start_site("north")
    wait_until(lambda: online(made), "the node is connected", 60)


def test_an_expired_certificate_is_the_reason(made: RunningConsortium) -> None:
    """No service is started; exit code and status say it, and a renewal helps."""
    dura("coordinator", "stop", "--home", made.coordinator)
    keys = made.coordinator.keys
    authority, server = (load_certificate((keys / name).read_bytes()) for name in ("authority.pem", "server.pem"))
    signer = load_private((keys / "authority.key").read_bytes())
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    public = server.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    old = make_server_certificate(authority, signer, public, ("127.0.0.1",), datetime.now(UTC) - timedelta(days=1500))
    (keys / "server.pem").write_bytes(certificate_pem(old))
    said = failed("coordinator", "start", "--detach", "--home", made.coordinator, code=TrustError.exit_code).error
    assert "expired" in said["message"]
    assert "expired" in status(made.coordinator.run)["ended"]["message"]
    dura("coordinator", "renew", "--home", made.coordinator)
    made.start_coordinator()
    assert "ended" not in status(made.coordinator.run)


def test_a_coordinator_moves_to_other_ports(made: RunningConsortium) -> None:
    """The hospitals get the new roster as a file, since nobody answers at the old address, and connect again."""
    made.start_site("north")
    wait_until(lambda: online(made), "the node is connected")
    where = ("--home", made.coordinator)
    moved = dura("coordinator", "change", "--port", free_port(), "--aggregation-port", free_port(), *where)
    assert moved["roster_needed"] is True
    dura("authority", "issue", "--authority", made.authority)
    dura("coordinator", "stop", *where)
    made.agree()
    made.start_coordinator()
    dura("site", "stop", "--home", made.site("north"))
    made.start_site("north")
    wait_until(lambda: online(made), "the node is connected at the new address", 60)

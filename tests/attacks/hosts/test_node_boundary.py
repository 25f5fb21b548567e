"""The way between coordinator and site, with real processes: Flower's internals as we use them, and who gets in."""

from __future__ import annotations

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.attacks.hosts.echo_app import REST, SECRET_TEXT
from tests.attacks.hosts.probes import ProbedConsortium
from tests.support.commands import Failed, dura
from tests.support.processes import alive, children, processes_of, wait_until

from dura_client.consortium import enrolment
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.errors import TrustError
from dura_common.runtime.sockets import listens
from dura_server.home import CoordinatorHome

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(600)]

ECHO = """
def probe(grid):
    node = wait_for(grid, ["north"])["north"]
    vector = np.array([0.0, -0.0, 1e-45, np.inf, 3.5], np.float32)
    sent = {node: to_records(b"body \\x00\\xff", vector)}
    got = {}
    for kind in ("query", "train", "evaluate"):
        body, back = from_records(exchange(grid, sent, message_type=kind, timeout=60)[node], max_parameters=10)
        got[kind] = [body.hex(), back.tobytes().hex() == vector.tobytes().hex()]
    return got
"""

FAILING = """
def probe(grid):
    from flwr.app import Message
    node = wait_for(grid, ["north"])["north"]
    message = Message(to_records(b"fail", None), dst_node_id=node, message_type="train", ttl=60)
    ids = grid.push_messages([message])
    for _ in range(300):
        for reply in grid.pull_messages(ids):
            return {"error": reply.has_error(), "whole": repr(reply.error) + repr(reply.metadata)}
        time.sleep(0.2)
    raise RuntimeError("no reply")
"""

ONLINE = """
def probe(grid):
    time.sleep(3)
    return len(set(grid.get_node_ids()))
"""


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProbedConsortium]:
    """Return a coordinator with one site that answers with what it was sent; nothing is left of them afterwards."""
    made = ProbedConsortium(tmp_path_factory.mktemp("planes"), ("north", "east"))
    made.make_all()
    try:
        made.start_coordinator()
        made.start_echo("north")
        yield made
    finally:
        made.stop()
    wait_until(lambda: not processes_of(made.root), "every process has ended", 20)


def test_messages_pass_unchanged_through_the_adapter(planes: ProbedConsortium) -> None:
    """Body and vector come back bit by bit for each kind of message: Flower's internals are as the adapter expects."""
    expected = [b"body \x00\xff".hex(), True]
    assert planes.run(ECHO) == {"query": expected, "train": expected, "evaluate": expected}


def test_an_exception_at_a_site_leaves_without_its_text(planes: ProbedConsortium) -> None:
    """The coordinator learns that the site failed, not what the exception said, and the log does not say it either."""
    got = planes.run(FAILING)
    assert got["error"]
    assert SECRET_TEXT not in got["whole"]
    assert "refused" in got["whole"]
    for log in planes.site("north").logs.iterdir():
        assert SECRET_TEXT not in log.read_text()


def test_a_node_with_a_key_of_its_own_making_gets_no_task(planes: ProbedConsortium) -> None:
    """A hospital's copy whose node key is not on the roster is never among the online nodes."""
    foreign = planes.root / "elsewhere"
    made = SiteHome(foreign)
    enrolment.init(made, "east", None, planes.now())
    shutil.copytree(planes.site("east").consortium, made.consortium)
    shutil.copy(planes.site("east").policy, made.policy)
    assert SiteKeys(made).node().public_key() != SiteKeys(planes.site("east")).node().public_key()
    with pytest.raises(Failed, match="does not know this node") as caught:
        dura("site", "start", "--detach", "--home", foreign)
    assert caught.value.code == TrustError.exit_code
    assert "Failed to activate SuperNode" in (made.logs / "supernode.log").read_text()
    assert planes.run(ONLINE) == 1


def test_a_killed_process_comes_back_and_work_goes_on(planes: ProbedConsortium) -> None:
    """After kill -9 of the SuperLink and of the site's runner both are restarted, and messages pass again."""
    for home, name in ((planes.coordinator, "superlink"), (planes.site("north"), "runner")):
        victim = int(children(home.run)[name]["pid"])
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda victim=victim: not alive(victim), "the victim is gone", 90)
        wait_until(
            lambda home=home, name=name, victim=victim: children(home.run)[name]["pid"] not in {None, victim},
            f"{name} is back",
            90,
        )
    wait_until(lambda: listens(planes.coordinator.superlink_socket), "the SuperLink listens again", 90)
    assert len(planes.run(ECHO)) == 3


def test_a_runner_that_has_nothing_to_do_ends_and_the_next_message_starts_it(planes: ProbedConsortium) -> None:
    """A site that waits holds no runner in memory; that is no crash, and no message is lost by it."""
    home = planes.site("east")
    planes.start_echo("east", {REST: "1"})

    def rests() -> bool:
        return bool(children(home.run)["runner"]["resting"])

    for _ in range(2):
        wait_until(rests, "the runner has ended", 60)
        assert children(home.run)["runner"]["pid"] is None
        assert len(planes.run(ECHO.replace("north", "east"))) == 3
    assert children(home.run)["runner"]["restarts"] == 0
    dura("site", "stop", "--home", home)


def waiting(home: CoordinatorHome) -> set[int]:
    """Return the processes that have Flower imported and wait for the next run."""
    found = set()
    for pid in processes_of(home.path):
        with suppress(OSError):  # it has ended meanwhile
            if b"\0serverapp\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.add(pid)
    return found


def test_the_process_for_the_next_run_ends_with_the_one_that_started_it(planes: ProbedConsortium) -> None:
    """One waits while nothing runs; after a crash of Flower's SuperExec it is replaced, and runs begin as before."""
    home = planes.coordinator
    wait_until(lambda: len(waiting(home)) == 1, "one waits", 60)
    before = waiting(home)
    os.kill(children(home.run)["superexec"]["pid"], signal.SIGKILL)
    wait_until(lambda: not any(map(alive, before)), "it has ended", 60)
    wait_until(lambda: len(waiting(home)) == 1, "another one waits", 60)
    assert planes.run(ONLINE) >= 1


def test_a_taken_port_is_one_clear_error(planes: ProbedConsortium) -> None:
    """Starting the site's coordinator twin on a port in use names the port, and nothing runs afterwards."""
    other = ProbedConsortium(planes.root / "other")
    other.root.mkdir()
    other.make_all()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", other.settings.port))
        busy.listen()
        with pytest.raises(Failed, match=str(other.settings.port)) as caught:
            other.start_coordinator()
    assert caught.value.code == 15
    assert not processes_of(other.root)


def test_another_authority_in_place_of_the_pinned_one_is_noticed(planes: ProbedConsortium) -> None:
    """A site whose authority file was replaced does not start, so it trusts no false coordinator."""
    other = ProbedConsortium(planes.root / "false")
    other.root.mkdir()
    other.make_coordinator()
    pinned = planes.site("east").consortium / "authority.pem"
    original = pinned.read_bytes()
    pinned.write_bytes((other.coordinator.path / "keys" / "authority.pem").read_bytes())
    try:
        with pytest.raises(Failed, match="exit code 11") as caught:
            dura("site", "start", "--detach", "--home", planes.site("east").path)
        assert caught.value.code == 11
    finally:
        pinned.write_bytes(original)

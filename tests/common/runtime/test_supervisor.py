"""The supervisor with real children: order, back-off, clean stop, no strays, bounded logs."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import pytest
from tests.common.runtime.supervised import SLEEPER, TWO, supervised
from tests.support.processes import alive, children, wait_until

from dura_common.errors import HostError, StateError, TrustError
from dura_common.runtime import running
from dura_common.runtime.running import Lock, detach, holder, require_free_port, status, stop


def test_children_run_until_the_stop_and_nothing_is_left(tmp_path: Path) -> None:
    """Stop ends supervisor and children; afterwards the folder may be used again."""
    for _ in range(2):
        with supervised(tmp_path, TWO) as process:
            wait_until(lambda: status(tmp_path)["ready"], "ready")
            pids = [child["pid"] for child in children(tmp_path).values()]
            assert all(alive(pid) for pid in pids)
            assert stop(tmp_path)
            assert process.wait(30.0) == 0
            assert not any(alive(pid) for pid in pids)
    assert status(tmp_path) == {"running": False, "ready": False, "children": []}
    assert not stop(tmp_path)


def test_what_libraries_do_at_a_fork_reaches_no_child(tmp_path: Path) -> None:
    """A supervisor whose libraries break every fork of theirs starts its children all the same."""
    script = "os.register_at_fork(after_in_child=lambda: os._exit(3))\n" + TWO
    with supervised(tmp_path, script):
        wait_until(lambda: all((tmp_path / f"{name}.up").exists() for name in ("first", "second")), "both are up")
        assert [child["restarts"] for child in children(tmp_path).values()] == [0, 0]


def test_the_next_child_waits_until_the_one_before_is_ready(tmp_path: Path) -> None:
    """A child starts only when its predecessor says that it is ready."""
    script = """
    waits = child("first", SLEEPER, lambda: (folder / "go").exists())
    Supervisor([waits, child("second", SLEEPER)], folder).run()
    """
    with supervised(tmp_path, script):
        wait_until((tmp_path / "first.up").exists, "first is up")
        time.sleep(0.5)
        assert not (tmp_path / "second.up").exists()
        assert not status(tmp_path)["ready"]
        (tmp_path / "go").touch()
        wait_until((tmp_path / "second.up").exists, "second is up")


def test_a_killed_child_comes_back_and_its_neighbour_is_left_alone(tmp_path: Path) -> None:
    """SIGKILL to one child: it is started again with another pid, counted; the other goes on."""
    with supervised(tmp_path, TWO):
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        before = children(tmp_path)
        os.kill(before["first"]["pid"], signal.SIGKILL)
        wait_until(lambda: children(tmp_path)["first"]["restarts"] == 1, "restarted")
        after = children(tmp_path)
        assert after["first"]["pid"] != before["first"]["pid"]
        assert after["second"] == before["second"]


def test_two_children_that_die_together_both_come_back(tmp_path: Path) -> None:
    """One dead child does not hide another."""
    with supervised(tmp_path, TWO):
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        for child in children(tmp_path).values():
            os.kill(child["pid"], signal.SIGKILL)
        wait_until(lambda: all(child["restarts"] == 1 for child in children(tmp_path).values()), "both restarted")


def test_a_child_that_keeps_dying_is_started_ever_more_rarely(tmp_path: Path) -> None:
    """Back-off doubles from half a second: about three starts in the first four seconds, not hundreds."""
    with supervised(tmp_path, 'Supervisor([child("dies", "raise SystemExit(3)")], folder).run()'):
        wait_until(lambda: children(tmp_path).get("dies", {}).get("restarts", 0) >= 2, "two restarts")
        begin = time.monotonic()
        wait_until(lambda: children(tmp_path)["dies"]["restarts"] >= 3, "a third restart")
        assert time.monotonic() - begin > 1.0


def test_a_killed_supervisor_takes_its_children_along(tmp_path: Path) -> None:
    """SIGKILL to the supervisor: the children end by themselves, and a new one may start."""
    with supervised(tmp_path, TWO) as process:
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        pids = [child["pid"] for child in children(tmp_path).values()]
        process.kill()
        process.wait()
        wait_until(lambda: not any(alive(pid) for pid in pids), "children are gone")
        assert holder(tmp_path) is None
        assert not status(tmp_path)["running"]
    with supervised(tmp_path, TWO):
        wait_until(lambda: status(tmp_path)["ready"], "ready again")


def test_what_a_child_started_is_stopped_with_it(tmp_path: Path) -> None:
    """A grandchild in the same process group does not survive the stop."""
    parent = (
        "import subprocess,sys,pathlib,time\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path(sys.argv[2], 'grandchild').write_text(str(p.pid))\ntime.sleep(600)"
    )
    with supervised(tmp_path, f'Supervisor([child("parent", {parent!r})], folder).run()'):
        wait_until(lambda: (tmp_path / "grandchild").exists() and (tmp_path / "grandchild").read_text(), "it is up")
        grandchild = int((tmp_path / "grandchild").read_text())
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        stop(tmp_path)
        assert not alive(grandchild)


def test_a_child_that_ignores_the_stop_is_killed(tmp_path: Path) -> None:
    """SIGTERM has a limit; after it comes SIGKILL."""
    script = """
    supervisor.STOP_SECONDS = 1.0
    up = lambda: "up" in (folder / "log/stubborn.log").read_text()
    Supervisor([child("stubborn", STUBBORN, up)], folder).run()
    """
    with supervised(tmp_path, script):
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        process = children(tmp_path)["stubborn"]["pid"]
        begin = time.monotonic()
        assert stop(tmp_path)
        assert time.monotonic() - begin < 15
        assert not alive(process)


def test_a_child_that_cannot_start_ends_the_start_with_its_name(tmp_path: Path) -> None:
    """The error names the child and its log; the neighbours that were up are stopped."""
    script = """
    from dura_common.errors import HostError
    try:
        Supervisor([child("first", SLEEPER), child("broken", "raise SystemExit(3)", lambda: False)], folder).run()
    except HostError as error:
        (folder / "error").write_text(f"{error.message} {error.hint}")
    """
    with supervised(tmp_path, script) as process:
        assert process.wait(30.0) == 0
    text = (tmp_path / "error").read_text()
    assert "broken ended with exit code 3 while starting" in text
    assert "broken.log" in text
    assert holder(tmp_path) is None


def test_a_log_cannot_fill_the_disk(tmp_path: Path) -> None:
    """A log beyond its size is set aside once and begun again while the child goes on writing."""
    talker = "import time\nwhile True:\n    print('x' * 1000, flush=True)\n    time.sleep(0.001)".replace("\n", "\n")
    with supervised(
        tmp_path, f'supervisor.LOG_BYTES = 100_000\nSupervisor([child("talker", {talker!r})], folder).run()'
    ):
        log, kept = tmp_path / "log/talker.log", tmp_path / "log/talker.log.1"
        wait_until(kept.exists, "the log was set aside")
        first = kept.stat().st_mtime_ns
        wait_until(lambda: kept.stat().st_mtime_ns != first, "and once more")
        wait_until(lambda: log.stat().st_size > 0, "the child goes on writing")
        assert set(log.read_bytes()) <= {ord("x"), ord("\n")}  # no hole of zero bytes at the beginning
        assert sorted(path.name for path in (tmp_path / "log").iterdir()) == ["talker.log", "talker.log.1"]


def test_a_second_start_is_refused_while_the_first_holds_the_lock(tmp_path: Path) -> None:
    """The lock belongs to a live process; it can be taken again after it."""
    with Lock(tmp_path):
        assert holder(tmp_path) == os.getpid()
        with pytest.raises(StateError, match="running already"), Lock(tmp_path):
            pytest.fail("the lock was given twice")
        with pytest.raises(StateError, match="running already"):
            detach([sys.executable, "-c", "raise SystemExit"], tmp_path)
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None
    with Lock(tmp_path):
        pass


def test_a_lock_file_left_behind_stands_in_nobodys_way(tmp_path: Path) -> None:
    """After a power loss the file is there and nobody holds it: not running, start allowed, nobody is signalled."""
    (tmp_path / "lock").write_text("1")
    (tmp_path / "state.json").write_text(json.dumps({"ready": True, "children": []}))
    assert holder(tmp_path) is None
    assert not status(tmp_path)["running"]
    assert not stop(tmp_path)
    with Lock(tmp_path):
        pass


def test_a_background_start_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON error of the process in the background becomes the error in front, family and hint included."""
    error = {"error": {"code": "trust", "message": "the roster has expired", "hint": "Ask for a new one."}}
    with pytest.raises(TrustError, match="the roster has expired") as caught:
        detach([sys.executable, "-c", f"print({json.dumps(error)!r}); raise SystemExit(11)"], tmp_path)
    assert caught.value.hint == "Ask for a new one."
    with pytest.raises(HostError, match=r"supervisor\.out"):
        detach([sys.executable, "-c", "raise SystemExit(15)"], tmp_path)
    monkeypatch.setattr(running, "START_SECONDS", 0.5)
    with pytest.raises(HostError, match="not become ready"):
        detach([sys.executable, "-c", SLEEPER, "x", str(tmp_path)], tmp_path)


def test_a_port_in_use_is_named_before_anything_starts() -> None:
    """The error names the port and what wanted it; a free port passes."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=f"port {port} for the gateway"):
            require_free_port("127.0.0.1", port, what="the gateway")
    require_free_port("127.0.0.1", port, what="the gateway")

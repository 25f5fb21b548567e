"""A supervisor that was killed, or whose children cannot run: nothing is left, nothing loops, the status is true."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.common.runtime.supervised import TWO, supervised
from tests.support.processes import alive, children, wait_until

from dura_common.errors import HostError, TrustError
from dura_common.runtime.bell import SOON, ring
from dura_common.runtime.running import status, stop


def test_a_new_supervisor_waits_for_what_a_killed_one_has_left(tmp_path: Path) -> None:
    """Its children may still be ending, or never end: none is left, none is told of, and the start is no lie."""
    script = """
    supervisor.STOP_SECONDS = 2.0
    up = lambda: "up" in (folder / "log/stubborn.log").read_text()
    Supervisor([child("stubborn", STUBBORN, up), child("second", SLEEPER)], folder).run()
    """
    with supervised(tmp_path, script) as process:
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        before = {child["pid"] for child in children(tmp_path).values()}
        process.kill()
        process.wait()
        assert status(tmp_path) == {"running": False, "ready": False, "children": []}
        assert any(alive(pid) for pid in before), "the stubborn one lives on"
    (tmp_path / "log/stubborn.log").unlink()
    with supervised(tmp_path, script):
        told: set[int] = set()
        while not status(tmp_path)["ready"]:
            told |= {child["pid"] for child in children(tmp_path).values() if child["pid"]}
        now = {child["pid"] for child in children(tmp_path).values()}
        assert not any(alive(pid) for pid in before)
        assert not before & (told | now)
        assert all(alive(pid) for pid in now)


def test_a_child_that_has_just_died_is_not_told_as_running(tmp_path: Path) -> None:
    """Whatever the state on disk says: a dead process has no number."""
    with supervised(tmp_path, TWO) as process:
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        first = children(tmp_path)["first"]["pid"]
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: not alive(first), "it is dead")
        assert children(tmp_path)["first"]["pid"] is None
        assert children(tmp_path)["second"]["pid"] is not None
        os.kill(process.pid, signal.SIGCONT)


IDLE = """
import pathlib, sys
from dura_common.runtime.bell import Bell
folder = pathlib.Path(sys.argv[2])
heard = Bell(folder / "bell").wait(0)
with (folder / "turns").open("ab") as turns:
    turns.write(b"x" + b"".join(heard))
sys.exit(int((folder / "code").read_text()))
"""


def test_a_child_that_has_nothing_to_do_rests_until_its_bell_rings(tmp_path: Path) -> None:
    """Its end counts as no failure; a ring starts it again and is the child's to hear; another end is a crash."""
    script = f"""
    argv = [sys.executable, "-c", {IDLE!r}, "idle", str(folder)]
    Supervisor([Child("idle", argv, os.environ, folder / "log/idle.log", bell=folder / "bell")], folder).run()
    """
    (tmp_path / "code").write_text("0")
    with supervised(tmp_path, script):
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        for turn in range(8):
            wait_until(lambda: children(tmp_path)["idle"]["resting"], "it rests")
            assert children(tmp_path)["idle"]["pid"] is None
            assert (tmp_path / "turns").read_bytes() == b"x" + b"x." * turn
            ring(tmp_path / "bell", SOON)
            wait_until(lambda turn=turn: len((tmp_path / "turns").read_bytes()) > 2 * turn + 1, "it was started again")
        assert children(tmp_path)["idle"]["restarts"] == 0
        (tmp_path / "code").write_text("3")
        ring(tmp_path / "bell")
        wait_until(lambda: children(tmp_path)["idle"]["restarts"], "a crash is counted")


def test_a_child_is_told_once_to_end(tmp_path: Path) -> None:
    """A second signal would end it before it has put things in order."""
    careful = (
        "import signal,sys,time,pathlib\ncount = 0\n"
        "def told(*_):\n    global count\n    count += 1\n"
        "signal.signal(signal.SIGTERM, told)\npathlib.Path(sys.argv[2], 'careful.up').touch()\n"
        "while not count: time.sleep(0.01)\ntime.sleep(1)\npathlib.Path(sys.argv[2], 'told').write_text(str(count))"
    )
    with supervised(tmp_path, f'Supervisor([child("careful", {careful!r}), child("other", SLEEPER)], folder).run()'):
        wait_until(lambda: status(tmp_path)["ready"] and (tmp_path / "careful.up").exists(), "ready")
        assert stop(tmp_path)
    assert (tmp_path / "told").read_text() == "1"


ENDLESS = """
from dura_common.errors import DuraError, TrustError
from dura_common.runtime.running import telling_why
supervisor.FIRST_DELAY = supervisor.LONGEST_DELAY = 0.05
def why(name):
    if (folder / "known").exists():
        return TrustError(f"the certificate of {name} has expired", hint="Renew it.")
try:
    with telling_why(folder):
        Supervisor([child("good", SLEEPER), child("bad", "raise SystemExit(3)")], folder, diagnose=why).run()
except DuraError as error:
    sys.exit(error.exit_code)
"""


def test_a_child_that_ends_again_and_again_ends_everything_with_a_reason(tmp_path: Path) -> None:
    """The reason is looked for, is in the status and in the exit code; without one, the log is named."""
    with supervised(tmp_path, ENDLESS) as process:
        assert process.wait(30) == HostError.exit_code
    found = status(tmp_path)
    assert (found["running"], found["children"]) == (False, [])
    assert found["ended"]["message"] == "bad ended with exit code 3 6 times in a row"
    assert "bad.log" in found["ended"]["hint"]
    (tmp_path / "known").touch()
    with supervised(tmp_path, ENDLESS) as process:
        assert process.wait(30) == TrustError.exit_code
    ended = status(tmp_path)["ended"]
    assert ended["code"] == "trust"
    assert ended["message"].startswith("the certificate of bad has expired")
    assert ended["hint"] == "Renew it."
    with supervised(tmp_path, TWO):
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        assert "ended" not in status(tmp_path)
        assert stop(tmp_path)
    assert "ended" not in status(tmp_path), "a stop needs no reason"


def test_a_second_start_changes_nothing_of_what_the_first_prepared(tmp_path: Path) -> None:
    """What a service prepares, such as a secret, is written by who holds the lock."""
    script = """
    def prepare():
        (folder / "secret").write_text(str(os.getpid()))
    Supervisor([child("first", SLEEPER)], folder, prepare=prepare).run()
    """
    with supervised(tmp_path, script) as process:
        wait_until(lambda: status(tmp_path)["ready"], "ready")
        with supervised(tmp_path, script) as second:
            assert second.wait(30) != 0
        assert (tmp_path / "secret").read_text() == str(process.pid)


def test_a_log_of_a_service_that_never_starts_is_bounded(tmp_path: Path) -> None:
    """Somebody may start it every five seconds for a year."""
    loud = "print('x' * 40_000); raise SystemExit(3)"
    script = f"""
    from dura_common.errors import HostError
    supervisor.LOG_BYTES = 100_000
    for _ in range(8):
        try:
            Supervisor([child("loud", {loud!r}, lambda: False)], folder).run()
        except HostError:
            pass
    """
    with supervised(tmp_path, script) as process:
        assert process.wait(60) == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "log").iterdir()}
    assert sizes.keys() == {"loud.log", "loud.log.1"}
    assert max(sizes.values()) < 150_000

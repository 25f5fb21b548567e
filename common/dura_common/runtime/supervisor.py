"""Keeps a few child processes alive: ordered start, back-off after a crash, one clean stop, no strays.

The supervisor holds a lock for as long as it lives, so a second start is refused and ``stop`` knows which process to
ask. Each child gets its own process group, which is stopped as a whole, and a death signal: if the supervisor is
killed, its children end too, and the next supervisor ends those that do not. A child that ends again and again ends
the supervisor, with a reason: a person has to act, and a loop would hide that. A child with a bell may end when it has
nothing to do, and a ring starts it again.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from dura_common.errors import DuraError, HostError
from dura_common.runtime.bell import Bell
from dura_common.runtime.files import private_folder, write_atomic
from dura_common.runtime.processes import end_left_behind, group_lives, how_ended, mark_of
from dura_common.runtime.running import ENDED, OUTPUT, STATE, Lock, read_state

FIRST_DELAY = 0.5
LONGEST_DELAY = 60.0
HEALTHY_SECONDS = 120.0
"""A child that lived this long starts again with the shortest delay."""
SHORT_SECONDS = 60.0
TRIES = 6
"""A child that ended so often in a row, each time within ``SHORT_SECONDS``, ends everything."""
STOP_SECONDS = 10.0
READY_SECONDS = 180.0
"""Starting takes seconds of processor time, and a busy machine gives them slowly."""
LOG_BYTES = 16 * 1_048_576
"""Flower logs a line for every request of every node. This bounds the disk space that a year of them takes."""
TICK_SECONDS = 0.1
OTHERS = 0o077
"""Files, folders and sockets that a child creates are closed to other accounts."""
_DIE_WITH_PARENT = """\
import ctypes, os, sys
parent, *argv = sys.argv[1:]
ctypes.CDLL(None).prctl(1, 15)  # PR_SET_PDEATHSIG, SIGTERM: they outlive the exec
if os.getppid() == int(parent):  # or the supervisor ended before
    os.execvp(argv[0], argv)
"""
"""Runs in the child and is then replaced by the program. A ``preexec_fn`` would not do: Python would run the fork
handlers of all libraries, and that of gRPC, which a supervisor uses to ask for a service's health, sometimes aborts the
child before its program begins."""


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive."""

    name: str
    argv: Sequence[str]
    """Its paths are absolute."""
    env: Mapping[str, str]
    log: Path
    ready: Callable[[], bool] | None = None
    """Tells when the next child may start; None means at once."""
    pass_fds: tuple[int, ...] = ()
    bell: Path | None = None
    """Starts the child again after it has ended with exit code 0, since it had nothing to do."""


@dataclass
class _Running:
    child: Child
    bell: Bell | None  # open all the time, so that no ring is lost
    process: subprocess.Popen[bytes] | None = None
    since: float = 0.0
    restarts: int = 0
    failures: int = 0
    """Short lives in a row."""
    last: int = 0
    """How the process ended that ran last, as :attr:`subprocess.Popen.returncode` says it."""
    resting: bool = False
    """Whether the process has ended because it had nothing to do."""
    asked: bool = False
    """Whether it was told to end: a second time would end it before it has signed off."""
    delay: float = FIRST_DELAY
    due: float = 0.0


@dataclass
class Supervisor:
    """Runs children until it is told to stop.

    Args:
        children: in the order in which they start; they stop in reverse.
        folder: the home's run folder (lock and state file). The children run in it, whatever folder the command was
            started from.
        tick: called about once a second while the children run.
        prepare: called before anything starts, with the lock held and when nothing of an earlier start runs. An error
            that it raises ends the start.
        diagnose: returns why the named child ends again and again, or None if it finds no reason.
    """

    children: Sequence[Child]
    folder: Path
    tick: Callable[[], None] | None = None
    prepare: Callable[[], None] | None = None
    diagnose: Callable[[str], DuraError | None] | None = None
    _stopping: bool = field(default=False, init=False)
    _since: float = field(default_factory=time.time, init=False)

    def run(self) -> None:
        """Start everything and stay until SIGTERM or SIGINT.

        Raises:
            StateError: another supervisor runs in this folder.
            HostError: a child does not become ready, or ends again and again.
            DuraError: the reason for that, in its own family; also what ``prepare`` raises.
        """
        with Lock(self.folder):
            before = {sig: signal.signal(sig, self._on_signal) for sig in (signal.SIGTERM, signal.SIGINT)}
            running = [_Running(child, Bell(child.bell) if child.bell else None) for child in self.children]
            try:
                self._begin()
                for position, item in enumerate(running):
                    if self._stopping:
                        break
                    self._first_start(item, running[: position + 1])
                self._write(running, ready=not self._stopping)
                self._watch(running)
            finally:
                for item in reversed(running):
                    _ask_to_end(item)
                for item in reversed(running):
                    _stop(item)
                    if item.bell is not None:
                        item.bell.close()
                (self.folder / STATE).unlink(missing_ok=True)
                for sig, handler in before.items():
                    signal.signal(sig, handler)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True

    def _begin(self) -> None:
        """Begin in a folder in which nothing of an earlier start lives or tells."""
        before = read_state(self.folder).get("children", ())
        left = {child["pid"]: child["mark"] for child in before if child["pid"] and child.get("mark")}
        end_left_behind(left, STOP_SECONDS)
        for name in (STATE, ENDED):
            (self.folder / name).unlink(missing_ok=True)
        if self.prepare is not None:
            self.prepare()

    def _first_start(self, item: _Running, started: Sequence[_Running]) -> None:
        _spawn(item, self.folder)
        self._write(started, ready=False)
        deadline = time.monotonic() + READY_SECONDS
        while not self._stopping and item.child.ready is not None and not item.child.ready():
            for other in started:  # a child that started before may have ended meanwhile
                if other.process is not None and other.process.poll() is not None:
                    other.last = other.process.returncode
                    raise self._why(other, f"{other.child.name} {how_ended(other.last)} while starting")
            if time.monotonic() > deadline:
                raise HostError(
                    f"{item.child.name} is not ready after {READY_SECONDS:.0f} s",
                    hint=f"Its log: {item.child.log}",
                )
            time.sleep(TICK_SECONDS)

    def _why(self, item: _Running, what: str) -> DuraError:
        """Return the error for a child that does not live; its reason, if one is found, comes first."""
        found = self.diagnose(item.child.name) if self.diagnose is not None else None
        if found is None:
            return HostError(what, hint=f"Its log: {item.child.log}")
        found.message = f"{found.message} ({what})"
        return found

    def _watch(self, running: Sequence[_Running]) -> None:
        next_tick, told = 0.0, True
        while not self._stopping:
            changed = [self._revive(item) for item in running]  # a list, so that every child is looked at
            if any(changed) or not told:
                told = self._tell(running)
            if time.monotonic() >= next_tick:
                for log in (*(item.child.log for item in running), self.folder / OUTPUT):
                    _rotate(log)
                if self.tick is not None:
                    self.tick()
                next_tick = time.monotonic() + 1.0
            time.sleep(TICK_SECONDS)

    def _revive(self, item: _Running) -> bool:
        """Notice a dead child, and start it again when its delay is over; True if anything changed."""
        now = time.monotonic()
        if item.process is not None:
            if item.process.poll() is None:
                return False
            item.last = item.process.returncode
            _stop(item)  # its group may have left processes behind
            if item.last == 0 and item.bell is not None:
                item.resting = True
                return True
            item.failures = item.failures + 1 if now - item.since < SHORT_SECONDS else 0
            if item.failures >= TRIES:
                raise self._why(item, f"{item.child.name} {how_ended(item.last)} {TRIES} times in a row")
            if now - item.since > HEALTHY_SECONDS:
                item.delay = FIRST_DELAY
            item.due, item.delay = now + item.delay, min(2 * item.delay, LONGEST_DELAY)
            return True
        if item.resting and item.bell is not None:
            if not item.bell.rung():
                return False
        elif now < item.due:
            return False
        else:
            item.restarts += 1
        item.resting = False
        _spawn(item, self.folder)
        return True

    def _tell(self, running: Sequence[_Running]) -> bool:
        """Write the state; a full disk must not end the services, so it is tried again."""
        try:
            self._write(running, ready=True)
        except HostError:
            return False
        return True

    def _write(self, running: Sequence[_Running], *, ready: bool) -> None:
        state = {
            "pid": os.getpid(),
            "since": self._since,
            "ready": ready,
            "children": [
                {
                    "name": item.child.name,
                    "pid": item.process.pid if item.process else None,
                    "mark": mark_of(item.process.pid) if item.process else None,
                    "restarts": item.restarts,
                    "resting": item.resting,
                    "log": str(item.child.log),
                }
                for item in running
            ],
        }
        write_atomic(self.folder / STATE, json.dumps(state, indent=2).encode())


def _spawn(item: _Running, folder: Path) -> None:
    child = item.child
    private_folder(child.log.parent)
    _rotate(child.log)
    with child.log.open("ab") as log:
        item.process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *child.argv],
            cwd=folder,
            umask=OTHERS,
            env=dict(child.env),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=child.pass_fds,
        )
    item.since = time.monotonic()


def _rotate(log: Path) -> None:
    """Keep a log and its predecessor below a maximum size. The writer appends, so it continues in the emptied file."""
    try:
        if log.stat().st_size > LOG_BYTES:
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)
    except OSError:
        return  # a full disk must not end the services; the next second tries again


def _ask_to_end(item: _Running) -> None:
    if item.process is not None and not item.asked:
        item.asked = True
        with suppress(ProcessLookupError):
            os.killpg(item.process.pid, signal.SIGTERM)


def _stop(item: _Running) -> None:
    _ask_to_end(item)
    process, item.process, item.asked = item.process, None, False
    if process is None:
        return
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    if group_lives(process.pid, STOP_SECONDS if process.returncode is not None else TICK_SECONDS):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)
        group_lives(process.pid, STOP_SECONDS)

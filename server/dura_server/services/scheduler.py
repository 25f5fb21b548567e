"""Runs the queue: a study begins when all its sites are free, in the order in which the studies were asked for.

A site works on one study at a time. So studies that share no site run side by side, up to the coordinator's own limit,
and no study overtakes an earlier one at a site that both need. A study whose process was lost continues by itself, as
long as it makes progress. The queue is on disk: a coordinator that was started again continues with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from threading import Event, Thread

from dura_common.errors import DuraError, HostError
from dura_common.runtime.running import holder
from dura_common.runtime.sockets import listens
from dura_server.home import CoordinatorHome
from dura_server.services.runs import present, progress, require_unfinished, settled, start
from dura_server.studies.queue import Wanted, at_the_queue, drop, queue, want, wanted
from dura_server.studies.standing import phase_of
from dura_server.studies.state import ACTIVE, Phase, StudyState
from dura_server.studies.store import StoredStudy, StudyStore

log = logging.getLogger(__name__)

ASK_SECONDS = 60.0
"""Between two questions for missing approvals. Meanwhile, the sites of the study are free for others."""
SOON_SECONDS = 5.0
"""The same, if a site has said that it approved a study."""
FRUITLESS = 2
"""A process that was lost so often at one place is not started again."""
POLL_SECONDS = 0.2
OVER: frozenset[Phase] = frozenset({"finished", "failed", "stopped"})

Start = Callable[[CoordinatorHome, StoredStudy, str], None]


def enqueue(stored: StoredStudy, until: datetime) -> bool:
    """Put a study into the queue; return whether it was neither there nor running. A queued study keeps its place.

    Args:
        stored: the study.
        until: until when missing approvals are waited for.

    Raises:
        StateError: the study has finished.
    """
    with at_the_queue(stored):
        require_unfinished(stored)
        phase, there = phase_of(stored), wanted(stored) is not None
        want(stored, datetime.now(UTC), until)
        new = phase not in ACTIVE and not there
        if new:
            stored.update(phase="queued", message="waits for its turn")
        return new


def follow(home: CoordinatorHome, stored: StoredStudy, changed: Callable[[], None]) -> None:
    """Wait until a study is not in the queue any more, or until the services have stopped; tell every change."""
    last: StudyState | None = None
    while True:
        left, runs = wanted(stored) is not None, holder(home.run) is not None
        state = present(stored)
        if state != last:
            changed()
        last = state
        if not left or not runs:
            return
        time.sleep(POLL_SECONDS)


def require_services(home: CoordinatorHome) -> None:
    """Refuse to queue a study that nobody would start.

    Raises:
        HostError: the coordinator's services are not running.
    """
    if holder(home.run) is None:
        raise HostError("the coordinator's services are not running", hint="Start them: `dura coordinator start`.")


class Scheduler:
    """See the module; ``limit`` is the number of studies that may run side by side."""

    def __init__(self, home: CoordinatorHome, limit: int, begin: Start | None = None) -> None:
        self._home = home
        self._limit = limit
        self._begin = begin or _begin
        self._places: dict[str, tuple[tuple[int, int], int]] = {}
        """How far a study had come when it was started, and how often it was started there."""
        self._asked: dict[str, tuple[float, int]] = {}
        """When a study's sites were asked for their approvals, and the last word of an approval before that."""

    def turn(self) -> None:
        """Look at every study in the queue once, and start what can begin."""
        busy: dict[str, str] = {}
        running = 0
        for place, stored in queue(StudyStore(self._home)):
            try:
                running += self._look(place, stored, busy, room=running < self._limit)
            except DuraError as error:
                log.warning("the study %s could not be started yet: %s", stored.study.name, error.message)

    def _look(self, place: Wanted, stored: StoredStudy, busy: dict[str, str], *, room: bool) -> bool:
        """Start a study if it can begin; enter its sites as busy, and return whether it runs."""
        if settled(self._home, stored) in ACTIVE:
            _occupy(stored, busy)
            return True
        with at_the_queue(stored):
            phase = phase_of(stored)
            if wanted(stored) is None or phase in ACTIVE:
                return phase in ACTIVE  # a command came first
            if self._is_over(place, stored, phase):
                drop(stored)
                return False
            if phase == "unapproved" and not self._ask_again(stored):
                return False
            ahead = sorted({busy[name] for name in stored.study.sites if name in busy})
            _occupy(stored, busy)
            if ahead or not room:
                _wait(stored, ahead)
                return False
            self._start(stored, phase)
        return True

    def _is_over(self, place: Wanted, stored: StoredStudy, phase: Phase) -> bool:
        if phase == "unapproved":
            return datetime.now(UTC) > place.until
        if phase == "interrupted":
            there, count = self._places.get(stored.digest, (None, 0))
            return there == progress(stored) and count >= FRUITLESS
        return phase in OVER

    def _ask_again(self, stored: StoredStudy) -> bool:
        asked, word = self._asked.get(stored.digest, (-ASK_SECONDS, 0))
        pause = ASK_SECONDS if word == self._last_word() else SOON_SECONDS
        return time.monotonic() >= asked + pause

    def _last_word(self) -> int:
        """Return when a site said last that it approved a study."""
        try:
            return self._home.approved.stat().st_mtime_ns
        except OSError:
            return 0

    def _start(self, stored: StoredStudy, phase: Phase) -> None:
        here = progress(stored)
        before, count = self._places.get(stored.digest, (here, 0))
        again = phase == "interrupted" and before == here  # otherwise, somebody has asked for the study
        self._places[stored.digest] = (here, count + 1 if again else 1)
        self._asked[stored.digest] = (time.monotonic(), self._last_word())
        message = ""
        if phase == "interrupted":
            state = stored.read_state()
            message = f"goes on from the last opened sum after an interruption ({state.message})"
            stored.update(interruptions=state.interruptions + 1)
            log.warning("%s: %s", stored.study.name, message)
        self._begin(self._home, stored, message)


def _begin(home: CoordinatorHome, stored: StoredStudy, message: str) -> None:
    start(home, stored, "train", patience=0.0, message=message)


def _occupy(stored: StoredStudy, busy: dict[str, str]) -> None:
    for name in stored.study.sites:
        busy.setdefault(name, stored.study.name)


def _wait(stored: StoredStudy, ahead: list[str]) -> None:
    why = f"waits for sites of {', '.join(ahead)}" if ahead else "waits until fewer studies run"
    state = stored.read_state()
    if (state.phase, state.message) != ("queued", why):
        stored.update(phase="queued", message=why)


class Housekeeper:
    """Does what must not hold the supervisor up, in a thread: brings nodes in line with the roster, runs the queue.

    Each call wakes the thread up; a supervisor that is stopping calls no more.
    """

    def __init__(self, home: CoordinatorHome, tasks: tuple[Callable[[], None], ...]) -> None:
        self._home = home
        self._tasks = tasks
        self._wake = Event()
        self._thread = Thread(target=self._work, daemon=True, name="housekeeper")

    def __call__(self) -> None:
        """Wake the thread up; the first time, start it."""
        if not self._thread.ident:
            self._thread.start()
        self._wake.set()

    def _work(self) -> None:
        while self._wake.wait():
            self._wake.clear()
            if not listens(self._home.superlink_socket):
                continue  # its supervisor is starting it again
            for task in self._tasks:
                try:
                    task()
                except Exception:  # the thread must live as long as the services
                    log.exception("a task of the housekeeper failed")

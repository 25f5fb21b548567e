"""The queue: who begins when, what holds whom up, and what is left of it after a restart."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.consortium import Consortium
from tests.support.studies import study

from dura_common.errors import HostError
from dura_server.home import CoordinatorHome
from dura_server.services import scheduler as module
from dura_server.services.runs import DIED, halt
from dura_server.services.scheduler import Scheduler, enqueue
from dura_server.studies.queue import queue, wanted
from dura_server.studies.standing import phase_of
from dura_server.studies.store import StoredStudy, StudyStore

SITES = ("east", "north", "south", "west")
HOLD = "import sys,time\nfrom pathlib import Path\nfrom dura_common.runtime.running import Lock\n"
HOLD += "with Lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"
NOW = datetime.now(UTC)


class Processes:
    """Stands for Flower: a started study is a real process that holds the study's lock."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.running: dict[str, subprocess.Popen[str]] = {}
        self.broken = False

    def begin(self, _home: CoordinatorHome, stored: StoredStudy, message: str) -> None:
        """Start a process for a study."""
        if self.broken:
            raise HostError("the SuperLink does not answer")
        self.begun.append(stored.study.name)
        words = [sys.executable, "-c", HOLD, str(stored.run_folder)]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        self.running[stored.study.name] = process
        stored.update(phase="running", message=message)

    def end(self, stored: StoredStudy, phase: str | None = None) -> None:
        """Let the process of a study end, by itself or by a crash."""
        if phase is not None:
            stored.update(phase=phase)
        with self.running.pop(stored.study.name) as process:
            process.kill()


@pytest.fixture
def processes() -> Iterator[Processes]:
    """Return the processes of a test; none is left of them."""
    made = Processes()
    with ExitStack() as stack:
        yield made
        for process in made.running.values():
            stack.enter_context(process)
            process.kill()


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return a consortium of four hospitals that lives in the present."""
    made = Consortium(tmp_path, SITES, moment=None)
    made.make_all()
    return made


def submitted(consortium: Consortium, name: str, *sites: str) -> StoredStudy:
    """Return a study of some of the sites, in the queue."""
    stored, _ = consortium.submit(study(name=name, sites=dict.fromkeys(sites, 40)))
    enqueue(stored, NOW)
    return stored


def test_studies_that_share_no_site_run_side_by_side(consortium: Consortium, processes: Processes) -> None:
    """A third one waits for the first at the site that both need, says so, and begins when that is free."""
    first = submitted(consortium, "first", "east", "north")
    second = submitted(consortium, "second", "south", "west")
    third = submitted(consortium, "third", "north", "west")
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    scheduler.turn()
    assert processes.begun == ["first", "second"]
    assert (phase_of(third), third.read_state().message) == ("queued", "waits for sites of first, second")
    processes.end(second, "finished")
    scheduler.turn()
    assert third.read_state().message == "waits for sites of first"
    processes.end(first, "finished")
    scheduler.turn()
    assert processes.begun == ["first", "second", "third"]
    assert [stored.study.name for _, stored in queue(StudyStore(consortium.coordinator))] == ["third"]


def test_nobody_overtakes_at_a_site_that_both_need(consortium: Consortium, processes: Processes) -> None:
    """Otherwise small studies could keep a large one waiting for ever; at other sites they go on."""
    submitted(consortium, "first", "east", "north")
    submitted(consortium, "large", *SITES)
    submitted(consortium, "small", "south", "west")
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    scheduler.turn()
    assert processes.begun == ["first"]


def test_the_coordinators_own_limit_holds(consortium: Consortium, processes: Processes) -> None:
    """One study at once, in the order in which they were asked for."""
    first = submitted(consortium, "first", "east", "north")
    second = submitted(consortium, "second", "south", "west")
    scheduler = Scheduler(consortium.coordinator, 1, processes.begin)
    scheduler.turn()
    assert processes.begun == ["first"]
    assert second.read_state().message == "waits until fewer studies run"
    processes.end(first, "finished")
    scheduler.turn()
    assert processes.begun == ["first", "second"]


def test_a_stop_frees_the_next_one(consortium: Consortium, processes: Processes) -> None:
    """Whoever was stopped is not started again."""
    first = submitted(consortium, "first", "east", "north")
    submitted(consortium, "second", "east", "north")
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    scheduler.turn()
    assert halt(consortium.coordinator, first).phase == "stopped"
    scheduler.turn()
    scheduler.turn()
    assert processes.begun == ["first", "second"]
    assert wanted(first) is None
    enqueue(first, NOW)
    scheduler.turn()
    assert phase_of(first) == "queued"


def test_a_new_coordinator_continues_with_the_queue(consortium: Consortium, processes: Processes) -> None:
    """After a reboot the study that ran goes on, and the next one still waits behind it."""
    first = submitted(consortium, "first", "east", "north")
    second = submitted(consortium, "second", "east", "north")
    Scheduler(consortium.coordinator, 4, processes.begin).turn()
    processes.end(first)
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    scheduler.turn()
    assert processes.begun == ["first", "first"]
    assert "after an interruption" in first.read_state().message
    assert first.read_state().interruptions == 1
    assert phase_of(second) == "queued"


def test_a_study_that_dies_at_one_place_is_given_up(consortium: Consortium, processes: Processes) -> None:
    """It is started again once; progress allows another try. The state says what happened and names the log."""
    first = submitted(consortium, "first", "east", "north")
    submitted(consortium, "second", "east", "north")
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    scheduler.turn()
    processes.end(first)
    scheduler.turn()
    first.update(round=1)
    processes.end(first)
    scheduler.turn()
    processes.end(first)
    scheduler.turn()
    processes.end(first)
    scheduler.turn()
    assert processes.begun == ["first"] * 4 + ["second"]
    assert phase_of(first) == "interrupted"
    assert first.read_state().message == DIED


def test_a_study_that_was_given_up_and_asked_for_again_is_given_up_again(
    consortium: Consortium, processes: Processes
) -> None:
    """Each time somebody asks, its process is started twice and no more: it never dies and starts without an end."""
    first = submitted(consortium, "first", "east", "north")
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    for asked in (1, 2, 3):
        for _ in range(4):
            scheduler.turn()
            if "first" in processes.running:
                processes.end(first)
        assert processes.begun == ["first"] * 2 * asked
        assert (phase_of(first), wanted(first)) == ("interrupted", None)
        enqueue(first, NOW)


def test_missing_approvals_hold_nobody_up(consortium: Consortium, processes: Processes) -> None:
    """The study is asked for again until its time is over; meanwhile its sites are free."""
    first = submitted(consortium, "first", "east", "north")
    enqueue(first, NOW + timedelta(hours=1))
    second = submitted(consortium, "second", "east", "north")
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    scheduler.turn()
    processes.end(first, "unapproved")
    scheduler.turn()
    assert processes.begun == ["first", "second"]
    assert (phase_of(first), wanted(first) is None) == ("unapproved", False)
    processes.end(second, "unapproved")
    scheduler.turn()
    assert wanted(second) is None, "nobody waits for its approvals"


def test_a_word_of_an_approval_ends_the_wait(
    consortium: Consortium, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sites are asked at once after one has said that it approved, once for each word, and otherwise after a while."""
    first = submitted(consortium, "first", "east", "north")
    enqueue(first, NOW + timedelta(hours=1))
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    scheduler.turn()
    processes.end(first, "unapproved")
    monkeypatch.setattr(module, "SOON_SECONDS", 0.0)
    scheduler.turn()
    assert processes.begun == ["first"], "nobody has said anything"
    consortium.coordinator.run.mkdir(exist_ok=True)
    consortium.coordinator.approved.touch()
    scheduler.turn()
    processes.end(first, "unapproved")
    scheduler.turn()
    assert processes.begun == ["first"] * 2
    monkeypatch.setattr(module, "ASK_SECONDS", 0.0)
    scheduler.turn()
    assert processes.begun == ["first"] * 3


def test_a_superlink_that_does_not_answer_costs_nothing(consortium: Consortium, processes: Processes) -> None:
    """The study keeps its place and is tried again at the next turn."""
    first = submitted(consortium, "first", "east", "north")
    scheduler = Scheduler(consortium.coordinator, 4, processes.begin)
    processes.broken = True
    scheduler.turn()
    assert (phase_of(first), wanted(first) is None) == ("queued", False)
    processes.broken = False
    scheduler.turn()
    assert processes.begun == ["first"]

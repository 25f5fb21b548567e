"""What can befall a running consortium: which processes, when in a study, and how; and what an operator does then."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from tests.federation.hospitals import Hospitals, Place, small_study
from tests.support.commands import DURA, dura
from tests.support.processes import alive, children, processes_of, wait_until

from dura_common.runtime.running import holder, status
from dura_common.study import Study
from dura_server.studies.store import StoredStudy

VICTIM = "east"
"""The hospital that is struck."""
STOPPED_SECONDS = 30.0
RUNS = 4
"""How often an operator asks for the study before giving up."""
RUN_SECONDS = 400.0

VICTIMS = (
    "superlink",
    "superexec",
    "serverapp",
    "aggregator",
    "gateway",
    "supervisor",
    "study run",
    "supernode",
    "runner",
    "site",
    "coordinator",
)
STAGES = ("before", "step sum", "round sum", "evaluation", "between rounds", "stopping")
STRIKES = ("kill", "freeze", "full disk", "reboot")

WRITERS = {"superlink", "serverapp", "aggregator", "runner", "site", "coordinator"}
HOSTS = {"site", "coordinator"}
PLACES = {
    "step sum": Place("mask", "train", 1, step=2),
    "round sum": Place("mask", "train", 1, step=1),
    "evaluation": Place("mask", "evaluate", 1),
    "between rounds": Place("idle", "evaluate", 1),
    "stopping": Place("mask", "train", 1, step=2),
}


@dataclass(frozen=True)
class Cell:
    """One cell of the matrix."""

    victim: str
    stage: str
    strike: str

    @property
    def possible(self) -> bool:
        """Tell whether there is such a thing: only hosts reboot, and only who writes finds a disk full."""
        if self.strike == "reboot":
            return self.victim in HOSTS
        if self.strike == "full disk":
            return self.victim in WRITERS
        return True

    @property
    def name(self) -> str:
        """A word for the study."""
        return f"{self.victim}-{self.stage}-{self.strike}".replace(" ", "-")

    def study(self) -> Study:
        """Return a study that meets the stage."""
        return small_study(self.name, rounds=2, sums="round" if self.stage == "round sum" else "step")


class Operator:
    """Somebody who runs a study, notices what has ended, and starts it again."""

    def __init__(self, hospitals: Hospitals, stored: StoredStudy) -> None:
        self.hospitals = hospitals
        self.stored = stored
        self.running: subprocess.Popen[str] | None = None
        self.words: list[str] = []
        """What every run ended with."""

    def run(self) -> None:
        """Ask for the study, and do not wait."""
        words = [*DURA, "study", "run", self.stored.digest, "--json", "--home", str(self.hospitals.coordinator.path)]
        self.running = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def stop(self) -> subprocess.Popen[bytes]:
        """Ask for the study's end, and do not wait."""
        words = [*DURA, "study", "stop", self.stored.digest, "--json", "--home", str(self.hospitals.coordinator.path)]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def to_the_end(self) -> None:
        """Start what has ended and ask for the study until it has finished."""
        for _ in range(RUNS):
            if self.running is None:
                start_what_ended(self.hospitals)
                self.run()
            assert self.running is not None
            out, _ = self.running.communicate(timeout=RUN_SECONDS)
            self.words.append(out)
            assert "Traceback" not in out, out
            self.running = None
            if self.stored.read_state().phase == "finished":
                return
        raise AssertionError("the study does not finish:\n" + "\n".join(self.words))


def start_what_ended(made: Hospitals) -> None:
    """Start the coordinator and each hospital that does not run."""
    if holder(made.coordinator.run) is None:
        made.start_coordinator(**made.inside("coordinator"))
    for name in made.names:
        if holder(made.site(name).run) is None:
            made.start_site(name, **made.inside(name))


def make_whole(made: Hospitals) -> None:
    """See to it that everybody is there: the study before may have finished without a hospital that was struck."""
    start_what_ended(made)
    look = ("coordinator", "status", "--home", made.coordinator.path)
    wait_until(lambda: all(site["connected"] for site in dura(*look)["sites"]), "all sites are connected", 180)


def pids_of(hospitals: Hospitals, operator: Operator, victim: str) -> set[int]:
    """Return the processes that are struck."""
    coordinator, site = hospitals.coordinator, hospitals.site(VICTIM)
    if victim == "study run":
        return {operator.running.pid} if operator.running else set()
    if victim == "serverapp":
        pid = holder(operator.stored.run_folder)
        return {pid} if pid else set()
    if victim == "supervisor":
        return {int(status(coordinator.run)["pid"])}
    if victim in HOSTS:
        return processes_of((site if victim == "site" else coordinator).path) - _commands(operator)
    return {children((site if victim in {"supernode", "runner"} else coordinator).run)[victim]["pid"]}


def _commands(operator: Operator) -> set[int]:
    """Return the processes of commands: they look at the coordinator's folder from elsewhere, as it were."""
    return {operator.running.pid} if operator.running else set()


@contextmanager
def struck(hospitals: Hospitals, operator: Operator, cell: Cell) -> Iterator[None]:
    """Let a strike fall; what lasts for a while ends with the block."""
    pids = pids_of(hospitals, operator, cell.victim)
    assert pids or cell.stage == "before", "there is nothing to strike"
    if cell.strike in {"kill", "reboot"}:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in pids), "the victims are dead")
        yield
    elif cell.strike == "freeze":
        _signal(pids, signal.SIGSTOP)
        try:
            time.sleep(STOPPED_SECONDS)
        finally:
            _signal(pids, signal.SIGCONT)
        yield
    else:
        for pid in pids:
            _limit(pid, 0)  # as if no byte were left for whatever it writes
        yield
        for pid in processes_of(hospitals.root):  # whoever was started meanwhile has inherited the limit
            _limit(pid, None)


def _limit(pid: int, largest: int | None) -> None:
    """Limit the files that a process may write, in bytes, or take the limit away."""
    with suppress(ProcessLookupError):
        _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if largest is None else largest, hard))


def _signal(pids: set[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def play(hospitals: Hospitals, cell: Cell) -> StoredStudy:
    """Run a study, let the strike fall at its stage, and have the operator bring the study to its end."""
    make_whole(hospitals)
    stored = hospitals.approved(cell.study())
    operator = Operator(hospitals, stored)
    if cell.stage == "before":
        if cell.victim in {"serverapp", "study run"}:
            operator.run()
            wait_until(lambda: pids_of(hospitals, operator, cell.victim), "there is something to strike", 120)
        with struck(hospitals, operator, cell):
            time.sleep(1)
        _forget_the_dead(operator)
        operator.to_the_end()
        return stored
    go = hospitals.root / f"{stored.digest[:12]}.go"
    # Of this study only: who was killed while it waited has left its order behind.
    place = replace(PLACES[cell.stage], study=stored.digest)
    held = hospitals.order(VICTIM, place, wait_for=go).with_suffix(".there")
    operator.run()
    wait_until(held.exists, "the study has come to its stage", 240)
    stopping = operator.stop() if cell.stage == "stopping" else None
    with struck(hospitals, operator, cell):
        go.touch()
        time.sleep(5 if cell.strike == "full disk" else 0)
    if stopping is not None:
        stopping.wait(120)
    _forget_the_dead(operator)
    operator.to_the_end()
    return stored


def _forget_the_dead(operator: Operator) -> None:
    if operator.running is not None and operator.running.poll() is not None:
        operator.words.append(operator.running.communicate()[0])
        operator.running = None

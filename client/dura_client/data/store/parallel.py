"""Work on several processor cores, each in a process of its own, since readers listen to warnings process-wide.

A worker ends by itself when the process that gave it work is gone, however that ended.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import TypeVar

from dura_common.errors import HostError

Job = TypeVar("Job")
BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0))


def do_all(work: Callable[[Job], None], jobs: Sequence[Job], workers: int) -> Iterator[int]:
    """Do all jobs and yield the index of each that is done.

    After a fault no new job begins, those under way are finished, and the fault of the first of them is raised.

    Args:
        work: what to do; it is sent to each worker once, so it must be picklable.
        jobs: in the order in which they begin.
        workers: number of processes; with one, everything is done here.

    Raises:
        HostError: a worker died.
    """
    if min(workers, len(jobs)) < 2:  # noqa: PLR2004  # one process is this one
        for index, job in enumerate(jobs):
            work(job)
            yield index
        return
    team = [_Worker(work) for _ in range(min(workers, len(jobs)))]
    try:
        yield from _deal(team, jobs)
    finally:
        for worker in team:
            worker.end()


def _deal(team: Sequence[_Worker], jobs: Sequence[object]) -> Iterator[int]:
    waiting = iter(enumerate(jobs))
    busy: dict[Connection, tuple[_Worker, int]] = {}
    faults: dict[int, BaseException] = {}

    def give(worker: _Worker) -> None:
        item = None if faults else next(waiting, None)
        if item is None:
            return
        try:
            worker.pipe.send(item[1])
            busy[worker.pipe] = worker, item[0]
        except OSError:
            faults[item[0]] = _died()

    for worker in team:
        give(worker)
    while busy:
        ready = wait(list(busy))
        for pipe in [pipe for pipe in busy if pipe in ready]:
            worker, index = busy.pop(pipe)
            try:
                fault = pipe.recv()
            except (EOFError, OSError):
                fault = _died()
            if fault is not None:
                faults[index] = fault
            else:
                yield index
            give(worker)
    if faults:
        raise faults[min(faults)]


def _died() -> HostError:
    return HostError(
        "a process that prepared recordings died",
        hint="The machine may have too little memory. What was prepared is kept; repeat the command.",
    )


class _Worker:
    def __init__(self, work: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        before = {name: os.environ.get(name) for name in BLAS}
        os.environ.update(dict.fromkeys(BLAS, "1"))  # one core each
        try:
            self._process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
        theirs.close()

    def end(self) -> None:
        """End the process once its job is done; at once if nobody waits for it."""
        self.pipe.close()
        self._process.join(5)
        if self._process.is_alive():
            self._process.terminate()
            self._process.join()


def _serve(pipe: Connection, work: Callable[[object], None]) -> None:
    """Do jobs until nobody gives any."""
    while True:
        try:
            job = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            work(job)
            fault = None
        except Exception as error:  # noqa: BLE001  # whatever it is, the process that gave the job decides
            fault = error
        try:
            pipe.send(fault)
        except OSError:
            return

"""The queue of studies: which studies somebody wants to run, in the order in which they were asked for.

Each waiting or running study has one small file in its folder, so the queue survives every restart. The file is removed
when the study has ended, or when somebody stops the study.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from pydantic import ValidationError

from dura_common.errors import DuraError
from dura_common.runtime.files import exclusive, private_folder, read_limited, write_atomic
from dura_common.study import Frozen
from dura_server.studies.store import StoredStudy, StudyStore


class Wanted(Frozen):
    """One place in the queue."""

    since: datetime
    """Who asked first comes first."""
    until: datetime
    """Until when missing approvals are waited for."""


@contextmanager
def at_the_queue(stored: StoredStudy) -> Iterator[None]:
    """Let nobody else start a study, or move it in the queue, during a block."""
    with exclusive(stored.run_folder / "begin"):
        yield


def wanted(stored: StoredStudy) -> Wanted | None:
    """Return the place of a study in the queue, or None if it is not in the queue."""
    try:
        return Wanted.model_validate_json(read_limited(stored.queue_file, what="the place in the queue"))
    except (DuraError, ValidationError):
        return None


def want(stored: StoredStudy, now: datetime, until: datetime) -> None:
    """Put a study into the queue. A study that is in the queue keeps its place."""
    before = wanted(stored)
    place = Wanted(
        since=now if before is None else before.since, until=until if before is None else max(until, before.until)
    )
    private_folder(stored.run_folder)
    write_atomic(stored.queue_file, place.model_dump_json().encode())


def drop(stored: StoredStudy) -> None:
    """Take a study out of the queue."""
    stored.queue_file.unlink(missing_ok=True)


def queue(store: StudyStore) -> list[tuple[Wanted, StoredStudy]]:
    """Return all studies in the queue in their order, those that are running included.

    A study that was altered on disk is left out; `dura study status` says what is wrong with it.
    """
    found = []
    for digest in store.queued():
        try:
            stored = store.load(digest)
        except DuraError:
            continue
        place = wanted(stored)
        if place is not None:
            found.append((place, stored))
    return sorted(found, key=lambda item: (item[0].since, item[1].digest))

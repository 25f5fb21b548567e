"""The studies in a coordinator's folder, for its operator and for the errands of researchers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from dura_common.errors import HostError
from dura_common.runtime.running import holder
from dura_common.study import require_unexpired
from dura_server.commands.study.places.place import Job, Seen
from dura_server.consortium.enrolment import read_roster
from dura_server.desk.view import StudyView, SumsView, view_of
from dura_server.home import CoordinatorHome
from dura_server.services.runs import begin, follow_offer, halt, present, require_unfinished
from dura_server.services.scheduler import enqueue, follow, require_services
from dura_server.studies.store import StoredStudy, StudyStore
from dura_server.sums.client import standings

if TYPE_CHECKING:
    from dura_server.report.outcome import Extra
    from dura_server.report.result import StudyResult

WATCH_SECONDS = 0.5


class AtCoordinator:
    """See :class:`Place`; in the coordinator's folder."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home
        self._store = StudyStore(home)

    def all(self) -> list[StudyView]:
        """See :class:`Place`."""
        return [self._view(self._store.load(digest)) for digest in self._store.digests()]

    def find(self, reference: str) -> StudyView:
        """See :class:`Place`."""
        return self._view(self._store.find(reference))

    def look(self, digest: str) -> StudyView:
        """See :class:`Place`."""
        stored = self._store.load(digest)
        return self._view(stored).model_copy(update={"connected": self._connected(stored)})

    def submit(self, envelope: str) -> StudyView:
        """See :class:`Place`."""
        roster, roster_envelope = read_roster(self._home)
        require_unexpired(self._store.check(envelope, roster_envelope, roster), datetime.now(UTC))
        return view_of(self._store.submit(envelope, roster_envelope, roster))

    def begin(self, digest: str, job: Job, wait: float = 0.0) -> bool:
        """See :class:`Place`."""
        stored = self._store.load(digest)
        if job == "offer":
            return begin(self._home, stored, job)
        require_unfinished(stored)
        require_services(self._home)
        return enqueue(stored, datetime.now(UTC) + timedelta(seconds=wait))

    def follow(self, digest: str, job: Job, seen: Seen) -> StudyView:
        """See :class:`Place`; it also ends when the services have stopped."""
        stored = self._store.load(digest)
        if job == "offer":
            follow_offer(self._home, stored, changed=lambda _: seen(self._view(stored)))
        else:
            follow(self._home, stored, lambda: seen(self._view(stored)))
        return self._view(stored)

    def changes(self, digest: str) -> Iterator[StudyView]:
        """See :class:`Place`."""
        stored, last = self._store.load(digest), None
        while last is None or last.goes_on:
            view = self._view(stored)
            if view.goes_on:
                view = view.model_copy(update={"sums": self._sums(digest)})
            if view != last:
                yield view
            last = view
            if view.goes_on:
                time.sleep(WATCH_SECONDS)

    def stop(self, digest: str) -> StudyView:
        """See :class:`Place`."""
        stored = self._store.load(digest)
        halt(self._home, stored)
        return self._view(stored)

    def result(self, digest: str, extra: Extra | None) -> StudyResult:
        """See :class:`Place`."""
        from dura_server.report.outcome import result_of  # draws pictures

        return result_of(self._store.load(digest), extra)

    def model(self, digest: str) -> bytes:
        """See :class:`Place`."""
        return self._store.load(digest).model_file.read_bytes()

    def _view(self, stored: StoredStudy) -> StudyView:
        return view_of(stored).model_copy(update={"state": present(stored)})

    def _connected(self, stored: StoredStudy) -> dict[str, bool] | None:
        """Return whether each site's node is connected; None if the services do not run."""
        if holder(self._home.run) is None:
            return None
        from dura_server.services.superlink import connected  # Flower takes a second

        try:
            online = connected(self._home, stored.roster)
        except HostError:
            return None
        return {name: online.get(name, False) for name in stored.study.sites}

    def _sums(self, digest: str) -> SumsView | None:
        try:
            found = [one for one in standings(self._home) if one.study == digest]
        except HostError:
            return None
        if not found:
            return None
        one = found[-1]
        missing = tuple(sorted(set(one.members) - set(one.attending)))
        return SumsView(purpose=one.purpose, round=one.round, opened=one.opened, of=one.sums, waits_for=missing)

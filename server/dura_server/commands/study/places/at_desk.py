"""A researcher's own studies, through the coordinator's door for researchers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from dura_common.consortium.chain import Link
from dura_common.errors import HostError, InputError
from dura_common.study.reference import find_study
from dura_server.commands.study.places.place import Job, Seen
from dura_server.desk.client import DeskClient, Unreachable
from dura_server.desk.membership import Membership, follow
from dura_server.desk.request import Action
from dura_server.desk.view import StudyView
from dura_server.studies.store import MAX_MODEL_BYTES

if TYPE_CHECKING:
    from dura_server.report.outcome import Extra
    from dura_server.report.result import StudyResult

PATIENCE_SECONDS = 300.0
"""How long a desk that watches a study waits for a coordinator that does not answer."""
RETRY_SECONDS = 2.0
M = TypeVar("M", bound=BaseModel)


class _Begun(BaseModel):
    begun: bool


class AtDesk:
    """Through the coordinator's door for researchers; only this researcher's studies are there."""

    def __init__(self, here: Membership) -> None:
        self._here = here
        self._client = DeskClient(here, datetime.now(UTC))

    def follow_rosters(self) -> Membership:
        """Follow the rosters that the sites have countersigned since.

        Raises:
            TrustError: a roster contradicts the one followed here, or does not list this researcher.
        """
        links = list(self._client.documents("rosters", Link, serial=self._here.roster.serial))
        self._here = follow(self._here.home, links)
        return self._here

    def all(self) -> list[StudyView]:
        """See :class:`Place`."""
        return list(self._client.documents("list", StudyView))

    def find(self, reference: str) -> StudyView:
        """See :class:`Place`."""
        views = {view.digest: view for view in self.all()}
        known: dict[str, str | None] = {digest: view.study.name for digest, view in views.items()}
        return views[find_study(reference, known, where="submitted studies", lister="dura study list")]

    def look(self, digest: str) -> StudyView:
        """See :class:`Place`."""
        return self._one("look", StudyView, study=digest)

    def submit(self, envelope: str) -> StudyView:
        """See :class:`Place`."""
        return self._one("submit", StudyView, document=envelope)

    def begin(self, digest: str, job: Job, wait: float = 0.0) -> bool:  # noqa: ARG002  # the command waits for approvals
        """See :class:`Place`; to submit a study is to begin offering it."""
        return True if job == "offer" else self._one("run", _Begun, study=digest).begun

    def follow(self, digest: str, job: Job, seen: Seen) -> StudyView:  # noqa: ARG002  # the coordinator knows the job
        """See :class:`Place`."""
        last: StudyView | None = None
        for last in self.changes(digest):
            seen(last)
        if last is None:
            raise HostError("the coordinator said nothing about the study")
        return last

    def changes(self, digest: str) -> Iterator[StudyView]:
        """See :class:`Place`. A coordinator that is lost meanwhile is asked again for some minutes."""
        heard, last = time.monotonic(), None
        while last is None or last.goes_on:
            try:
                for view in self._client.documents("watch", StudyView, study=digest):
                    heard, last = time.monotonic(), view
                    yield view
            except Unreachable:
                if last is None or time.monotonic() - heard > PATIENCE_SECONDS:
                    raise
            if last is None or last.goes_on:  # it ended early, whatever the reason
                time.sleep(RETRY_SECONDS)

    def stop(self, digest: str) -> StudyView:
        """See :class:`Place`."""
        return self._one("stop", StudyView, study=digest)

    def result(self, digest: str, extra: Extra | None) -> StudyResult:
        """See :class:`Place`."""
        if extra is not None:
            raise InputError("a simulation's figures are added at the coordinator's machine: give --home")
        from dura_server.report.result import StudyResult  # its package draws pictures

        found = self._one("result", StudyResult, study=digest)
        if found.digest != digest:
            raise InputError("the coordinator sent the result of another study")
        return found

    def model(self, digest: str) -> bytes:
        """See :class:`Place`."""
        return b"".join(self._client.content("model", MAX_MODEL_BYTES, study=digest))

    def _one(self, action: Action, model: type[M], **fields: Any) -> M:
        """Ask for one document.

        Raises:
            InputError: the coordinator sent none.
        """
        for found in self._client.documents(action, model, **fields):
            return found
        raise InputError("the coordinator sent no answer")

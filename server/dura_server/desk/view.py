"""What the coordinator tells of a study, at its own machine and to a desk: released words and sums only."""

from __future__ import annotations

import re

from dura_common.study import Digest, Frozen, SiteName, Study
from dura_common.study.reference import SHORT_DIGITS
from dura_server.studies.queue import wanted
from dura_server.studies.standing import phase_of
from dura_server.studies.state import ACTIVE, StudyState
from dura_server.studies.store import StoredStudy

PATH = re.compile(r"(?<![\w/])/(?:[^\s/:]+/)+[^\s/:;,]*")


def without_paths(text: str) -> str:
    """Return what may be said to a desk: a fault's message without places in the coordinator's file system."""
    return PATH.sub("(a file of the coordinator)", text)


class SumsView(Frozen):
    """The secure sum that is open, if any."""

    purpose: str
    round: int
    opened: int
    of: int
    waits_for: tuple[SiteName, ...] = ()


class StudyView(Frozen):
    """One study as it stands now."""

    digest: Digest
    study: Study
    state: StudyState
    """With the phase that was checked against the study's process."""
    connected: dict[SiteName, bool] | None = None
    """Whether each site's node is connected; None if nobody asked, or the services do not run."""
    sums: SumsView | None = None
    queued: bool = False
    """Whether the study is in the queue: it waits, runs, or goes on by itself after an interruption."""
    model: bool
    """Whether there is a trained model."""

    @property
    def goes_on(self) -> bool:
        """Whether the study changes by itself: a process works on it, or the queue will start one."""
        return self.queued or self.state.phase in ACTIVE

    def for_desk(self) -> StudyView:
        """Return the view without what concerns only the coordinator's machine."""
        own: dict[str, object] = {"run": None, "attempts": {}, "message": without_paths(self.state.message)}
        return self.model_copy(update={"state": self.state.model_copy(update=own)})

    def short(self) -> str:
        """Return name and beginning of the digest, for people."""
        return f"{self.study.name} ({self.digest[:SHORT_DIGITS]})"


def view_of(
    stored: StoredStudy, *, sums: SumsView | None = None, connected: dict[str, bool] | None = None
) -> StudyView:
    """Return how a study stands now."""
    state = stored.read_state().model_copy(update={"phase": phase_of(stored)})
    return StudyView(
        digest=stored.digest,
        study=stored.study,
        state=state,
        connected=connected,
        sums=sums,
        queued=wanted(stored) is not None,
        model=stored.model_file.exists(),
    )

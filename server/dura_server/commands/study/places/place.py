"""What the commands of `dura study` need, wherever they act."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal, Protocol

from dura_server.desk.view import StudyView

if TYPE_CHECKING:
    from dura_server.report.outcome import Extra
    from dura_server.report.result import StudyResult

Job = Literal["offer", "train"]
Seen = Callable[[StudyView], None]


class Place(Protocol):
    """What the commands need, wherever they act."""

    def all(self) -> list[StudyView]:
        """Return the studies, oldest first."""
        ...

    def find(self, reference: str) -> StudyView:
        """Return the study that a person means (:mod:`dura_common.study.reference`), without its connections."""
        ...

    def look(self, digest: str) -> StudyView:
        """Return one study with its connections."""
        ...

    def submit(self, envelope: str) -> StudyView:
        """Store a signed study, and begin to offer it."""
        ...

    def begin(self, digest: str, job: Job, wait: float = 0.0) -> bool:
        """Offer a study, or put it into the queue; False if it was there already, or a process works on it.

        ``wait`` is the number of seconds for which the queue waits for missing approvals.
        """
        ...

    def follow(self, digest: str, job: Job, seen: Seen) -> StudyView:
        """Wait until a study goes on no more by itself; call ``seen`` at every change."""
        ...

    def changes(self, digest: str) -> Iterator[StudyView]:
        """Yield a study at every change until it goes on no more by itself."""
        ...

    def stop(self, digest: str) -> StudyView:
        """Take a study out of the queue, and end its process."""
        ...

    def result(self, digest: str, extra: Extra | None) -> StudyResult:
        """Return the released figures of a finished study."""
        ...

    def model(self, digest: str) -> bytes:
        """Return the trained model (safetensors)."""
        ...

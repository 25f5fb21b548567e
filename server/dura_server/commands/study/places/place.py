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

    def begin(self, digest: str, job: Job) -> bool:
        """Start a process for a study; False if one works on it already."""
        ...

    def follow(self, digest: str, job: Job, seen: Seen) -> StudyView:
        """Wait until no process works on a study any more; call ``seen`` at every change."""
        ...

    def changes(self, digest: str) -> Iterator[StudyView]:
        """Yield a study at every change until no process works on it any more."""
        ...

    def stop(self, digest: str) -> StudyView:
        """End the process of a study."""
        ...

    def progress(self, digest: str) -> object:
        """Return something that differs when a study has come further."""
        ...

    def result(self, digest: str, extra: Extra | None) -> StudyResult:
        """Return the released figures of a finished study."""
        ...

    def model(self, digest: str) -> bytes:
        """Return the trained model (safetensors)."""
        ...

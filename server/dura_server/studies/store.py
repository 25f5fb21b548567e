"""Studies at the coordinator: the signed document, the state of its run, checkpoints and outcome, on disk.

Each study has one folder, named by the study's digest. Every file is replaced as a whole, so a crash leaves the last
good state.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from dura_common.consortium.envelope import digest as digest_of
from dura_common.consortium.envelope import payload_of, verify
from dura_common.consortium.roster import Roster
from dura_common.errors import InputError, StateError, TrustError
from dura_common.outputs.duplicates import Duplicates
from dura_common.runtime.files import private_folder, read_limited, write_atomic
from dura_common.study import STUDY_TYPE, Frozen, Study, StudyDocument, explain_validation
from dura_server.home import CoordinatorHome
from dura_server.studies.estimate import Outcome

MAX_MODEL_BYTES = 1 << 30
Phase = Literal["submitted", "offering", "offered", "asking", "unapproved", "running", "finished", "failed"]
"""offered: every site was asked to review the study; unapproved: too few sites approved, and nothing was computed."""


class CurvePoint(Frozen):
    """Released accuracy after one round. The last round also has the other outputs that the study asked for."""

    round: int
    accuracy: float
    standard_error: float
    auc: float | None = None
    auc_standard_error: float | None = None
    confusion: tuple[tuple[float | None, ...], ...] | None = None
    """Patients by true class (rows) and predicted class; None for a cell with too few patients."""
    confusion_standard_error: float | None = None


def point_of(round_number: int, outcome: Outcome) -> CurvePoint:
    """Return an evaluation's outcome in the form in which it is stored."""
    return CurvePoint(
        round=round_number,
        accuracy=outcome.accuracy.accuracy,
        standard_error=outcome.accuracy.standard_error,
        auc=None if outcome.auc is None else outcome.auc.area,
        auc_standard_error=None if outcome.auc is None else outcome.auc.standard_error,
        confusion=None if outcome.confusion is None else outcome.confusion.cells,
        confusion_standard_error=None if outcome.confusion is None else outcome.confusion.standard_error,
    )


class StudyState(Frozen):
    """The state of a study."""

    phase: Phase = "submitted"
    sites: dict[str, str] = Field(default_factory=dict)
    """Maps each site's name to offered, approved, declined, unreachable or the word of its refusal."""
    round: int = 0
    rounds: int
    curve: tuple[CurvePoint, ...] = ()
    duplicates: Duplicates | None = None
    """Recordings that several sites hold, if the study asks for this count and the sum was opened."""
    redraws: int = 0
    """The most draws that any site repeated after losses. Many repetitions are a reason for suspicion."""
    attempts: dict[str, int] = Field(default_factory=dict)
    """Maps purpose and round to the highest number of a request, over all runs."""
    message: str = ""
    """Tells the operator what to do next, or what went wrong."""
    updated: datetime


@dataclass(frozen=True, slots=True)
class StoredStudy:
    """A submitted study and its folder. Everything in this object was verified when it was read."""

    folder: Path
    digest: str
    study: Study
    roster: Roster
    study_envelope: str
    roster_envelope: str

    @property
    def state_file(self) -> Path:
        """The state of the run."""
        return self.folder / "state.json"

    @property
    def model_file(self) -> Path:
        """The trained model (safetensors)."""
        return self.folder / "model.safetensors"

    def read_state(self) -> StudyState:
        """Read the state; a newly submitted study has the initial state."""
        if not self.state_file.exists():
            return StudyState(rounds=self.study.training.rounds, updated=datetime.now(UTC))
        content = read_limited(self.state_file, what="the state of the study")
        try:
            return StudyState.model_validate_json(content)
        except ValidationError as error:
            raise explain_validation(error, what="the state of the study") from error

    def update(self, **changes: object) -> StudyState:
        """Replace parts of the state durably and return it."""
        values = {**self.read_state().model_dump(), **changes, "updated": datetime.now(UTC)}
        state = StudyState.model_validate(values)
        write_atomic(self.state_file, state.model_dump_json(indent=2).encode())
        return state

    def checkpoint(self, round_number: int, parameters: NDArray[np.float32]) -> None:
        """Store the common parameters after a round."""
        folder = private_folder(self.folder / "checkpoints")
        write_atomic(folder / f"round-{round_number:05d}.safetensors", save_tensors({"parameters": parameters}))

    def write_model(self, parameters: NDArray[np.float32]) -> None:
        """Write the outcome. The metadata of the model file name the study."""
        metadata = {
            "format": "dura-model-1",
            "study": self.digest,
            "name": self.study.name,
            "model": self.study.model.model_dump_json(),
            "data": self.study.data.model_dump_json(),
        }
        write_atomic(self.model_file, save_tensors({"parameters": parameters}, metadata=metadata))

    def read_model(self) -> NDArray[np.float32]:
        """Read the trained parameters (1-D float32).

        Raises:
            InputError: the study has not finished.
        """
        content = read_limited(self.model_file, what="the trained model", limit=MAX_MODEL_BYTES)
        return load_tensors(content)["parameters"]


class StudyStore:
    """The studies of one coordinator."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home

    def submit(self, study_envelope: str, roster_envelope: str, roster: Roster) -> StoredStudy:
        """Verify and keep a signed study.

        Raises:
            TrustError: no researcher on the roster has signed the study, or the study names another roster.
            InputError: the document is not valid.
        """
        digest, study = _verify(study_envelope, roster_envelope, roster)
        folder = private_folder(private_folder(self._home.studies) / digest)
        write_atomic(folder / "study.json", study_envelope.encode())
        write_atomic(folder / "roster.json", roster_envelope.encode())
        stored = StoredStudy(folder, digest, study, roster, study_envelope, roster_envelope)
        if not stored.state_file.exists():
            stored.update(phase="submitted")
        return stored

    def digests(self) -> tuple[str, ...]:
        """Return the digests of all submitted studies, oldest first."""
        if not self._home.studies.exists():
            return ()
        folders = [path for path in self._home.studies.iterdir() if (path / "study.json").exists()]
        return tuple(path.name for path in sorted(folders, key=lambda path: (path / "study.json").stat().st_mtime))

    def load(self, reference: str) -> StoredStudy:
        """Find a study by digest, unique start of a digest, or unique name.

        Raises:
            StateError: no study fits, or more than one.
        """
        matches = [found for found in self.digests() if found.startswith(reference)]
        if not matches:
            matches = [found for found in self.digests() if self._read(found).study.name == reference]
        if len(matches) != 1:
            raise StateError(
                f"{'no' if not matches else 'more than one'} submitted study is called {reference!r}",
                hint="`dura study status` lists the submitted studies with their digests.",
            )
        return self._read(matches[0])

    def _read(self, digest: str) -> StoredStudy:
        folder = self._home.studies / digest
        study_envelope = read_limited(folder / "study.json", what="the submitted study").decode()
        roster_envelope = read_limited(folder / "roster.json", what="the study's roster").decode()
        roster = Roster.model_validate_json(payload_of(roster_envelope))
        found, study = _verify(study_envelope, roster_envelope, roster)
        if found != digest:
            raise TrustError("the stored study was altered: its digest is not the name of its folder")
        return StoredStudy(folder, digest, study, roster, study_envelope, roster_envelope)


def _verify(study_envelope: str, roster_envelope: str, roster: Roster) -> tuple[str, Study]:
    keys = [researcher.public_key() for researcher in roster.researchers]
    if not keys:
        raise TrustError(
            "the roster lists no researcher, so nobody may sign a study",
            hint="Admit a researcher's card with `dura authority admit`.",
        )
    payload = verify(study_envelope, STUDY_TYPE, keys)
    try:
        document = StudyDocument.model_validate_json(payload)
    except ValidationError as error:
        raise explain_validation(error, what="the signed study") from error
    if document.roster != digest_of(payload_of(roster_envelope)):
        raise TrustError(
            "the study was signed for another roster", hint="Sign the study again with the current roster."
        )
    unknown = sorted(set(document.study.sites) - {site.name for site in roster.sites})
    if unknown:
        raise InputError(f"the study lists sites that are not on the roster: {', '.join(unknown)}")
    return digest_of(payload), document.study

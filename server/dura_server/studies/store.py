"""Studies at the coordinator: the signed document, the state of its run, checkpoints and outcome, on disk.

Each study has one folder, named by the study's digest. Every file is replaced as a whole, so a crash leaves the last
good state.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from dura_common.consortium.envelope import digest as digest_of
from dura_common.consortium.envelope import payload_of, verify
from dura_common.consortium.roster import Roster
from dura_common.errors import DuraError, InputError, TrustError
from dura_common.runtime.files import exclusive, private_folder, read_limited, write_atomic
from dura_common.study import STUDY_TYPE, Study, StudyDocument, explain_validation
from dura_common.study.reference import find_study
from dura_server.home import CoordinatorHome
from dura_server.studies.state import StudyState

MAX_MODEL_BYTES = 1 << 30


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
    def run_folder(self) -> Path:
        """The folder in which the process that runs this study holds its lock."""
        return self.folder / "run"

    @property
    def stop_file(self) -> Path:
        """Exists from the moment the operator asks this study to stop until the study runs again."""
        return self.run_folder / "stop"

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
        """Replace parts of the state durably and return it; a command and the study's process may do so at once."""
        with exclusive(self.folder / "state.lock"):
            values = {**self.read_state().model_dump(), **changes, "updated": datetime.now(UTC)}
            state = StudyState.model_validate(values)
            write_atomic(self.state_file, state.model_dump_json(indent=2).encode())
        return state

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

    def check(self, study_envelope: str, roster_envelope: str, roster: Roster) -> Study:
        """Verify a signed study, as :meth:`submit` does, and store nothing."""
        return _verify(study_envelope, roster_envelope, roster)[1]

    def submit(self, study_envelope: str, roster_envelope: str, roster: Roster) -> StoredStudy:
        """Verify and store a signed study. A study that was submitted before stays unchanged.

        Raises:
            TrustError: no researcher on the roster has signed the study, or the study names another roster.
            InputError: the document is not valid.
        """
        digest, study = _verify(study_envelope, roster_envelope, roster)
        folder = private_folder(private_folder(self._home.studies) / digest)
        if (folder / "state.json").exists():
            return self.load(digest)  # the stored study stays, because it may be running
        write_atomic(folder / "roster.json", roster_envelope.encode())
        write_atomic(folder / "study.json", study_envelope.encode())
        stored = StoredStudy(folder, digest, study, roster, study_envelope, roster_envelope)
        stored.update(phase="submitted")
        return stored

    def digests(self) -> tuple[str, ...]:
        """Return the digests of all submitted studies, oldest first."""
        if not self._home.studies.exists():
            return ()
        folders = [path for path in self._home.studies.iterdir() if (path / "study.json").exists()]
        return tuple(path.name for path in sorted(folders, key=lambda path: (path / "study.json").stat().st_mtime))

    def names(self) -> dict[str, str | None]:
        """Return the name of each study by its digest, oldest first; None if the name cannot be read."""
        return {digest: self._name(digest) for digest in self.digests()}

    def find(self, reference: str) -> StoredStudy:
        """Find the study that a person means; see :mod:`dura_common.study.reference`.

        Raises:
            StateError: none or more than one fits.
            TrustError: it was altered on disk.
        """
        return self.load(find_study(reference, self.names(), where="submitted studies", lister="dura study list"))

    def load(self, digest: str) -> StoredStudy:
        """Read a study by its whole digest.

        Raises:
            InputError: there is none.
            TrustError: it was altered on disk.
        """
        folder = self._home.studies / digest
        study_envelope = read_limited(folder / "study.json", what="the submitted study").decode()
        roster_envelope = read_limited(folder / "roster.json", what="the study's roster").decode()
        roster = Roster.model_validate_json(payload_of(roster_envelope))
        found, study = _verify(study_envelope, roster_envelope, roster)
        if found != digest:
            raise TrustError("the stored study was altered: its digest is not the name of its folder")
        return StoredStudy(folder, digest, study, roster, study_envelope, roster_envelope)

    def _name(self, digest: str) -> str | None:
        """Return a study's name without verifying anything: what it names is verified when it is read."""
        try:
            envelope = read_limited(self._home.studies / digest / "study.json", what="the submitted study").decode()
            return StudyDocument.model_validate_json(payload_of(envelope)).study.name
        except (DuraError, ValidationError, UnicodeDecodeError):
            return None


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

"""Sources whose example is one vector: the connectome of a recording, or a row of a table.

A vector depends on one recording or row, and on the constants of the study. What cannot be used is left out with its
reason, and named in the findings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import Finding, found
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.recordings.source import Unreadable
from dura_client.data.sources.answers import Answers, answers_for, label_kind, scaled
from dura_client.data.sources.columns import table_files
from dura_client.data.sources.connectomes import edges_of, gaussian_ranks, root_edges
from dura_client.data.sources.leaving_out import Broken
from dura_client.data.sources.series import Series, find_series, read_series
from dura_client.data.store.digests import FileDigests
from dura_client.data.store.fingerprint import as_rows, keyed
from dura_client.data.store.seal import Seal
from dura_common.errors import InputError
from dura_common.study import ConnectomeContract, DataContract, TableContract

LABEL = b"dura vector v1\0"


@dataclass(frozen=True, slots=True)
class Example:
    """One vector of a patient, or why there is none."""

    session: str | None
    vector: NDArray[np.float64] | None
    broken: Broken
    content: bytes
    """Plain digest of what the vector was made of: equal for copies."""


@dataclass(frozen=True)
class ConnectomeSource:
    """Connectomes of a data set."""

    dataset: DataSet
    contract: ConnectomeContract
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def people(self) -> dict[str, list[Series]]:
        """Series by patient."""
        return find_series(self.dataset, self.contract)

    @cached_property
    def answers(self) -> Answers | None:
        """What the tables answer."""
        return answers_for(self.dataset, self.contract)

    @property
    def files(self) -> list[Path]:
        """Files on which the vectors depend, beside the tables."""
        return [item.path for items in self.people.values() for item in items if item.path.exists()]

    @property
    def subjects(self) -> list[str]:
        """Patients with series."""
        return sorted(self.people)

    def examples(self, subject: str) -> list[Example]:
        """Return one example for each recording of a patient."""
        return [self._example(item) for item in self.people.get(subject, [])]

    def _example(self, item: Series) -> Example:
        place = str(item.path.relative_to(Path(self.dataset.root).resolve())) if self.dataset.series else item.path.name
        place += f" ({item.key})" if item.key else ""
        try:
            series = read_series(item)
        except Unreadable as error:
            self.findings.append(found(error.note.code, place, error.note.cause, remedy=error.note.remedy))
            return Example(item.session, None, Broken.FORM, b"")
        content = hashlib.sha256(LABEL + repr(series.shape).encode() + series.astype("<f4").tobytes()).digest()
        wanted = self.contract.regions
        if series.shape[1] != wanted:
            turned = ": the table looks transposed" if series.shape[0] == wanted else ""
            cause = f"it has {series.shape[1]} columns, and the study's atlas has {wanted} regions{turned}"
            self.findings.append(found("ROI-ORDER", place, cause))
            return Example(item.session, None, Broken.FORM, content)
        if series.shape[0] < self.contract.fewest_volumes:
            cause = f"it has {series.shape[0]} volumes; the study wants {self.contract.fewest_volumes}"
            self.findings.append(found("ROI-SHORT", place, cause))
            return Example(item.session, None, Broken.SHORT, content)
        edges, lost = edges_of(series, self.contract.edges)
        if lost:
            used = lost <= self.contract.most_lost_regions
            cause = f"{round(lost * wanted)} of {wanted} regions are flat or have values that are not numbers"
            self.findings.append(
                found("ROI-FLAT", place, cause + ("; their edges count as zero" if used else "; it is not used"))
            )
            if not used:
                return Example(item.session, None, Broken.REGIONS, content)
        return Example(item.session, edges, Broken(0), content)


@dataclass(frozen=True)
class TableSource:
    """Rows of tables."""

    dataset: DataSet
    contract: TableContract
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def answers(self) -> Answers:
        """What the tables answer.

        Raises:
            InputError: a feature has no column.
        """
        answers = answers_for(self.dataset, self.contract)
        if answers is None:  # a contract for tables always has a label in a column
            raise TypeError("a table's label stands in a table")
        known = answers.tables.columns()
        absent = [name for name in self.contract.names if self.dataset.column_of(name) not in known]
        if absent:
            raise InputError(
                f"no table of the data set {self.dataset.name} has the columns {', '.join(absent[:8])}",
                hint=f"Say what they are called here: `dura site data update {self.dataset.name} --column "
                f"{absent[0]}=NAME`, or name the table that has them with --table.",
            )
        return answers

    @property
    def files(self) -> list[Path]:
        """Files on which the vectors depend, beside the tables."""
        return []

    @property
    def subjects(self) -> list[str]:
        """Patients with a row."""
        return sorted({*self.answers.tables.people, *self.answers.tables.visits})

    def examples(self, subject: str) -> list[Example]:
        """Return one example for each visit that has a feature, or one of the patient's own row."""
        columns = {self.dataset.column_of(name) for name in self.contract.names}
        visits = self.answers.tables.visits.get(subject, {})
        sessions: list[str | None] = [label for label, row in visits.items() if columns & row.keys()]
        if not sessions:
            sessions = [None] if self.contract.label == "participant" else list(visits)
        return [self._example(subject, session) for session in sessions]

    def _example(self, subject: str, session: str | None) -> Example:
        cells = {
            name: self.answers.tables.cell(subject, session, self.dataset.column_of(name))
            for name in self.contract.names
        }
        content = hashlib.sha256(LABEL + repr(sorted(cells.items())).encode()).digest()
        vector, missing = row_of(self.contract, cells, self.dataset.missing)
        if missing > self.contract.most_missing:
            return Example(session, None, Broken.CELLS, content)
        return Example(session, vector, Broken(0), content)


@declares(PrivacyClass.PER_PATIENT)
def row_of(
    contract: TableContract, cells: dict[str, str | None], missing: tuple[str, ...]
) -> tuple[NDArray[np.float64], float]:
    """Return a row's features from -1 to 1 with a last one that is always 1, and the share that was missing."""
    whole = None
    if contract.relative_to is not None:
        low, high = contract.features[contract.relative_to]
        share = scaled(cells[contract.relative_to], (low, high), contract.outside, missing)
        whole = None if share is None else low + (share + 1) / 2 * (high - low)
    values: list[float | None] = []
    for name in contract.names:
        cell = cells[name]
        if contract.relative_to is not None and name != contract.relative_to:
            cell = _ratio(cell, whole, missing)
        values.append(scaled(cell, contract.features[name], contract.outside, missing))
    lost = sum(value is None for value in values) / len(values)
    return np.array([0.0 if value is None else value for value in values] + [1.0]), lost


def _ratio(cell: str | None, whole: float | None, missing: tuple[str, ...]) -> str | None:
    plain = scaled(cell, (-1.0, 1.0), "clip", missing)  # only to learn whether it is a number
    if cell is None or plain is None or not whole:
        return None
    return repr(float(cell) / whole)


Vectors = ConnectomeSource | TableSource


def vectors_of(dataset: DataSet, contract: DataContract) -> Vectors:
    """Return the vectors of a contract whose examples are vectors."""
    if isinstance(contract, ConnectomeContract):
        return ConnectomeSource(dataset, contract)
    if isinstance(contract, TableContract):
        return TableSource(dataset, contract)
    raise TypeError(f"no vectors are known for {type(contract).__name__}")


def vector_steps(contract: DataContract) -> list[Callable[..., Any]]:
    """Return what the data of a contract go through, in order."""
    if isinstance(contract, ConnectomeContract):
        more: list[Callable[..., Any]] = [root_edges] if contract.edges.startswith("root") else []
        more += [gaussian_ranks] if contract.edges.endswith("ranks") else []
        return [edges_of, *more, Answers.of]
    return [row_of, Answers.of]


@dataclass(frozen=True)
class VectorSource:
    """Brings the patients of a data set to a contract whose examples are vectors."""

    vectors: Vectors

    def patients(self) -> list[tuple[str, str]]:
        """Return each patient."""
        if self.vectors.answers is None:
            raise TypeError("the label of a vector stands in a table")
        return [(subject, subject) for subject in self.vectors.subjects]

    def files(self, items: str) -> list[Path]:  # noqa: ARG002  # a table holds all patients
        """Return every file on which a patient depends."""
        return sorted({*self.vectors.files, *table_files(self.vectors.dataset)})

    def name(self, items: str, digests: FileDigests) -> str:
        """Return a name that changes with the registration and every file, 32 hex digits."""
        dataset = self.vectors.dataset.model_dump(mode="json", exclude={"name", "simulated", "root"})
        hasher = hashlib.sha256(f"dura vectors\0{dataset}\0".encode())
        for path in self.files(items):
            hasher.update(f"{path.name}\0{digests.of(path)}\0".encode())
        return hasher.hexdigest()[:32]

    def arrays(self, items: str, key: bytes, _work: Path, _seal: Seal | None) -> dict[str, NDArray[Any]]:
        """Prepare one patient."""
        contract, answers = self.vectors.contract, self.vectors.answers
        examples = self.vectors.examples(items)
        said = [None if answers is None else answers.of(items, example.session) for example in examples]
        used = [index for index, item in enumerate(examples) if item.vector is not None and said[index] is not None]
        broken = [
            item.broken | (Broken.ANSWER if answer is None else Broken(0))
            for item, answer in zip(examples, said, strict=True)
        ]
        vectors = [vector[None] for index in used if (vector := examples[index].vector) is not None]
        contents = [item.content for item in examples if item.content]
        return {
            "windows": np.stack(vectors).astype(np.float32) if vectors else np.zeros((0, *contract.shape), np.float32),
            "labels": np.array([said[index] for index in used], dtype=label_kind(contract)),
            "recordings": np.array(used, dtype=np.int64),
            "fingerprints": as_rows([keyed(content, key) for content in contents]),
            "contents": as_rows(contents if self.vectors.dataset.public else []),
            "broken": np.array(broken, dtype=np.uint8),
        }

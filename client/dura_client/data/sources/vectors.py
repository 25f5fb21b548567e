"""Sources whose example is one vector: the connectome of a recording, or a row of a table.

A vector depends on one recording or row, and on the constants of the study. What cannot be used is left out with its
reason, and named in the findings.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import Finding
from dura_client.data.privacy_class import PrivacyClass, declares
from dura_client.data.sources.answers import Answers, answers_for, label_kind, scaled
from dura_client.data.sources.columns import table_files
from dura_client.data.sources.example import LABEL, Example
from dura_client.data.sources.fmri.averaging import average
from dura_client.data.sources.fmri.connectomes import edges_of, gaussian_ranks, root_edges
from dura_client.data.sources.fmri.source import ConnectomeSource
from dura_client.data.sources.leaving_out import Broken
from dura_client.data.store.digests import FileDigests
from dura_client.data.store.fingerprint import as_rows, keyed
from dura_client.data.store.naming import NAME_DIGITS
from dura_client.data.store.seal import Seal
from dura_common.errors import InputError
from dura_common.study import ConnectomeContract, DataContract, TableContract


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
    def subjects(self) -> list[str]:
        """Patients with a row."""
        return sorted({*self.answers.tables.people, *self.answers.tables.visits})

    def sessions(self, subject: str) -> list[str | None]:
        """Return the visit of each example of a patient: each that has a feature, else the patient's own row."""
        columns = {self.dataset.column_of(name) for name in self.contract.names}
        visits = self.answers.tables.visits.get(subject, {})
        sessions: list[str | None] = [label for label, row in visits.items() if columns & row.keys()]
        if not sessions:
            sessions = [None] if self.contract.label == "participant" else list(visits)
        return sessions

    def files(self, subject: str) -> list[Path]:  # noqa: ARG002  # a row lies in no file of its own
        """Return the files that hold a patient alone, beside the tables."""
        return []

    def content(self, subject: str, digests: FileDigests) -> list[object]:  # noqa: ARG002  # idem
        """Return what the vectors of a patient depend on, beside the contract and the answers."""
        rows = [sorted(self._cells(subject, session).items()) for session in self.sessions(subject)]
        return [rows, self.dataset.missing]

    def examples(self, subject: str) -> list[Example]:
        """Return one example for each visit that has a feature, or one of the patient's own row."""
        return [self._example(subject, session) for session in self.sessions(subject)]

    def _cells(self, subject: str, session: str | None) -> dict[str, str | None]:
        """Return the cell of each feature."""
        return {
            name: self.answers.tables.cell(subject, session, self.dataset.column_of(name))
            for name in self.contract.names
        }

    def _example(self, subject: str, session: str | None) -> Example:
        cells = self._cells(subject, session)
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
    """Return what the data of a contract go through, in order; series that come as such are averaged elsewhere."""
    if isinstance(contract, ConnectomeContract):
        more: list[Callable[..., Any]] = [root_edges] if contract.edges.startswith("root") else []
        more += [gaussian_ranks] if contract.edges.endswith("ranks") else []
        return [average, edges_of, *more, Answers.of]
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

    @property
    def tables(self) -> list[Path]:
        """Tables in which answers and features stand."""
        return table_files(self.vectors.dataset)

    def files(self, items: str) -> list[Path]:
        """Return every file on which a patient depends, but the tables, which hold all patients."""
        return self.vectors.files(items)

    def name(self, items: str, digests: FileDigests) -> str:
        """Return a name that changes with what a patient's vectors are made of, and with nothing else, 32 hex digits.

        Of tables, only the cells of this patient count, as the study reads them.
        """
        answers = self.vectors.answers
        said = [
            (session, None if answers is None else answers.of(items, session))
            for session in self.vectors.sessions(items)
        ]
        content = [self.vectors.content(items, digests), said, self.vectors.dataset.public]
        return hashlib.sha256(b"dura vectors 2\0" + json.dumps(content).encode()).hexdigest()[:NAME_DIGITS]

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

"""The verified ledger in memory: rows, cohorts, allocations, and the charges of each patient."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dura_client.ledger.charges import NOTHING, Charge, charge_of
from dura_client.ledger.rows import GENESIS, Content, Release
from dura_common.privacy import Gaussian, SampledGaussian, event_from_json, event_to_json
from dura_common.privacy.accounting import mechanism_of
from dura_common.privacy.loss import Sampled

Spending = Counter[Sampled]
"""Maps a mechanism to the number of its runs."""
Key = tuple[str, int]
"""A block of a study: its name and its round."""
NOBODY, SEVERAL = -1, -2
Totals = NDArray[np.int64]
"""The charges, (4, patients), in the order of :class:`~dura_client.ledger.charges.Charge`."""


@dataclass(slots=True)
class Allotted:
    """One block that was set aside."""

    cohort: str
    draws: int
    event: str | None
    alone: str | None
    charge: Charge
    """The charge at the delta of its allocation."""
    delta: float
    begun: set[int] = field(default_factory=set)
    """Numbers of the draws that began."""


@dataclass(slots=True)
class Allocation:
    """The budget that one approval set aside."""

    number: int
    manifest: str
    """Digest of the cohort file that the approval fixed."""
    expires: str
    """ISO date."""
    blocks: dict[Key, Allotted] = field(default_factory=dict)
    open: bool = True

    @property
    def begun(self) -> bool:
        """Whether any draw began."""
        return any(block.begun for block in self.blocks.values())

    def charged(self) -> Iterator[tuple[Key, Allotted]]:
        """Return the blocks that count: all blocks while the study is open, and later those in which a draw began."""
        return ((key, block) for key, block in self.blocks.items() if self.open or block.begun)


@lru_cache(maxsize=4096)
def mechanism_in(event: str) -> tuple[Sampled, int]:
    """Return the mechanism of an event as the ledger keeps it, and how often it ran."""
    return mechanism_of(event_from_json(event))


class Book:
    """Contains only verified rows. New rows are added at the end."""

    def __init__(self) -> None:
        self.rows: list[Content] = []
        """Row number n has id n + 1."""
        self.hashes: list[str] = []
        self.sizes: dict[str, int] = {}
        """Maps a cohort to its number of patients."""
        self.used: set[str] = set()
        """Cohorts that rows refer to."""
        self.withdrawn: set[str] = set()
        """Keys of patients who have withdrawn."""
        self.last: dict[Release, Content] = {}
        """Format 2 only: maps a release to its last row."""
        self.studies: dict[str, list[Allocation]] = {}
        """Maps a study to its allocations; the last one counts."""
        self.attempts: dict[tuple[str, str, int], int] = {}
        """Maps study, purpose and round to the number of the highest accepted request."""
        self.taken: Counter[tuple[str, str, int]] = Counter()
        """Maps the same to the number of accepted requests."""
        self.requested: list[int] = []
        """Places of the requests that were taken up and the draws that began, of all studies: rows that messages alone
        have caused."""
        self.epoch = 0
        self.host: str | None = None
        self.identity: dict[str, Any] | None = None
        self.older: dict[tuple[str, str], Spending] = {}
        """Format 2 only: maps study and cohort to reservations that were not refunded."""
        self._index: dict[str, int] = {}
        self._patients: dict[str, NDArray[np.int64]] = {}

    @property
    def head(self) -> str:
        """Hash of the last row; it stands for all rows before it."""
        return self.hashes[-1] if self.hashes else GENESIS

    def after(self, requested: int) -> str | None:
        """Return the hash of the row after which there were so many requests and draws; None if there were fewer."""
        if not requested:
            return GENESIS
        return self.hashes[self.requested[requested - 1]] if 0 < requested <= len(self.requested) else None

    def add_cohort(self, digest: str, text: str) -> None:
        """Take in a cohort as it is kept."""
        keys = json.loads(text)
        for key in keys:
            self._index.setdefault(key, len(self._index))
        self._patients[digest] = np.array([self._index[key] for key in keys], dtype=np.int64)
        self.sizes[digest] = len(keys)

    def add(self, row: Content, digest: str) -> None:
        """Take in the next row."""
        self.rows.append(row)
        self.hashes.append(digest)
        self.used.add(row.cohort)
        if row.kind in {"attempt", "begin"}:
            self.requested.append(len(self.rows) - 1)
        if row.kind in {"reserve", "refund", "settle"}:
            self._add_older(row)
        elif row.kind == "withdraw":
            self.withdrawn.update(self.keys_of(row.cohort))
        elif row.kind == "begin":
            self._allocation(row).blocks[_key(row)].begun.add(row.repeat or 0)
        elif row.kind == "attempt":
            place = (row.study or "", row.purpose or "", row.round or 0)
            self.attempts[place] = row.attempt or 0
            self.taken[place] += 1
        elif row.kind == "allocate":
            self._allocate(row)
        elif row.kind == "close":
            self._allocation(row).open = False
        elif row.kind == "host":
            self.epoch, self.host = row.attempt or 0, said(row)["host"]
        elif row.kind == "identity":
            self.identity = said(row)

    def keys_of(self, cohort: str) -> tuple[str, ...]:
        """Return the keys of a cohort's patients."""
        keys = list(self._index)
        return tuple(keys[index] for index in self._patients[cohort])

    def cohorts_with(self, patient: str) -> frozenset[str]:
        """Return the cohorts that a patient was in."""
        index = self._index.get(patient)
        return frozenset() if index is None else frozenset(c for c, them in self._patients.items() if index in them)

    def patients_of(self, *cohorts: str) -> frozenset[str]:
        """Return the keys of the patients of any of some cohorts."""
        return frozenset(key for cohort in cohorts for key in self.keys_of(cohort))

    def open_allocation(self, study: str) -> Allocation | None:
        """Return the allocation of a study, if the study has not ended here."""
        found = self.studies.get(study)
        return found[-1] if found and found[-1].open else None

    def totals(self, delta: float, *, study: str | None = None, without: str | None = None) -> Totals:
        """Return the charges of all patients at a delta: by one study, by all studies, or by all studies except one."""
        by_cohort: dict[str, Charge] = {}
        for name, cohort, charge in self._charges(delta):
            if name == (study or name) and name != without:
                by_cohort[cohort] = by_cohort.get(cohort, NOTHING) + charge
        totals = np.zeros((len(NOTHING), len(self._index)), dtype=np.int64)
        for cohort, charge in by_cohort.items():
            totals[:, self._patients[cohort]] += np.array(charge, dtype=np.int64)[:, None]
        return totals

    def only_study(self, delta: float) -> tuple[list[str], NDArray[np.int64]]:
        """Return studies, and for each patient the index of the only study that charged this patient.

        The index is :data:`NOBODY` for patients whom no study charged, and :data:`SEVERAL` if several studies did.
        """
        inside: dict[str, NDArray[np.bool_]] = {}
        for study, cohort, charge in self._charges(delta):
            if charge != NOTHING:
                mask = inside.setdefault(study, np.zeros(len(self._index), dtype=np.bool_))
                mask[self._patients[cohort]] = True
        place = np.full(len(self._index), NOBODY, dtype=np.int64)
        for number, mask in enumerate(inside.values()):
            place[mask] = np.where(place[mask] == NOBODY, number, SEVERAL)
        return list(inside), place

    def of(self, totals: Totals, patients: Sequence[str]) -> Totals:
        """Return the columns of these patients, (4, patients); unknown patients have no charges."""
        wide = np.concatenate([totals, np.zeros((totals.shape[0], 1), dtype=np.int64)], axis=1)
        return wide[:, [self._index.get(patient, -1) for patient in patients]]

    def composed(self, study: str, cohorts: frozenset[str] | None = None) -> list[Spending]:
        """Return the mechanisms of one study, for each kind of patient, or for a patient of these cohorts."""
        parts: dict[str, Spending] = {}
        for (name, cohort), spending in self.older.items():
            if name == study:
                parts.setdefault(cohort, Counter()).update(spending)
        for allocation in self.studies.get(study, ()):
            for _, block in allocation.charged():
                if block.event is not None:
                    mechanism, times = mechanism_in(block.event)
                    parts.setdefault(block.cohort, Counter())[mechanism] += times
        if cohorts is not None:
            return [sum((parts[cohort] for cohort in parts.keys() & cohorts), Counter())]
        names = sorted(parts)
        inside = np.zeros((len(names), len(self._index)), dtype=np.bool_)
        for row, cohort in enumerate(names):
            inside[row, self._patients[cohort]] = True
        kinds = np.unique(inside, axis=1).T if names else inside.T
        return [sum((parts[names[row]] for row in np.flatnonzero(kind)), Counter()) for kind in kinds]

    def _charges(self, delta: float) -> Iterator[tuple[str, str, Charge]]:
        """Yield the study, the cohort and the charge of everything that counts."""
        for (study, cohort), spending in self.older.items():
            for mechanism, times in spending.items():
                text = _as_event(mechanism, times)
                # Format 2 did not record how many sites made up the noise; single shares are recorded since format 3.
                yield study, cohort, charge_of(text, text, delta)
        for study, allocations in self.studies.items():
            for allocation in allocations:
                for _, block in allocation.charged():
                    same = block.delta == delta
                    yield study, block.cohort, block.charge if same else charge_of(block.event, block.alone, delta)

    def _allocation(self, row: Content) -> Allocation:
        return self.studies[row.study or ""][-1]

    def _allocate(self, row: Content) -> None:
        told = said(row)
        allocations = self.studies.setdefault(row.study or "", [])
        if not allocations or allocations[-1].number != row.attempt:
            allocations.append(Allocation(row.attempt or 0, told["manifest"], told["expires"]))
        allocations[-1].blocks[_key(row)] = Allotted(
            row.cohort, told["draws"], told["event"], told["alone"], Charge(*told["charge"]), row.delta or 0.0
        )

    def _add_older(self, row: Content) -> None:
        self.last[row.release] = row
        if row.kind != "settle" and row.event is not None:
            mechanism, times = mechanism_in(row.event)
            spending = self.older.setdefault((row.release.study, row.cohort), Counter())
            spending[mechanism] += times if row.kind == "reserve" else -times
            if not spending[mechanism]:
                del spending[mechanism]


def _key(row: Content) -> Key:
    return row.purpose or "", row.round or 0


def said(row: Content) -> dict[str, Any]:
    """Return the content of a row beyond its columns."""
    content = json.loads(row.event or "{}")
    return content if isinstance(content, dict) else {}


def _as_event(mechanism: Sampled, times: int) -> str:
    if mechanism.participation == 1:
        return event_to_json(Gaussian(noise_multiplier=mechanism.noise_multiplier, count=times))
    return event_to_json(
        SampledGaussian(participation=mechanism.participation, noise_multiplier=mechanism.noise_multiplier, steps=times)
    )

"""The verified ledger in memory: rows, cohorts, and what each kind of patient has spent.

Patients who were in the same cohorts have spent the same, so questions are asked once for each such group and not
for each patient. A question is answered by the first of three that can: Rényi's bound for all groups at once (a quick
yes), a composition continued from the last answer, and the tight epsilon of the accountant.
"""

from __future__ import annotations

import json
import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dura_client.ledger.renyi import epsilon_bounds
from dura_client.ledger.rows import GENESIS, Content, Release
from dura_client.ledger.tally import Spending, Tally, sum_of
from dura_common.privacy import Gaussian, SampledGaussian, event_from_json
from dura_common.privacy.accounting import SMALLEST_NOISE, epsilon_of_mechanisms, mechanism_of
from dura_common.privacy.loss import Composition, Sampled

REMEMBERED = 32
"""Compositions kept, about two megabytes each: the groups that are near their cap."""
AHEAD = (128, 16)
"""How many rounds like the present one are tried at once."""
MOST_EXACT = 64
"""Groups whose epsilon is computed tightly for a figure; beyond that a figure is an upper bound, never too low."""

MARGIN = 1e-3
"""Closer below the cap than this, relatively, the tight epsilon alone decides: a continued composition lies on another
grid."""
EXCESS = 0.02
"""Further above the cap than this, a continued composition decides by itself."""


@lru_cache(maxsize=4096)
def mechanism_in(event: str) -> tuple[Sampled, int]:
    """Return the mechanism of an event as the ledger keeps it, and how often it ran."""
    return mechanism_of(event_from_json(event))


def spending_of(events: Iterable[SampledGaussian | Gaussian | None]) -> Spending:
    """Add up events; those without noise have no price."""
    total: Spending = Counter()
    for event in events:
        if event is not None:
            mechanism, times = mechanism_of(event)
            total[mechanism] += times
    return total


class Book:
    """Rows that were verified, and nothing else; grows at its end."""

    def __init__(self) -> None:
        self.rows: list[Content] = []
        """Row number n has id n + 1."""
        self.hashes: list[str] = []
        self.sizes: dict[str, int] = {}
        """Cohort to how many patients it has."""
        self.used: set[str] = set()
        """Cohorts that rows are about."""
        self.withdrawn: set[str] = set()
        """Keys of patients who take part in nothing any more."""
        self.last: dict[Release, Content] = {}
        """Release to its last row."""
        self._index: dict[str, int] = {}
        self._patients: dict[str, NDArray[np.int64]] = {}
        self._all = Tally()
        self._studies: dict[str, Tally] = {}
        # Patients and cohorts to kinds of these patients: row g, column c tells whether kind g was in cohort c.
        self._groups: dict[tuple[tuple[str, ...], tuple[str, ...]], NDArray[np.float64]] = {}
        self._room: dict[tuple[float, float], Spending] = {}
        self._compositions: OrderedDict[frozenset[tuple[Sampled, int]], Composition] = OrderedDict()

    @property
    def head(self) -> str:
        """Hash of the last row; it stands for all rows before it."""
        return self.hashes[-1] if self.hashes else GENESIS

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
        if row.kind == "withdraw":
            self.withdrawn.update(self.keys_of(row.cohort))
            return
        self.last[row.release] = row
        if row.kind != "settle" and row.event is not None:
            mechanism, times = mechanism_in(row.event)
            for tally in (self._all, self._studies.setdefault(row.release.study, Tally())):
                tally.add(row.cohort, mechanism, times if row.kind == "reserve" else -times)

    def keys_of(self, cohort: str) -> tuple[str, ...]:
        """Return the keys of a cohort's patients."""
        keys = list(self._index)
        return tuple(keys[index] for index in self._patients[cohort])

    def cohorts_with(self, patient: str) -> frozenset[str]:
        """Return the cohorts that a patient was in."""
        index = self._index.get(patient)
        return frozenset() if index is None else frozenset(c for c, them in self._patients.items() if index in them)

    def spending(self, patient: str, study: str | None = None) -> Spending:
        """Return what one patient has spent, in one study or in all."""
        tally = self._tally(study, None)
        groups = self._groups_of((patient,), tally.cohorts)
        return tally.spending(tally.totals(groups)[0])

    def fits(
        self,
        patients: Sequence[str],
        charge: Spending,
        *,
        cap: float,
        delta: float,
        study: str | None = None,
        without: str | None = None,
    ) -> bool:
        """Return whether all patients stay at or under a cap after a charge; see the module for how.

        Args:
            patients: their keys.
            charge: what would be added to each of them.
            cap: largest epsilon.
            delta: where it holds.
            study: count what they spent in this study only.
            without: count all studies but this one.
        """
        tally = self._tally(study, without)
        groups = self._groups_of(tuple(patients), tally.cohorts)
        bounds = epsilon_bounds(tally.divergence(groups) + sum_of(charge), delta)
        doubtful = groups[~(bounds <= cap)]  # written so that an epsilon that is not a number fits nothing
        if not len(doubtful):
            return True
        totals = tally.totals(doubtful)
        # The maximum of each count is more than anybody's: if that fits, everybody does.
        if self._roomy(tally.spending(totals.max(axis=0)), charge, cap, delta):
            return True
        return all(self._one_fits(tally.spending(row), charge, cap, delta) for row in np.unique(totals, axis=0))

    def most(self, delta: float, study: str | None = None) -> float:
        """Return epsilon of the patient who spent most; see :data:`MOST_EXACT` for when it is a bound."""
        tally = self._tally(study, None)
        groups = self._groups_of(tuple(self._index), tally.cohorts)
        bounds = epsilon_bounds(tally.divergence(groups), delta)
        best = 0.0
        done: list[NDArray[np.float64]] = []
        for group in np.argsort(-bounds):
            if bounds[group] <= best:
                break
            members = groups[group]
            if any((members <= other).all() for other in done):
                continue  # somebody was in the same cohorts and in more
            if len(done) == MOST_EXACT:
                return float(max(best, bounds[group]))
            best = max(best, epsilon_of_mechanisms(tally.spending(tally.totals(members[None])[0]), delta))
            done.append(members)
        return best

    def _tally(self, study: str | None, without: str | None) -> Tally:
        """Return what cohorts spent in one study or in all but one."""
        if study is not None:
            return self._studies.get(study) or Tally()
        if without not in self._studies:
            return self._all
        rest = Tally()
        for name, tally in self._studies.items():
            for item in tally.items() if name != without else ():
                rest.add(*item)
        return rest

    def _groups_of(self, patients: tuple[str, ...], cohorts: tuple[str, ...]) -> NDArray[np.float64]:
        """Group patients by which of the cohorts they were in; see :attr:`_groups`."""
        known = self._groups.get((patients, cohorts))
        if known is None:
            inside = np.array([self._index.get(patient, -1) for patient in patients])
            members = np.zeros((len(patients), len(cohorts)), dtype=np.bool_)
            for column, cohort in enumerate(cohorts):
                present = np.zeros(len(self._index) + 1, dtype=np.bool_)  # the last place is for strangers
                present[self._patients[cohort]] = True
                members[:, column] = present[inside]
            packed = np.packbits(members, axis=1) if cohorts else np.zeros((len(patients), 1), dtype=np.uint8)
            _, first = np.unique(packed, axis=0, return_index=True)
            known = members[first].astype(np.float64)
            if len(self._groups) >= REMEMBERED:
                self._groups.clear()
            self._groups[patients, cohorts] = known  # holds for ever, since cohorts never change
        return known

    def _roomy(self, spent: Spending, charge: Spending, cap: float, delta: float) -> bool:
        """Tell whether a spending and a charge are part of something that was found to fit, or is now.

        Looks ahead: the next rounds of a study are like this one, and less than what fits fits too.
        """
        room = self._room.get((cap, delta))
        if room is not None and spent + charge <= room:
            return True
        if self._continued(spent, charge, delta) > cap * (1 - MARGIN):
            return False
        for rounds in AHEAD:
            further = Counter({mechanism: times * rounds for mechanism, times in charge.items()})
            if self._continued(spent, further, delta) <= cap * (1 - MARGIN):
                self._room = {(cap, delta): spent + further}
                break
        return True

    def _one_fits(self, spent: Spending, charge: Spending, cap: float, delta: float) -> bool:
        continued = self._continued(spent, charge, delta)
        if continued <= cap * (1 - MARGIN):
            return True
        return continued <= cap * (1 + EXCESS) and epsilon_of_mechanisms(spent + charge, delta) <= cap

    def _continued(self, spent: Spending, charge: Spending, delta: float) -> float:
        """Return epsilon after a charge, from a composition that is remembered and continued."""
        after = spent + charge
        if any(mechanism.noise_multiplier < SMALLEST_NOISE for mechanism in after):
            return math.inf
        composition = self._compositions.get(_mark(after))
        if composition is None:
            composition = self._composed(spent) if spent else None
            for item in charge.items():
                composition = Composition.of([item]) if composition is None else composition.then(*item)
        if composition is None:
            return 0.0
        self._remember(after, composition)
        return composition.epsilon(delta)

    def _composed(self, spent: Spending) -> Composition:
        known = self._compositions.get(_mark(spent))
        if known is None:
            known = Composition.of(tuple(spent.items()))
            self._remember(spent, known)
        return known

    def _remember(self, spent: Spending, composition: Composition) -> None:
        self._compositions[_mark(spent)] = composition
        self._compositions.move_to_end(_mark(spent))
        while len(self._compositions) > REMEMBERED:
            self._compositions.popitem(last=False)


def _mark(spending: Spending) -> frozenset[tuple[Sampled, int]]:
    return frozenset(spending.items())

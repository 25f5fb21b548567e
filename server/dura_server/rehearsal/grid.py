"""A study rehearsed over a grid of epsilons and seeds. Patients are simulated once and serve the whole grid.

1. Each site's declared patients are simulated and prepared, a few per job, in parallel.
2. Every point of the grid is the study with another epsilon and another seed. The seed changes the first parameters
   and the choice of held-out patients. As in a real run, sampling and noise have no seed.
3. All points make their first round, then all make their second round, and so on. Sites train, and parameters are
   averaged as in a real study. With shared noise, a step is one sum over all patients. One simulated site therefore
   makes the steps for all sites, with as much noise as the sites' shares add up to.
4. The last parameters are scored exactly on every held-out patient. Only a simulation may know this score.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from dura_common.consortium.envelope import canonical_json
from dura_common.errors import InputError
from dura_common.messages.rehearsal import Job, Score, Simulate, Train
from dura_common.privacy.plan import plan_of
from dura_common.study import NoNoise, SharedNoise, Study
from dura_server.rehearsal.result import point_of
from dura_server.rounds.ports import Vector
from dura_server.rounds.rounds import first_parameters
from dura_server.studies.planning import RehearsalPoint

PATIENTS_PER_JOB = 4
"""Small, so that the cores finish at nearly the same time and progress is visible."""
FEWEST_HELD_OUT = 2

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, the number of finished jobs, and the number of all jobs."""


class Crew(Protocol):
    """Simulated sites at work."""

    def work(self, jobs: Sequence[tuple[Job, Vector | None]], on_done: Callable[[int], None]) -> list[Vector | None]:
        """Do all jobs in parallel and in any order. Return the answers in the order of the jobs.

        Raises:
            DuraError: a job failed at a simulated site.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Try:
    """One point of the grid."""

    epsilon: float
    seed: int
    study: Study


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a rehearsal."""

    epsilons: tuple[float, ...]
    seeds: int
    trials: int
    """Events of each simulated patient."""
    data_seed: int


def check(study: Study, settings: Settings) -> list[_Try]:
    """Return the points of the grid.

    Raises:
        InputError: the study cannot be rehearsed; nothing was simulated.
    """
    if isinstance(study.privacy, NoNoise):
        raise InputError(
            'the study has noise = "none": there is no epsilon to rehearse',
            hint="Rehearse the study that will run on patients; a public data set costs nothing anyway.",
        )
    if study.evaluation.split != "patients":
        raise InputError('only evaluation.split = "patients" can be rehearsed')
    tries = []
    for epsilon in settings.epsilons:
        for number in range(settings.seeds):
            data = study.model_dump()
            data["privacy"]["epsilon"] = epsilon
            data["training"]["seed"] = study.training.seed + number
            tries.append(_Try(epsilon, number, Study.model_validate(data)))
    for one in tries[:: settings.seeds]:
        _plan(one.study)
    first_parameters(study)
    return tries


def rehearse(study: Study, settings: Settings, crew: Crew, folder: Path, progress: Progress) -> list[RehearsalPoint]:
    """Rehearse a study and return one point per epsilon, by ascending epsilon.

    Args:
        study: the plan of the real study.
        settings: the grid.
        crew: the simulated sites.
        folder: where simulated patients are kept; patients of the same contract and seed are used again.
        progress: told of every finished job.

    Raises:
        InputError: the study cannot be rehearsed.
        HostError: a simulated site failed.
    """
    tries = check(study, settings)  # step 2
    place = folder / _name_of(study, settings)
    _simulate(study, settings, crew, place, progress)  # step 1
    accuracies = _train_and_score(tries, crew, place, progress)
    return [
        point_of(epsilon, [value for one, value in zip(tries, accuracies, strict=True) if one.epsilon == epsilon])
        for epsilon in sorted(set(settings.epsilons))
    ]


def _name_of(study: Study, settings: Settings) -> str:
    """Return a name that changes whenever other patients would be simulated."""
    parts = [canonical_json(study.data).decode(), repr(list(study.sites.items())), settings.trials, settings.data_seed]
    return "simulated-" + hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _simulate(study: Study, settings: Settings, crew: Crew, place: Path, progress: Progress) -> None:
    jobs: list[tuple[Job, Vector | None]] = [
        (
            Simulate(
                folder=str(place),
                contract=study.data,
                site=site,
                index=index,
                first=first,
                patients=min(PATIENTS_PER_JOB, declared + 1 - first),
                trials=settings.trials,
                seed=settings.data_seed,
            ),
            None,
        )
        for index, (site, declared) in enumerate(study.sites.items())
        for first in range(1, declared + 1, PATIENTS_PER_JOB)
    ]
    crew.work(jobs, lambda done: progress("simulating patients", done, len(jobs)))


def _train_and_score(tries: Sequence[_Try], crew: Crew, place: Path, progress: Progress) -> list[float]:
    parameters = [first_parameters(one.study) for one in tries]
    teams = [_teams(one.study) for one in tries]
    rounds = _as_trained(tries[0].study).training.rounds
    total = (rounds + 1) * sum(map(len, teams))
    done = 0

    def tell(finished: int) -> None:
        progress("training and scoring", done + finished, total)

    for _ in range(rounds):  # step 3
        jobs: list[tuple[Job, Vector | None]] = [
            (
                Train(
                    folder=str(place),
                    study=_as_trained(one.study),
                    sites=team,
                    noise_factor=_noise_factor(one.study),
                    split=one.seed,
                ),
                start,
            )
            for one, start, groups in zip(tries, parameters, teams, strict=True)
            for team in groups
        ]
        updates = iter(_present(crew.work(jobs, tell)))
        done += len(jobs)
        parameters = [
            _common(one.study, [(team, next(updates)) for team in groups])
            for one, groups in zip(tries, teams, strict=True)
        ]
    scoring: list[tuple[Job, Vector | None]] = [  # step 4
        (Score(folder=str(place), study=one.study, sites=team, split=one.seed), final)
        for one, final, groups in zip(tries, parameters, teams, strict=True)
        for team in groups
    ]
    scores = iter(_present(crew.work(scoring, tell)))
    return [_accuracy([next(scores) for _ in groups]) for groups in teams]


def _shares_noise(study: Study) -> bool:
    return isinstance(study.privacy, SharedNoise)


def _as_trained(study: Study) -> Study:
    """Return the study that the jobs run: with shared noise, the optimiser keeps its state from round to round."""
    if not _shares_noise(study):
        return study
    whole = {"rounds": 1, "steps_per_round": study.training.steps}
    return study.model_copy(update={"training": study.training.model_copy(update=whole)})


def _teams(study: Study) -> list[tuple[str, ...]]:
    """Return which sites share a step: each site alone, or all sites if a step is a sum over sites."""
    return [tuple(study.sites)] if _shares_noise(study) else [(site,) for site in study.sites]


def _noise_factor(study: Study) -> float:
    """Return how many times the planned noise (honest sites' shares) a sum contains (all sites' shares)."""
    if not _shares_noise(study):
        return 1.0
    return math.sqrt(len(study.sites) / study.honest_sites)


def _common(study: Study, updates: Sequence[tuple[tuple[str, ...], Vector]]) -> Vector:
    if len(updates) == 1:
        return updates[0][1]
    weights = np.array([study.sites[team[0]] for team, _ in updates], dtype=np.float64)
    stacked = np.stack([update.astype(np.float64) for _, update in updates])
    return np.average(stacked, axis=0, weights=weights).astype(np.float32)


def _accuracy(scores: Sequence[Vector]) -> float:
    every = np.concatenate(scores)
    if every.size < FEWEST_HELD_OUT:
        raise InputError(
            f"of the declared patients {every.size} would be held out; {FEWEST_HELD_OUT} are needed for a result",
            hint="Increase evaluation.held_out or the numbers of patients.",
        )
    return float(every.mean())


def _plan(study: Study) -> None:
    try:
        plan_of(study)
    except ValueError as error:
        raise InputError(f"the grid cannot be planned: {error}", hint="Take a larger --epsilon.") from error


def _present(answers: Sequence[Vector | None]) -> list[Vector]:
    found = [answer for answer in answers if answer is not None]
    if len(found) != len(answers):
        raise InputError("a simulated site answered without a vector")
    return found

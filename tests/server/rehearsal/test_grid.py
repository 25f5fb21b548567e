"""The grid: what is asked of the simulated sites, what comes out, what is refused, and that patients serve again."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from tests.server.rehearsal.conftest import SETTINGS, SITES, small
from tests.server.rehearsal.crew import HereCrew

from dura_client.data.store.entry import ABOUT
from dura_common.errors import DuraError, InputError, StateError
from dura_common.messages.rehearsal import Score, Simulate, Train
from dura_common.privacy.plan import plan_of
from dura_server.rehearsal import grid
from dura_server.rehearsal.grid import check, rehearse
from dura_server.rehearsal.result import point_of
from dura_server.rounds.rounds import first_parameters


def ignore(_what: str, _done: int, _total: int) -> None:
    """Show no progress."""


def files(folder: Path) -> dict[str, int]:
    """Return every file with the time of its last change; an entry's description has the time of its last use."""
    return {
        str(path): 0 if path.name == ABOUT else path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()
    }


def test_every_point_is_the_study_with_another_epsilon_and_seed(patients: Path) -> None:
    """Points come by ascending epsilon with all their seeds; progress ends at its total; the rest is the study's."""
    settings = dataclasses.replace(SETTINGS, epsilons=(8.0, 2.0), seeds=2)
    crew, seen = HereCrew(), []
    points = rehearse(small(), settings, crew, patients, lambda *told: seen.append(told))
    assert [(point.epsilon, point.seeds) for point in points] == [(2.0, 2), (8.0, 2)]
    assert all(0 <= point.low <= point.mean <= point.high <= 1 for point in points)
    trained = [job for job in crew.jobs if isinstance(job, Train)]
    assert len(trained) == 2 * 2 * 2 * len(SITES)  # epsilons, seeds, rounds, sites
    assert {(job.study.privacy.epsilon, job.study.training.seed, job.split) for job in trained} == {
        (epsilon, 1 + seed, seed) for epsilon in (2.0, 8.0) for seed in (0, 1)
    }
    for job in trained:
        restored = {"privacy": {"epsilon": 8.0}, "training": {"seed": 1}}
        changed = job.study.model_dump(mode="json")
        for section, values in restored.items():
            changed[section] |= values
        assert changed == small().model_dump(mode="json")
    for what in {told[0] for told in seen}:
        last = [told[1:] for told in seen if told[0] == what][-1]
        assert last[0] == last[1]


def test_patients_are_simulated_once(patients: Path) -> None:
    """A second rehearsal of the same contract uses the same prepared patients; another seed makes others."""
    rehearse(small(), SETTINGS, HereCrew(), patients, ignore)
    before = files(patients)
    assert sum(name.endswith("windows.npy") for name in before) % sum(SITES.values()) == 0
    rehearse(small(training={"rounds": 1}), SETTINGS, HereCrew(), patients, ignore)
    assert files(patients) == before


def test_nobody_is_trained_on_and_held_out(patients: Path) -> None:
    """Both sides together are the declared patients, the seed moves them, and the fraction is the study's."""
    from dura_client.node.rehearsal import _cohort

    crew = HereCrew()
    rehearse(small(), SETTINGS, crew, patients, ignore)
    job = next(job for job in crew.jobs if isinstance(job, Train) and job.sites == ("west",))
    sizes = set()
    for split in range(20):
        training, testing = _cohort(job.model_copy(update={"split": split}))
        shared = [np.shares_memory(one.windows, other.windows) for one in training for other in testing]
        assert not any(shared)
        assert len(training) + len(testing) == SITES["west"]
        sizes.add(len(testing))
    assert len(sizes) > 1


def test_shared_noise_is_one_sum_over_all_patients(patients: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With noise shared by the sites one simulated site makes everybody's steps, with the sum's noise and divisor."""
    monkeypatch.setattr(grid, "_shares_noise", lambda _study: True)
    monkeypatch.setattr(grid, "_noise_factor", lambda _study: 2.0)
    crew = HereCrew()
    study = small()
    rehearse(study, SETTINGS, crew, patients, ignore)
    trained = [job for job in crew.jobs if isinstance(job, Train)]
    assert [(job.sites, job.noise_factor) for job in trained] == [
        (tuple(SITES), 2.0)
    ]  # all rounds in one job: the optimiser goes on
    (_, final), *others = crew.finals
    assert not others
    plan, steps, lr = plan_of(study), study.training.steps, 0.05
    divisor = 0.5 * sum(study.training_patients(site) for site in SITES)
    noise = 2.0 * plan.noise_multiplier * np.sqrt(steps) * lr / divisor
    moved = float(np.linalg.norm(final - first_parameters(study))) / np.sqrt(final.size)
    assert moved == pytest.approx(noise, rel=0.15)  # far less than this is signal; constraints take a little


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"privacy": {"noise": "none"}, "evaluation": {"epsilon": None}}, "no epsilon to rehearse"),
        ({"data": {"window_length": 0.25}}, "windows of at least"),
    ],
)
def test_a_study_that_cannot_be_rehearsed_is_refused_before_anything_is_simulated(
    tmp_path: Path, changes: dict[str, dict[str, object]], says: str
) -> None:
    """One clear error, and the folder stays empty."""
    study = small()
    data = study.model_dump()
    for section, values in changes.items():
        data[section] |= values
    if data["privacy"]["noise"] == "none":
        data["privacy"] = {"noise": "none"}
    crew = HereCrew()
    with pytest.raises(InputError, match=says):
        rehearse(type(study).model_validate(data), SETTINGS, crew, tmp_path, ignore)
    assert crew.jobs == []
    assert list(tmp_path.iterdir()) == []


def test_an_error_at_a_simulated_site_comes_back_in_its_family(tmp_path: Path) -> None:
    """An unknown channel, which only the site's side knows to be one, is an input error with the site's message."""
    with pytest.raises(InputError, match="does not know: Q7"):
        rehearse(small(data={"channels": ["C3", "C4", "Q7"]}), SETTINGS, HereCrew(), tmp_path, ignore)
    assert files(tmp_path) == {}


def test_too_few_simulated_patients_are_noticed(patients: Path, tmp_path: Path) -> None:
    """A folder that lost a patient is not trained on."""
    crew = HereCrew()
    rehearse(small(), SETTINGS, crew, patients, ignore)
    score = next(job for job in crew.jobs if isinstance(job, Score))
    with pytest.raises(StateError, match="declares 8 patients, and 0 were simulated"):
        HereCrew().work([(score.model_copy(update={"folder": str(tmp_path)}), crew.finals[0][1])], lambda _done: None)


def test_an_impossible_epsilon_is_refused() -> None:
    """The schema's bound holds for every point of the grid."""
    with pytest.raises((DuraError, ValueError), match="less than or equal"):
        check(small(), dataclasses.replace(SETTINGS, epsilons=(1000.0,)))


def test_a_job_reaches_nothing_but_what_was_simulated() -> None:
    """No job has a field that could name a data set or a site's home."""
    for job in (Simulate, Train, Score):
        assert not {"root", "home", "dataset", "data", "path"} & set(job.model_fields)


def test_a_point_is_mean_and_range() -> None:
    """Of the seeds' accuracies."""
    point = point_of(3.0, [0.5, 0.7, 0.9])
    assert (point.low, point.high, point.seeds) == (0.5, 0.9, 3)
    assert point.mean == pytest.approx(0.7)

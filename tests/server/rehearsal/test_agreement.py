"""A rehearsal predicts the real run: the same study, on the same simulated patients, by both ways.

The real way is that of a coordinator and its sites (rounds, messages, approvals, policy, gate, ledger) without the
wire between them. Sampling and noise have no seed on either way, so distributions are compared: how far the
parameters travel, which noise multiplier, steps, divisor and averaging decide to about one part in a hundred,
and the accuracy at the end.
"""

from __future__ import annotations

import dataclasses
import statistics
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.server.rehearsal.conftest import SETTINGS, SITES, small
from tests.server.rehearsal.crew import HereCrew
from tests.support.policies import approve_study
from tests.support.running import TASK, RunningConsortium
from tests.support.sums import Hub, MemorySites

from dura_client.data.dataset import DataSet
from dura_client.data.registry import register
from dura_client.data.simulated.kinds import simulate_for
from dura_client.node.service import SiteService
from dura_client.patients.cohort import load_cohort
from dura_client.site.keys import SiteKeys
from dura_client.studies.approvals import receive_offer
from dura_client.training.evaluation import score
from dura_common.models import build_model, load_vector
from dura_common.policy import Policy
from dura_common.study import Study
from dura_server.rehearsal import grid
from dura_server.rehearsal.grid import Settings, rehearse
from dura_server.rounds.rounds import Rounds, first_parameters

Vector = NDArray[np.float32]


def enrol(root: Path, settings: Settings) -> RunningConsortium:
    """Return two enrolled hospitals that hold the very patients that a rehearsal simulates."""
    policy = Policy(
        epsilon_per_study=60.0,
        epsilon_total=60.0,
        delta=1e-3,
        minimum_patients=8,
        minimum_sites=2,
        public_data_without_noise=False,
    )
    made = RunningConsortium(root, tuple(SITES), policy=policy)
    made.make_all()
    for index, (name, patients) in enumerate(SITES.items()):
        home, folder = made.site(name), made.root / "bids" / name
        simulate_for(
            folder,
            small().data,
            index,
            first=1,
            patients=patients,
            trials=settings.trials,
            seed=settings.data_seed,
        )
        register(home, DataSet(name="mi", root=str(folder), task=TASK, simulated=True))
    return made


def run_for_real(made: RunningConsortium, study: Study, number: int) -> tuple[float, float]:
    """Run a study by the coordinator's and the sites' own code; return how far parameters went, and accuracy."""
    stored, offer = made.submit(study)
    homes = {name: made.site(name) for name in SITES}
    for name, home in homes.items():
        (home.keys / "pseudonym.key").write_bytes(_key_with_both_sides(name, number))
        # Other hospitals, as it were, or the accounting would take minutes.
        home.ledger.unlink(missing_ok=True)
        home.witnessed.unlink(missing_ok=True)
        receive_offer(home, offer, made.now())
        approve_study(home, stored.digest, "mi", made.now())
    hub = Hub(made.coordinator)
    services = {name: SiteService(home, hub.way_of(name, SiteKeys(home).identity())) for name, home in homes.items()}
    Rounds(stored, MemorySites(services), hub).train()
    assert stored.read_state().phase == "finished"
    final = stored.read_model()
    model = build_model(study)
    load_vector(model, final)
    scores = [score(model, one) for home in homes.values() for one in load_cohort(home, study, "mi").held_out]
    return distance(study, final), statistics.mean(scores)


def _key_with_both_sides(name: str, number: int) -> bytes:
    """Return a pseudonym key that holds out a fourth of the site's patients, as nearly as hashes do."""
    from hashlib import sha256

    from dura_client.data.prepare import pseudonym
    from dura_client.training.split import held_out

    for attempt in range(1000):
        key = sha256(f"{name} {number} {attempt}".encode()).digest()
        out = sum(held_out(pseudonym(f"{patient + 1:03d}", key), 0.25) for patient in range(SITES[name]))
        if out == round(0.25 * SITES[name]):
            return key
    raise AssertionError


def distance(study: Study, final: Vector) -> float:
    """Return how far the parameters went."""
    return float(np.linalg.norm(final - first_parameters(study)))


def rehearsed(study: Study, settings: Settings, patients: Path) -> tuple[list[float], float]:
    """Return distances and the mean accuracy of as many rehearsals as the settings have seeds."""
    crew = HereCrew()
    (point,) = rehearse(study, settings, crew, patients, lambda *_: None)
    finals = {job.study.training.seed: (job.study, final) for job, final in crew.finals}
    return [distance(study, final) for study, final in finals.values()], point.mean


@pytest.mark.long
def test_parameters_travel_as_far_in_a_rehearsal_as_in_a_real_run(
    tmp_path_factory: pytest.TempPathFactory, patients: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Means of four runs within 8 %, four standard errors; a noise too large by 30 % would be seen."""
    runs, settings = 4, dataclasses.replace(SETTINGS, seeds=4)
    hospitals = enrol(tmp_path_factory.mktemp("hospitals"), settings)
    real = [run_for_real(hospitals, small(training={"seed": 1 + number}), number)[0] for number in range(runs)]
    travelled = statistics.mean(real)
    assert statistics.mean(rehearsed(small(), settings, patients)[0]) == pytest.approx(travelled, rel=0.08)
    monkeypatch.setattr(grid, "_noise_factor", lambda _study: 1.3)
    assert statistics.mean(rehearsed(small(), settings, patients)[0]) > 1.15 * travelled


@pytest.mark.full
@pytest.mark.timeout(900)
def test_a_rehearsal_promises_the_accuracy_of_a_real_run(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where there is something to learn both learn it; means of four runs within 0.2, three standard errors."""
    settings = dataclasses.replace(SETTINGS, epsilons=(60.0,), seeds=4, trials=12)
    steps = {"rounds": 3, "steps_per_round": 24, "optimiser": "adam", "learning_rate": 0.01}
    studies = [small(privacy={"epsilon": 60.0}, training={**steps, "seed": 1 + number}) for number in range(4)]
    hospitals = enrol(tmp_path_factory.mktemp("hospitals"), settings)
    real = statistics.mean(run_for_real(hospitals, study, number)[1] for number, study in enumerate(studies))
    _, practice = rehearsed(studies[0], settings, tmp_path_factory.mktemp("practice"))
    assert min(real, practice) > 0.6
    assert practice == pytest.approx(real, abs=0.2)

"""Approved studies at real hospitals: side by side, one after the other, and through a coordinator's restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.federation.hospitals import DELTA, PATIENTS, POLICY, Hospitals, Place, running_hospitals
from tests.support.commands import dura
from tests.support.policies import approve_study
from tests.support.processes import wait_until
from tests.support.studies import Only, changed

from dura_client.studies.approvals import receive_offer
from dura_common.runtime.running import holder
from dura_common.study import Study, parse_study
from dura_server.studies.standing import phase_of
from dura_server.studies.store import StoredStudy
from dura_server.studies.template import study_toml

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(1200)]

SECONDS = 300.0


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    """Return four running hospitals and their coordinator; no process is left of them afterwards."""
    policy = POLICY.model_copy(update={"minimum_sites": 2})
    with running_hospitals(tmp_path_factory.mktemp("q"), policy) as made:
        yield made


def small(name: str, *sites: str) -> Study:
    """Return a study of two rounds with each hospital's own noise."""
    text = study_toml(
        name=name, question="?", sites=dict.fromkeys(sites, PATIENTS), epsilon=8, delta=DELTA, seed=1, noise="local"
    )
    return changed(
        parse_study(text.encode()),
        data={"channels": ["C3", "Cz", "C4"], "minimum_patients": 5},
        model=Only(name="eegnet", temporal_filters=2, separable_filters=4, kernel_seconds=0.1),
        privacy={"windows_per_patient": 4, "participation": 1.0},
        training={"rounds": 2, "steps_per_round": 2},
        evaluation={"every": 2, "held_out": 0.4},
        aggregation={"minimum_sites": 2, "tolerated_dropouts": 0, "tolerated_colluders": 0, "spare_steps": 8},
    )


def approved(made: Hospitals, name: str, *sites: str) -> StoredStudy:
    """Return a small study of two hospitals that both have approved."""
    stored, offer = made.submit(small(name, *sites))
    for site in sites:
        receive_offer(made.site(site), offer, made.now())
        approve_study(made.site(site), stored.digest, "mi", made.now())
    return stored


def test_a_queue_of_three_studies(hospitals: Hospitals, tmp_path: Path) -> None:
    """Two run side by side, the third waits; a restart keeps that; a stop of the first lets the third begin."""
    first = approved(hospitals, "first", "east", "north")
    second = approved(hospitals, "second", "south", "west")
    third = approved(hospitals, "third", "north", "east")
    go = tmp_path / "go"
    for name in ("east", "south"):
        hospitals.order(name, Place("mask", "train", 1), wait_for=go)
    home = ("--home", hospitals.coordinator)
    answer = dura("study", "run", "first", "second", "third", "--detach", *home)
    assert [one["phase"] for one in answer["studies"]] == ["queued"] * 3
    wait_until(lambda: [phase_of(one) for one in (first, second)] == ["running"] * 2, "both run", SECONDS)
    assert third.read_state().message == "waits for sites of first"

    dura("coordinator", "stop", *home)
    assert [phase_of(one) for one in (first, second, third)] == ["interrupted", "interrupted", "queued"]
    hospitals.start_coordinator(**hospitals.inside("coordinator"))
    wait_until(lambda: [phase_of(one) for one in (first, second)] == ["running"] * 2, "both run again", SECONDS)
    assert phase_of(third) == "queued"

    assert dura("study", "stop", "first", *home)["phase"] == "stopped"
    go.touch()
    wait_until(lambda: [phase_of(one) for one in (second, third)] == ["finished"] * 2, "both finish", SECONDS)
    assert phase_of(first) == "stopped"
    assert dura("study", "resume", "first", *home, timeout=SECONDS)["phase"] == "finished"


def test_a_killed_process_is_noticed_and_the_study_goes_on(hospitals: Hospitals, tmp_path: Path) -> None:
    """The log that the state names says which signal it was; nobody has to ask for the study again."""
    stored = approved(hospitals, "killed", "south", "west")
    go = tmp_path / "go"
    hospitals.order("south", Place("mask", "train", 2), wait_for=go)
    dura("study", "run", "killed", "--detach", "--home", hospitals.coordinator)
    wait_until(lambda: phase_of(stored) == "running", "it runs", SECONDS)
    pid = holder(stored.run_folder)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: stored.read_state().interruptions == 1, "it is noticed", 60)
    go.touch()
    wait_until(lambda: phase_of(stored) == "finished", "it goes on and finishes", SECONDS)
    log = (hospitals.coordinator.logs / "serverapp.log").read_text()
    assert f"the study's process {pid} was ended by signal 9" in log

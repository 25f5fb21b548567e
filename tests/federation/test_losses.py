"""Hospitals die inside a running study, at every stage of a secure sum, and the study goes on with real processes."""

from __future__ import annotations

import base64
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.federation.hospitals import (
    DELTA,
    PATIENTS,
    SITES,
    STEPS,
    Hospitals,
    Place,
    charged,
    running_hospitals,
    small_study,
)
from tests.support.processes import children

from dura_client.site.home import SiteHome
from dura_server.home import CoordinatorHome
from dura_server.studies.store import StoredStudy

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(900)]

VICTIMS = {
    "before advertising its keys": Place("advertise", "train", 1),
    "after advertising": Place("keys", "train", 1),
    "after sending shares": Place("shares", "evaluate", 1),
    "before a vector": Place("mask", "train", 1, step=2),
    "after a vector was sent": Place("masked", "train", 1, step=2),
    "before it saw an opened sum": Place("opened", "train", 1, step=2),
    "before it confirmed the survivors": Place("survivors", "evaluate", 1),
    "before unmasking": Place("confirms", "evaluate", 1),
    "between rounds": Place("idle", "evaluate", 1),
}


VALUES = re.compile(r"(?:-?\d+\.\d*(?:e[-+]?\d+)?[\s,;\[\]()]+){3}-?\d+\.\d", re.IGNORECASE)
"""Four decimals in a row."""
LONGEST_LINE = 2048
PART = 12
"""Bytes of a secret that must not be seen together."""


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospitals]:
    """Return four running hospitals and their coordinator; no process is left of them afterwards."""
    with running_hospitals(tmp_path_factory.mktemp("h")) as made:
        yield made


def kill(hospitals: Hospitals, victim: str, place: Place) -> None:
    """Order a hospital to die; the others keep their vector back until one that is sent before has left."""
    gone = hospitals.order(victim, place)
    if place.stage == "masked":
        for name in set(SITES) - {victim}:
            hospitals.order(name, Place("mask", place.purpose, place.round, place.step), wait_for=gone)


def check(hospitals: Hospitals, stored: StoredStudy, victims: set[str]) -> None:
    """Check the end of a study in which each of some hospitals died once."""
    study, digest = stored.study, stored.digest
    assert np.isfinite(stored.read_model()).all()
    for name in SITES:
        ledger = hospitals.ledger(name)
        ledger.verify()
        steps, evaluations = charged(ledger.entries(), digest)
        left = {
            purpose: {
                (line["round"], line["step"], line["vector"])
                for line in hospitals.journal(name, digest, "masked")
                if line["purpose"] == purpose
            }
            for purpose in ("train", "evaluate")
        }
        assert len(left["train"]) <= steps <= study.paid_steps, name
        assert len(left["evaluate"]) <= evaluations <= study.training.rounds, name
        assert 0 < ledger.spent(DELTA, digest) <= study.privacy.epsilon * (1 + 1e-6), name
        assert len(hospitals.journal(name, digest, "killed")) == (name in victims)
        last = {
            line["step"]: tuple(line["contributors"])
            for line in hospitals.journal(name, digest, "opened")
            if (line["purpose"], line["round"]) == ("train", study.training.rounds)
        }
        assert last == dict.fromkeys(range(1, STEPS + 1), SITES), f"{name} made the last steps without somebody"


def key_files(home: SiteHome | CoordinatorHome) -> list[Path]:
    """Return every file with a secret: the keys (certificates are none), and what is made at a start."""
    keys = [path for path in home.keys.iterdir() if b"CERTIFICATE" not in path.read_bytes()]
    return [*keys, *home.run.glob("*.secret")]


def spellings(path: Path) -> list[str]:
    """Return how parts of a secret would look in a text: hexadecimal, base64 at each of its offsets, and as it is."""
    content = path.read_bytes()
    secrets = [content]
    if b"PRIVATE KEY" in content:
        body = b"".join(line for line in content.splitlines() if not line.startswith(b"-----"))
        secrets = [base64.b64decode(body)]
    found = [content.decode().strip()] if content.isascii() else []
    for secret in secrets:
        parts = [secret[begin : begin + PART] for begin in range(len(secret) - PART + 1)]
        found += [part.hex() for part in parts] + [part.hex().upper() for part in parts]
        found += [base64.b64encode(part).decode() for part in parts]  # twelve bytes fill 16 characters: no padding
        found += [base64.urlsafe_b64encode(part).decode() for part in parts]
        found += [repr(part)[2:-1] for part in parts]
    return found


def in_evaluation(hospitals: Hospitals, stored: StoredStudy, victim: str) -> set[tuple[str, ...]]:
    """Return whose vectors the others found in the sum of the first evaluation."""
    return {
        tuple(line["contributors"])
        for name in set(SITES) - {victim}
        for line in hospitals.journal(name, stored.digest, "opened")
        if (line["purpose"], line["round"]) == ("evaluate", 1)
    }


def serverapp_output(home: CoordinatorHome) -> str:
    """Return what the ServerApp wrote: Flower keeps it in the SuperLink's database."""
    with closing(sqlite3.connect(home.flower / "state.db")) as database:
        text = "".join(line for (line,) in database.execute("SELECT log FROM task_logs"))
    assert "flwr-serverapp" in text
    return text


def restarts(hospitals: Hospitals) -> dict[str, int]:
    """Return how often each hospital's runner was started again."""
    return {name: children(hospitals.site(name).run)["runner"]["restarts"] for name in SITES}


@pytest.fixture(scope="module")
def outlived(hospitals: Hospitals) -> StoredStudy:
    """Return a study of three rounds in which every hospital died once."""
    stored = hospitals.approved(small_study("deaths", rounds=3))
    kill(hospitals, "east", Place("masked", "train", 1, step=2))
    kill(hospitals, "north", Place("survivors", "evaluate", 1))
    kill(hospitals, "south", Place("between", "train", 2))
    kill(hospitals, "west", Place("between", "evaluate", 2))
    outcome = hospitals.run_study(stored)
    assert (outcome["phase"], outcome["round"]) == ("finished", 3)
    return stored


def test_a_study_outlives_hospitals_that_die(hospitals: Hospitals, outlived: StoredStudy) -> None:
    """After sending, while confirming, after a training, between two rounds: all four were back for the last round."""
    check(hospitals, outlived, set(SITES))
    assert in_evaluation(hospitals, outlived, "north") == {SITES}, "its vector had arrived before it died"
    assert all(count >= 1 for count in restarts(hospitals).values())


@pytest.mark.usefixtures("outlived")
def test_no_log_of_a_finished_study_holds_a_secret(hospitals: Hospitals) -> None:
    """No key, no patient, no values in any log of a study with losses, dura's own loggers at DEBUG."""
    homes = {"coordinator": hospitals.coordinator, **{name: hospitals.site(name) for name in SITES}}
    logs = {(name, path.name): path.read_text() for name, home in homes.items() for path in home.logs.iterdir()}
    logs["coordinator", "task_logs"] = serverapp_output(hospitals.coordinator)
    at_coordinator = {"superlink.log", "aggregator.log", "gateway.log", "serverapp.log", "task_logs"}
    assert at_coordinator == {file for name, file in logs if name == "coordinator"}
    assert logs.keys() >= {(name, file) for name in SITES for file in ("runner.log", "supernode.log")}
    assert "DEBUG" in logs["east", "runner.log"], "the loggers speak at DEBUG"
    secrets = [word for home in homes.values() for path in key_files(home) for word in spellings(path)]
    pseudonyms = [pseudonym[:PART] for name in SITES for pseudonym in hospitals.pseudonyms(name)]
    patients = pseudonyms + [label for name in SITES for label in hospitals.labels(name)]
    assert len(secrets) > 100
    assert len(patients) == 2 * len(SITES) * PATIENTS
    for place, text in logs.items():
        assert not [word for word in secrets if word in text], place
        assert not [word for word in patients if word in text], place
        assert not VALUES.search(text), place
        assert max(map(len, text.splitlines()), default=0) <= LONGEST_LINE, place


@pytest.mark.full
@pytest.mark.parametrize("stage", VICTIMS)
def test_a_hospital_may_die_at_any_stage(hospitals: Hospitals, stage: str) -> None:
    """Wherever a hospital dies in the first round, the study ends and the second round counts all four again."""
    victim = SITES[list(VICTIMS).index(stage) % len(SITES)]
    before = restarts(hospitals)
    stored = hospitals.approved(small_study(stage.replace(" ", "-"), rounds=2))
    kill(hospitals, victim, VICTIMS[stage])
    outcome = hospitals.run_study(stored)
    assert (outcome["phase"], outcome["round"]) == ("finished", 2)
    check(hospitals, stored, {victim})
    if VICTIMS[stage].purpose == "evaluate":
        without = tuple(name for name in SITES if name != victim)
        arrived = VICTIMS[stage].stage != "shares"
        assert in_evaluation(hospitals, stored, victim) == {SITES if arrived else without}
    assert restarts(hospitals) == {**before, victim: before[victim] + 1}

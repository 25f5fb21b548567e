"""`dura coordinator status` says what runs, what waits for whom and what needs a person, also to monitors."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.commands import dura, failed, shown
from tests.support.consortium import Consortium
from tests.support.studies import study

from dura_common.runtime import running
from dura_common.runtime.conditions import DISK_CRITICAL, DISK_WARNING, Grade
from dura_server.services.health import Health, health
from dura_server.services.scheduler import enqueue
from dura_server.studies.store import StoredStudy

NOW = datetime.now(UTC)


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return a consortium that lives in the present; nothing of it runs."""
    made = Consortium(tmp_path, moment=None)
    made.make_all()
    return made


def said(found: Health, what: str) -> list[tuple[Grade, str]]:
    """Return the conditions of a word."""
    return [(one.grade, one.sentence) for one in found.conditions if one.what == what]


def test_a_coordinator_at_rest(consortium: Consortium) -> None:
    """Nothing runs, which is critical; nothing else is wrong, and no connection is known."""
    found = health(consortium.coordinator, NOW)
    assert [one.what for one in found.conditions if one.what != "disk"] == ["services"]
    assert said(found, "services") == [(Grade.CRITICAL, "the services are not running; no site can connect")]
    assert [(one.name, one.connected) for one in found.sites] == [("east", None), ("north", None)]


def test_why_the_services_ended(consortium: Consortium) -> None:
    """The reason with which they ended by themselves stands in the sentence."""
    ended = {"when": 0.0, "code": "host", "message": "port 8443 for the gateway cannot be used", "hint": ""}
    consortium.coordinator.run.mkdir()
    (consortium.coordinator.run / "ended.json").write_text(json.dumps(ended))
    ((_, sentence),) = said(health(consortium.coordinator, NOW), "services")
    assert "it ended by itself: port 8443 for the gateway cannot be used" in sentence


def test_ends_are_told_before_they_come(consortium: Consortium) -> None:
    """The certificate a month before, the roster two weeks before; afterwards each is critical."""
    roster, _ = consortium.roster()
    home = consortium.coordinator
    for moment, grade in ((roster.expires - timedelta(days=3), Grade.WARNING), (roster.expires, Grade.CRITICAL)):
        ((found, sentence),) = said(health(home, moment + timedelta(hours=1)), "roster")
        assert (found, f"{roster.expires:%Y-%m-%d}" in sentence) == (grade, True)
    assert said(health(home, NOW), "certificate") == []
    grades = {grade for grade, _ in said(health(home, NOW + timedelta(days=4000)), "certificate")}
    assert grades == {Grade.CRITICAL}


@pytest.mark.parametrize(("free", "grade"), [(DISK_WARNING - 1, Grade.WARNING), (DISK_CRITICAL - 1, Grade.CRITICAL)])
def test_a_full_disk(consortium: Consortium, monkeypatch: pytest.MonkeyPatch, free: int, grade: Grade) -> None:
    """Little space warns, next to none is critical."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]  # the real type
    ((found, _),) = said(health(consortium.coordinator, NOW), "disk")
    assert found is grade


def test_a_roster_that_waits_for_countersignatures(consortium: Consortium) -> None:
    """Its serial and how many are missing."""
    consortium.make_site("west")
    consortium.admit(consortium.card("west"))
    assert said(health(consortium.coordinator, NOW), "rosters") == [
        (Grade.WARNING, "roster 2 is not in force: 0 of 2 needed sites have countersigned it")
    ]


@pytest.fixture
def stored(consortium: Consortium) -> StoredStudy:
    """Return a study that was submitted."""
    return consortium.submit(study(name="hands"))[0]


def test_studies_that_need_somebody(consortium: Consortium, stored: StoredStudy) -> None:
    """A failed or interrupted one is a warning with its message; one that lies still is nothing to say."""
    assert said(health(consortium.coordinator, NOW), "studies") == []
    stored.update(phase="failed", message="too few sites are left")
    assert said(health(consortium.coordinator, NOW), "studies") == [
        (Grade.WARNING, "the study hands is failed: too few sites are left")
    ]
    (stored.folder / "study.json").write_text("{}")
    ((grade, _),) = said(health(consortium.coordinator, NOW), "studies")
    assert grade is Grade.CRITICAL


def test_what_waits_for_whom(consortium: Consortium, stored: StoredStudy) -> None:
    """A study in the queue, its place, and its repeated draws."""
    enqueue(stored, NOW)
    stored.update(message="waits for sites of feet", redraws=2, interruptions=1)
    found = health(consortium.coordinator, NOW)
    (one,) = found.studies
    assert (one.name, one.phase, one.waits_for, one.redraws) == ("hands", "queued", "waits for sites of feet", 2)
    assert said(found, "redraws") == [(Grade.WARNING, "draws of hands that were repeated after a loss: 2")]
    assert "started again 1 times" in said(found, "interruptions")[0][1]


@contextmanager
def running_since(consortium: Consortium, since: float) -> Iterator[None]:
    """Hold the lock of the services, as their supervisor does."""
    with running.Lock(consortium.coordinator.run):
        state = {"pid": os.getpid(), "since": since, "ready": True, "children": []}
        (consortium.coordinator.run / "state.json").write_text(json.dumps(state))
        yield


def test_monitors_read_the_exit_code(consortium: Consortium) -> None:
    """Without --check the command succeeds whatever it says; with it, 2 is critical. People read the same."""
    where = ("--home", consortium.coordinator)
    assert dura("coordinator", "status", *where, here=True)["grade"] == "critical"
    failed("coordinator", "status", "--check", *where, code=2, here=True)
    with running_since(consortium, 1_900_000_000.0):
        found = failed("coordinator", "status", "--check", *where, code=2, here=True).answer
        assert {"sums", "sites"} <= {one["what"] for one in found["conditions"]}
        assert found["since"] == 1_900_000_000.0
        text = shown("coordinator", "status", *where)
        assert "running since 2030-03-17 17:46:40 UTC" in text
        assert "critical: the aggregation service does not answer" in text
    failed("coordinator", "status", "--home", consortium.root / "nowhere", code=14, here=True)

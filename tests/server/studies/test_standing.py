"""What the coordinator says of its studies is so: names, phases of dead processes, and what a command may not undo."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.support.commands import answer, dura, failed, shown
from tests.support.consortium import Consortium, contents
from tests.support.studies import Only, study

from dura_server.services.runs import begin
from dura_server.services.scheduler import enqueue
from dura_server.studies.queue import queue
from dura_server.studies.standing import phase_of
from dura_server.studies.state import ACTIVE, CurvePoint, Phase
from dura_server.studies.store import StoredStudy, StudyStore
from dura_server.studies.template import study_toml

HOLD = "import sys,time\nfrom pathlib import Path\nfrom dura_common.runtime.running import Lock\n"
HOLD += "with Lock(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(600)\n"


@pytest.fixture
def consortium(tmp_path: Path) -> Consortium:
    """Return a consortium whose commands live in the present."""
    made = Consortium(tmp_path, moment=None)
    made.make_all()
    return made


@pytest.fixture
def stored(consortium: Consortium) -> StoredStudy:
    """Return a study that was submitted and lies still."""
    return consortium.submit(study(name="hands"))[0]


@contextmanager
def at_work(stored: StoredStudy) -> Iterator[subprocess.Popen[str]]:
    """Have a process hold the lock of a study, as its ServerApp does."""
    words = [sys.executable, "-c", HOLD, str(stored.run_folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.mark.parametrize("phase", sorted(ACTIVE - {"starting"}))
def test_a_study_whose_process_is_gone_is_interrupted(stored: StoredStudy, phase: Phase) -> None:
    """Whatever its file still says; while the process lives, the file is right."""
    stored.update(phase=phase)
    assert phase_of(stored) == "interrupted"
    with at_work(stored) as process:
        assert phase_of(stored) == phase
        process.kill()
        process.wait()
        assert phase_of(stored) == "interrupted"


def test_a_start_that_came_to_nothing_is_interrupted(stored: StoredStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower is given two minutes to start a process, not for ever."""
    stored.update(phase="starting")
    assert phase_of(stored) == "starting"
    monkeypatch.setattr("dura_server.studies.standing.START_SECONDS", 0.0)
    assert phase_of(stored) == "interrupted"


@pytest.mark.parametrize("phase", ["finished", "failed", "stopped", "unapproved", "offered"])
def test_an_end_stays_an_end(stored: StoredStudy, phase: Phase) -> None:
    """What was written last is not taken for a crash."""
    stored.update(phase=phase)
    assert phase_of(stored) == phase


def test_a_finished_study_is_neither_run_nor_submitted_again(consortium: Consortium, stored: StoredStudy) -> None:
    """Neither `run` nor `resume` nor `submit` changes a word of its state."""
    stored.update(phase="finished", round=5)
    signed = consortium.root / "hands.signed.json"
    signed.write_text(stored.study_envelope)
    before = contents(stored.folder)
    home = ("--home", consortium.coordinator)
    for words in (("run", "hands"), ("resume", "hands"), ("submit", signed)):
        refusal = failed("study", *words, *home, code=14, here=True)
        assert "this study has finished" in refusal.error["message"]
    after = contents(stored.folder)
    assert {name: text for name, text in after.items() if not name.startswith("run/")} == before


def test_a_study_at_work_is_not_started_a_second_time(consortium: Consortium, stored: StoredStudy) -> None:
    """Who asks is told that it runs; no Flower is asked, and its state is left alone."""
    stored.update(phase="running", round=2)
    before = stored.read_state()
    with at_work(stored):
        assert begin(consortium.coordinator, stored, "train") is False
        signed = consortium.root / "hands.signed.json"
        signed.write_text(stored.study_envelope)
        refusal = failed("study", "submit", signed, "--home", consortium.coordinator, code=14, here=True)
        assert "is already running" in refusal.error["message"]
    assert stored.read_state() == before


def test_stopping_what_does_not_run_says_so(consortium: Consortium, stored: StoredStudy) -> None:
    """A study that never began is no study to stop; one whose process is gone is stopped by a word."""
    home = ("--home", consortium.coordinator)
    before = stored.read_state()
    refusal = failed("study", "stop", "hands", *home, code=14, here=True)
    assert "this study is not running; it is submitted" in refusal.error["message"]
    assert stored.read_state() == before
    stored.update(phase="running", round=1)
    assert dura("study", "stop", "hands", *home, here=True)["phase"] == "stopped"
    assert phase_of(stored) == "stopped"


def test_a_study_that_waits_is_stopped_by_a_word(consortium: Consortium, stored: StoredStudy) -> None:
    """It leaves the queue; no process is asked."""
    enqueue(stored, datetime.now(UTC))
    assert phase_of(stored) == "queued"
    assert dura("study", "stop", "hands", "--home", consortium.coordinator, here=True)["phase"] == "stopped"
    assert queue(StudyStore(consortium.coordinator)) == []


def test_a_study_is_queued_only_where_somebody_will_start_it(consortium: Consortium, stored: StoredStudy) -> None:
    """Without services the command says so, and the queue stays empty."""
    consortium.submit(study(name="feet"))
    refusal = failed("study", "run", "hands", "feet", "--home", consortium.coordinator, code=15, here=True)
    assert "services are not running" in refusal.error["message"]
    assert queue(StudyStore(consortium.coordinator)) == []
    assert phase_of(stored) == "submitted"


def test_nothing_begins_by_resuming(consortium: Consortium, stored: StoredStudy) -> None:
    """`resume` is for studies that have begun."""
    home = ("--home", consortium.coordinator)
    refusal = failed("study", "resume", "hands", *home, code=14, here=True)
    assert "this study has not begun" in refusal.error["message"]
    assert stored.read_state().phase == "submitted"


def test_lists_and_status_say_what_is_so(consortium: Consortium, stored: StoredStudy) -> None:
    """A run that died is shown as interrupted, by table and by JSON; no service runs, so no connection is known."""
    consortium.submit(study(name="feet"))
    stored.update(phase="running", round=2, sites={"north": "approved"}, heard={"north": datetime.now(UTC)})
    home = ("--home", consortium.coordinator)
    rows = dura("study", "list", *home, here=True)["studies"]
    assert [(row["name"], row["phase"], row["round"]) for row in rows] == [
        ("hands", "interrupted", 2),
        ("feet", "submitted", 0),
    ]
    (one,) = dura("study", "status", stored.digest[:6], *home, here=True)["studies"]
    assert (one["phase"], one["connected"]) == ("interrupted", None)
    text = shown("study", "status", "hands", *home)
    assert "interrupted, round 2 of 5" in text
    assert "log/serverapp.log in the coordinator's folder" in text
    assert "not asked" in text
    assert "s ago" in text


def test_watching_a_study_that_has_ended_ends(consortium: Consortium, stored: StoredStudy) -> None:
    """One line of JSON, and no waiting."""
    stored.update(phase="finished", round=5)
    line = answer("study", "watch", "hands", "--home", consortium.coordinator, here=True)
    assert (line["phase"], line["round"], line["rounds"]) == ("finished", 5, 5)


def test_submitting_twice_changes_nothing(consortium: Consortium, stored: StoredStudy) -> None:
    """The second copy of a study finds the first with its state."""
    stored.update(phase="failed", round=3, message="lost")
    before = contents(stored.folder)
    roster, envelope = consortium.roster()
    again = StudyStore(consortium.coordinator).submit(stored.study_envelope, envelope, roster)
    assert again.read_state().round == 3
    assert contents(stored.folder) == before


def test_an_expired_study_is_called_expired(consortium: Consortium) -> None:
    """By `check`, `sign`, `submit` and `run`, each with that word and the day."""
    root, home = consortium.root, ("--home", consortium.coordinator)
    yesterday = (datetime.now(UTC) - timedelta(days=1)).date().isoformat()
    sites = {"north": 40, "east": 40}
    text = study_toml(name="late", question="?", sites=sites, epsilon=8, delta=1e-3, seed=1, noise="local")
    lines = [f"expires = {yesterday}" if line.startswith("expires") else line for line in text.splitlines()]
    (root / "late.toml").write_text("\n".join(lines))
    late, _ = consortium.submit(study(name="late", expires=yesterday))
    (root / "late.signed.json").write_text(late.study_envelope)
    roster = ("--roster", consortium.coordinator.roster, "--researcher", consortium.researcher)
    before = contents(late.folder)
    for words in (
        ("check", root / "late.toml"),
        ("sign", root / "late.toml", *roster),
        ("submit", root / "late.signed.json", *home),
        ("run", "late", *home),
    ):
        refusal = failed("study", *words, code=10, here=True)
        assert f"the study has expired: its last day was {yesterday}" in refusal.error["message"], words
    assert contents(late.folder) == before


def test_a_study_of_a_value_is_not_said_to_have_an_accuracy(consortium: Consortium) -> None:
    """Its scores are one minus the mean error as a share of the range, and every command calls them so."""
    table = Only(
        source="table", label="participant", column="age", target="value", bounds=[0, 90], features={"a": [0, 1]}
    )
    evaluation = {"epsilon": 8.0, "outputs": ["error"]}
    asked = study(name="ages", data=table, model={"name": "linear"}, evaluation=evaluation)
    stored = consortium.submit(asked)[0]
    stored.update(phase="finished", round=1, curve=(CurvePoint(round=1, accuracy=0.9, standard_error=0.01),))
    said = shown("study", "watch", "ages", "--home", consortium.coordinator)
    assert "1 - mean error / range 0.900" in said
    assert "accuracy" not in said

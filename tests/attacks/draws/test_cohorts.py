"""Live data behind an approved study: nobody joins unpaid, and no answer tells what happened to one patient."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.attacks.draws.hospital import DELTA, NOW, Hospital, Keeps, Loses, label
from tests.support.commands import dura, failed
from tests.support.policies import approve_study

from dura_client.patients.frozen import Manifest, keep
from dura_client.patients.withdrawal import withdraw
from dura_client.review.review import review
from dura_client.studies.approvals import find_offer
from dura_client.sums.ports import Part
from dura_client.training.engine import PatientEngine
from dura_client.training.patient import TrainingPatient
from dura_common.errors import PolicyError, StateError
from dura_common.messages import Refusal, RefusalReason, RoundDone
from dura_common.privacy import Gaussian
from dura_common.privacy.blocks import Block
from dura_common.secagg import SessionParameters


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[TrainingPatient]]:
    """Return who was asked about in each step: with q = 1, everybody of the side."""
    seen: list[list[TrainingPatient]] = []
    original = PatientEngine.draw

    def spy(self: PatientEngine, patients: list[TrainingPatient]) -> list[TrainingPatient]:
        seen.append(list(patients))
        return original(self, patients)

    monkeypatch.setattr(PatientEngine, "draw", spy)
    return seen


def with_windows(patients: list[TrainingPatient]) -> int:
    """Count patients who have anything to compute."""
    return sum(len(patient.labels) > 0 for patient in patients)


def test_newcomers_are_in_no_study_that_was_approved_before_them(
    hospital: Hospital, tmp_path: Path, drawn: list[list[TrainingPatient]]
) -> None:
    """Patients who join between two attempts, with a restart in between, are neither drawn nor scored."""
    hospital.remove((15, 16, 17), tmp_path / "apart")
    asked = hospital.wanted(aggregation={"spare_steps": 4}, evaluation={"spare_draws": 1})
    reference = hospital.approved(asked)
    assert isinstance(hospital.answer(Loses(), hospital.train(reference), asked), Refusal)
    first = with_windows(drawn[0])
    hospital.bring(tmp_path / "apart")
    withdraw(hospital.home, "sub-005", "motor")  # anything that used to make a running site look again
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference, 2), asked), RoundDone)
    assert {len(step) for step in drawn} == {len(drawn[0])}
    assert with_windows(drawn[-1]) == first - 1
    for number in (15, 16, 17):
        assert not hospital.ledger.knows(hospital.key(number))
        assert hospital.ledger.spent_by(hospital.key(number), DELTA) == 0


def flat(hospital: Hospital) -> None:
    """Overwrite one patient's recordings with a flat line."""
    for path in (hospital.recordings / "sub-001").rglob("*_eeg.*"):
        if path.suffix in {".eeg", ".edf", ".bdf", ".fdt"}:
            content = path.read_bytes()
            head = 0 if path.suffix == ".eeg" else 8192
            path.write_bytes(content[:head] + bytes(len(content) - head))


def broken(hospital: Hospital) -> None:
    """Cut one patient's recordings off."""
    for path in (hospital.recordings / "sub-001").rglob("*_eeg.*"):
        path.write_bytes(path.read_bytes()[:100])


def spent_elsewhere(hospital: Hospital) -> None:
    """Let another study take all that one patient has left."""
    from datetime import date

    from dura_client.ledger.ledger import Caps, Identity

    known = hospital.ledger.identity()
    assert isinstance(known, Identity)
    event = Gaussian(noise_multiplier=0.3)
    manifest = Manifest(
        study="f" * 64,
        dataset="motor",
        public=False,
        split="patients",
        folder="elsewhere",
        training={hospital.key(1): "0" * 64},
        held_out={},
        recordings={},
    )
    hospital.ledger.allocate(
        study="f" * 64,
        blocks=(Block("train", 0, 1, event, event),),
        cohorts={"train": [hospital.key(1)]},
        manifest=keep(hospital.home, manifest),
        caps=Caps(200.0, 200.0, DELTA),
        expires=date(2099, 1, 1),
        identity=known,
    )


CHANGES: dict[str, Callable[[Hospital], object]] = {
    "withdrawn": lambda hospital: withdraw(hospital.home, "sub-001", "motor"),
    "flat": flat,
    "unreadable": broken,
    "missing": lambda hospital: hospital.remove((1,)),
    "copied": lambda hospital: hospital.rename(1, 99, keep=True),
    "spent": spent_elsewhere,
    "many-withdrawn": lambda hospital: [withdraw(hospital.home, f"sub-{n:03d}", "motor") for n in range(1, 17)],
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_happens_to_patients_changes_no_answer(hospital: Hospital, name: str) -> None:
    """Whatever becomes of recordings, withdrawals and budgets after the approval, the site answers the same."""
    asked = hospital.wanted(data={"minimum_patients": 14})
    reference = hospital.approved(asked)
    first = hospital.answer(Keeps(), hospital.train(reference), asked)
    CHANGES[name](hospital)
    hospital.forget_prepared()
    kept = Keeps()
    second = hospital.answer(kept, hospital.train(reference, round=2), asked)
    scored = hospital.answer(kept, hospital.evaluate(reference, round=2), asked)
    assert isinstance(first, RoundDone)
    assert isinstance(second, RoundDone)
    # The state is what everybody makes of the opened sums, so only whether there is one may be compared.
    assert first == RoundDone(study=reference, round=1, attempt=1, state=first.state)
    assert second == RoundDone(study=reference, round=2, attempt=1, state=second.state)
    assert None not in (first.state, second.state)
    assert scored == RoundDone(study=reference, round=2, attempt=1)
    assert len(kept.vectors) == 2


def test_a_patient_whose_data_raise_counts_zero(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while one drawn patient's windows are read ends neither the step nor the evaluation."""
    asked = hospital.wanted()
    reference = hospital.approved(asked)
    calls: list[int] = []
    original = PatientEngine._windows

    def fails(self: PatientEngine, patient: TrainingPatient) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise MemoryError("this patient alone")
        return original(self, patient)

    monkeypatch.setattr(PatientEngine, "_windows", fails)
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference), asked), RoundDone)
    assert len(calls) > 3


def test_a_withdrawal_acts_from_the_next_draw_on(hospital: Hospital, drawn: list[list[TrainingPatient]]) -> None:
    """A patient who withdraws while the site waits inside a session is in no later step of the same request."""
    asked = hospital.wanted(training={"steps_per_round": 3}, privacy={"noise": "local", "participation": 1.0})
    reference = hospital.approved(asked)

    class Waits(Keeps):
        def attend(self, params: SessionParameters, part: Part) -> None:
            withdraw(hospital.home, "sub-005", "motor")
            super().attend(params, part)

    assert isinstance(hospital.answer(Keeps(), hospital.train(reference), asked), RoundDone)
    before = with_windows(drawn[-1])
    assert isinstance(hospital.answer(Waits(), hospital.train(reference, round=2), asked), RoundDone)
    assert with_windows(drawn[-1]) == before - 1
    assert hospital.ledger.verify()


def test_who_has_withdrawn_is_not_prepared_again(hospital: Hospital, drawn: list[list[TrainingPatient]]) -> None:
    """A process that starts after a withdrawal reads nothing of the patient, and no prepared copy comes back."""
    asked = hospital.wanted()
    reference = hospital.approved(asked)
    withdraw(hospital.home, "sub-005", "motor")
    assert not list(hospital.home.cache.glob(f"*/{hospital.key(5)}"))
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference), asked), RoundDone)
    assert not list(hospital.home.cache.glob(f"*/{hospital.key(5)}"))
    assert with_windows(drawn[-1]) == len(drawn[-1]) - 1


def test_patients_without_room_are_left_out_before_the_yes_and_pay_nothing(hospital: Hospital, tmp_path: Path) -> None:
    """Who has spent everything elsewhere is counted, is named to the data manager alone, and is charged nothing."""
    hospital.approved(hospital.wanted())
    spent_elsewhere(hospital)
    before = hospital.ledger.spent_by(hospital.key(1), DELTA)
    asked = hospital.wanted(name="second")
    reference = hospital.offered(asked)
    result = review(hospital.home, find_offer(hospital.home, reference, NOW), "motor")
    assert result.left_out["no budget is left for this study"] == {hospital.key(1)}
    named = tmp_path / "left-out.tsv"
    words = ("site", "review", reference, "--data", "motor", "--home", hospital.home, "--left-out", named)
    assert f"sub-{label(1)}" not in json.dumps(dura(*words, here=True))
    assert named.read_text() == f"participant_id\treason\nsub-{label(1)}\tno budget is left for this study\n"
    assert named.stat().st_mode & 0o077 == 0
    failed(*words, code=StateError.exit_code, here=True)
    approve_study(hospital.home, reference, "motor", NOW)
    assert hospital.ledger.spent_by(hospital.key(1), DELTA) == before


def test_the_policy_is_asked_before_recordings_are_read(hospital: Hospital, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that the policy forbids prepares nothing, neither for a review nor for a request."""
    from tests.support.policies import policy

    from dura_client.release import gate as gate_module
    from dura_client.review import review as review_module
    from dura_client.site.policy import write_policy

    def never(*_: object, **__: object) -> None:
        raise AssertionError("recordings were read")

    asked = hospital.wanted()
    reference = hospital.approved(asked)
    strict = policy(epsilon_per_study=1.0, minimum_sites=2, minimum_patients=5)
    hospital.home.policy.unlink()
    write_policy(hospital.home, strict)
    monkeypatch.setattr(gate_module, "load_frozen", never)
    monkeypatch.setattr(review_module, "load_cohort", never)
    refused = Refusal(reason=RefusalReason.POLICY)
    assert hospital.answer(Keeps(), hospital.train(reference), asked) == refused
    assert review_module.review(hospital.home, find_offer(hospital.home, reference, NOW), "motor").cohort is None
    with pytest.raises(PolicyError, match="epsilon"):
        approve_study(hospital.home, reference, "motor", NOW)


def test_the_gates_steps_are_in_the_order_that_its_header_names(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Approval, policy, allocation, attempt, cohort, draw, computation: as written, each once for one draw."""
    from dura_client.ledger.ledger import Ledger
    from dura_client.release import gate, work

    order: list[str] = []

    def spied(owner: object, name: str, word: str) -> None:
        original = getattr(owner, name)

        def around(*arguments: object, **more: object) -> object:
            order.append(word)
            return original(*arguments, **more)

        monkeypatch.setattr(owner, name, around)

    for owner, name, word in (
        (gate, "require_approved", "approved"),
        (gate, "_check_round", "round"),
        (gate, "judge", "policy"),
        (Ledger, "allocation", "set aside"),
        (gate, "state_from_vector", "vector"),
        (Ledger, "attempt", "number"),
        (gate, "load_frozen", "cohort"),
        (Ledger, "begin", "begin"),
        (work, "train_round", "compute"),
    ):
        spied(owner, name, word)
    asked = hospital.wanted()
    reference = hospital.approved(asked)
    order.clear()
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference), asked), RoundDone)
    # The study's last round, which the request must not pass, comes from the approved study, too.
    assert order.pop(0) == "approved"
    words = ["approved", "round", "policy", "set aside", "vector", "number", "cohort", "begin", "compute"]
    assert order == words
    assert gate.__doc__ is not None
    numbered = [line[0] for line in gate.__doc__.splitlines() if line[:2] in {f"{n}." for n in range(1, 10)}]
    assert numbered == [str(n) for n in range(1, len(words) + 1)]

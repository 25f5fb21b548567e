"""A coordinator that opens a sum in silence and asks again: no vector comes twice, and no draw comes for nothing."""

from __future__ import annotations

from collections.abc import Callable
from unittest import mock

import numpy as np
import pytest
from tests.attacks.draws.hospital import DELTA, Hospital, Keeps, Loses

from dura_client.ledger.refusals import NumberTooHigh
from dura_common.messages import LEAP, MAX_ATTEMPTS, Refusal, RefusalReason, RoundDone
from dura_common.privacy import epsilon_of
from dura_common.privacy.plan import plan_of
from dura_common.sums.agreed import WeightedChange

THREE = ("east", "north", "south")
SHARED = {"noise": "shared", "participation": 0.5}


def redraws(hospital: Hospital, reference: str) -> int:
    """Return how many draws the hospital repeated."""
    (row,) = [row for row in hospital.ledger.studies(DELTA) if row.study == reference]
    return row.redraws


@pytest.mark.parametrize("purpose", ["train", "evaluate"])
def test_without_spare_draws_a_lost_vector_is_never_followed_by_another(hospital: Hospital, purpose: str) -> None:
    """Local noise, nothing spare: after the first vector the same request, and one for other members, bring nothing."""
    asked = hospital.wanted()
    reference = hospital.approved(asked)
    ask: Callable[..., object] = hospital.train if purpose == "train" else hospital.evaluate
    lost = Loses()
    hospital.answer(lost, ask(reference), asked)  # type: ignore[arg-type]  # both are requests for sums
    assert len(lost.vectors) == 1
    before = hospital.ledger.spent(DELTA)
    for attempt in (2, 3, 4):
        answer = hospital.answer(lost, ask(reference, attempt), asked)  # type: ignore[arg-type]  # idem
        assert answer == Refusal(reason=RefusalReason.NO_DRAW_LEFT)
    assert len(lost.vectors) == 1
    assert hospital.ledger.spent(DELTA) == before


def test_a_vector_with_its_own_noise_is_drawn_afresh_and_paid(hospital: Hospital) -> None:
    """One spare round: the second vector has other noise than the first, and the third does not come."""
    asked = hospital.wanted(aggregation={"spare_steps": 2})
    reference = hospital.approved(asked)
    lost = Loses()
    answers = [hospital.answer(lost, hospital.train(reference, attempt), asked) for attempt in (1, 2, 3)]
    assert [getattr(answer, "reason", None) for answer in answers] == [
        RefusalReason.AGGREGATION,
        RefusalReason.AGGREGATION,
        RefusalReason.NO_DRAW_LEFT,
    ]
    first, second = lost.vectors
    assert not np.array_equal(first, second)
    # Two vectors that were the same draw would differ in a few places at most; fresh noise is in all of them.
    assert np.mean(first != second) > 0.9
    assert redraws(hospital, reference) == 1


def test_redraws_with_shared_noise_are_bounded_by_the_spare_steps_exactly(
    new_hospital: Callable[..., Hospital],
) -> None:
    """Whatever rounds and attempts a coordinator goes through, no more than spare_steps draws repeat others."""
    hospital = new_hospital(*THREE)
    asked = hospital.wanted(
        privacy=SHARED, training={"rounds": 3, "steps_per_round": 2}, aggregation={"spare_steps": 3}
    )
    reference = hospital.approved(asked)
    lost = Loses()
    requests = [hospital.train(reference, attempt, round=number) for number in (1, 2, 3) for attempt in range(1, 9)]
    answers = [hospital.answer(lost, request, asked) for request in requests]
    assert len(lost.vectors) == 3 + 3  # the first step of every round once, and the spare ones
    assert redraws(hospital, reference) == 3
    assert answers.count(Refusal(reason=RefusalReason.NO_DRAW_LEFT)) == 24 - 6


def test_repetitions_stay_under_the_studys_own_epsilon_at_its_own_delta(new_hospital: Callable[..., Hospital]) -> None:
    """The cost of all draws is composed at the study's delta too, not only at the policy's, which is larger."""
    hospital = new_hospital(*THREE)
    asked = hospital.wanted(
        privacy={**SHARED, "epsilon": 3.0, "delta": 1e-6},
        evaluation={"epsilon": 3.0, "spare_draws": 1},
        aggregation={"spare_steps": 4},
    )
    reference = hospital.approved(asked)
    lost = Keeps()
    for number in (1, 2):
        for attempt in range(1, 12):
            hospital.answer(lost, hospital.train(reference, attempt, round=number), asked)
        for attempt in range(1, 12):
            hospital.answer(lost, hospital.evaluate(reference, attempt, round=number), asked)
    assert hospital.ledger.spent(1e-6, reference) <= 3.0
    plan = plan_of(asked)
    assert plan.training_event is not None
    assert epsilon_of([plan.training_event], 1e-6) <= 3.0


def test_without_noise_nothing_is_repeated_unless_the_study_says_so(hospital: Hospital) -> None:
    """Public data: the exact vector leaves once, and a study that declares spare draws is warned about."""
    from tests.support.studies import WITHOUT_NOISE, study

    from dura_common.study.warnings import warnings_of

    spare = study(privacy=WITHOUT_NOISE, evaluation={"epsilon": None}, aggregation={"spare_steps": 10})
    assert sum("subtracted" in warning for warning in warnings_of(spare)) == 1
    quiet = study(privacy=WITHOUT_NOISE, evaluation={"epsilon": None})
    assert not any("subtracted" in warning for warning in warnings_of(quiet))
    assert hospital.home.path.exists()


def test_numbers_of_requests_only_grow(hospital: Hospital) -> None:
    """A second coordinator, or one from a backup, is told the number that it must exceed, also after a restart."""
    asked = hospital.wanted()
    reference = hospital.approved(asked)
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference, 5), asked), RoundDone)
    before = hospital.ledger.verify()
    for attempt in (1, 4, 5):
        answer = hospital.answer(Keeps(), hospital.train(reference, attempt), asked)
        assert answer == Refusal(reason=RefusalReason.REPEATED_ROUND, attempt=5)
    rows = [row.kind for row in hospital.ledger.entries()][before.entries :]
    assert set(rows) <= {"host"}  # each restart is a row; no draw began
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference, 1, round=2), asked), RoundDone)


def test_one_message_does_not_use_up_a_round(hospital: Hospital) -> None:
    """How often a round may be drawn follows from the study's spare steps, and never from the number of a request."""
    asked = hospital.wanted(aggregation={"spare_steps": 2})  # one round can be drawn again
    reference = hospital.approved(asked)
    before, lost = hospital.ledger.verify(), Loses()
    for attempt in (LEAP + 1, MAX_ATTEMPTS):
        answer = hospital.answer(lost, hospital.train(reference, attempt), asked)
        assert answer == Refusal(reason=RefusalReason.NOT_UNDERSTOOD)
    rows = [row.kind for row in hospital.ledger.entries()][before.entries :]
    assert set(rows) <= {"host"}  # each restart is a row; no number was accepted
    answers = [hospital.answer(lost, hospital.train(reference, LEAP + more), asked) for more in range(3)]
    assert [getattr(answer, "reason", None) for answer in answers] == [
        RefusalReason.AGGREGATION,
        RefusalReason.AGGREGATION,
        RefusalReason.NO_DRAW_LEFT,
    ]
    assert len(lost.vectors) == 2


def test_a_site_takes_up_a_limited_number_of_requests_for_a_round(hospital: Hospital) -> None:
    """Each request is a row of the ledger, so a coordinator cannot fill the disk of a hospital with requests."""
    ledger = hospital.ledger
    with mock.patch("dura_client.ledger.ledger.MAX_REQUESTS", 5):
        for number in range(1, 6):
            ledger.attempt("a" * 64, "train", 1, number)
        before = ledger.verify()
        with pytest.raises(NumberTooHigh, match="no honest coordinator"):
            ledger.attempt("a" * 64, "train", 1, 6)
        assert ledger.verify() == before
        ledger.attempt("a" * 64, "train", 2, 1)


def test_after_a_loss_the_average_keeps_its_scale(hospital: Hospital) -> None:
    """A site encodes before it knows who adds: the sum of those who are left is read in the very same units."""
    asked = hospital.wanted(sites=dict.fromkeys(("east", "north", "south", "west"), 14))
    change = WeightedChange(asked)
    before = np.zeros(50, np.float32)
    after = np.linspace(-0.1, 0.1, 50, dtype=np.float32)
    left = ("east", "north", "south")
    total = np.sum([change.encode(name, before, after).astype(np.int64) for name in left], axis=0)
    assert np.allclose(change.apply(before, total, left), after, atol=1e-6)

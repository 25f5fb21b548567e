"""What the ledger gives back, charges again, and forgets nobody of: refunds, repeated draws, withdrawals, histories."""

from __future__ import annotations

import pytest
from tests.support.ledger import DELTA, STEP, key, keys, releases, reserve

from dura_client.ledger.ledger import Ledger, RepeatedRound, WithdrawnPatient
from dura_common.errors import BudgetError, StateError
from dura_common.privacy import epsilon_of


def test_a_refund_is_a_row_of_its_own_and_frees_the_round(ledger: Ledger) -> None:
    """Given back before anything was computed, a reservation costs nothing and the round can be reserved again."""
    cap = epsilon_of([STEP], DELTA)
    entry = reserve(ledger, 1, refundable=True, epsilon_total=cap)
    with pytest.raises(BudgetError, match="for all studies together"):
        reserve(ledger, 2, epsilon_total=cap)
    ledger.refund(entry)
    assert ledger.spent(DELTA) == 0
    assert [row[0] for row in releases(ledger)] == ["reserve", "refund"]
    ledger.settle(reserve(ledger, 1, epsilon_total=cap))
    assert ledger.spent(DELTA) == cap
    (study,) = ledger.studies(DELTA)
    assert (study.releases, study.refunded, study.unfinished, study.state) == (1, 1, 0, "settled")
    ledger.verify()


@pytest.mark.parametrize("step", ["not refundable", "begun", "settled", "refunded", "unknown"])
def test_what_may_have_been_computed_is_never_refunded(ledger: Ledger, step: str) -> None:
    """Without a request for it, after computing began, twice, or for nothing, a refund is refused and costs stay."""
    entry = reserve(ledger, 1, refundable=step != "not refundable")
    if step == "begun":
        ledger.begin(entry)
    elif step == "settled":
        ledger.settle(entry)
    elif step == "refunded":
        ledger.refund(entry)
    elif step == "unknown":
        entry += 1
    before = ledger.verify()
    with pytest.raises(StateError, match="stays spent"):
        ledger.refund(entry)
    assert ledger.verify() == before
    assert ledger.spent(DELTA) == (0 if step == "refunded" else epsilon_of([STEP], DELTA))


def test_a_refunded_reservation_cannot_be_settled(ledger: Ledger) -> None:
    """After a refund only a new reservation gives a right to release."""
    entry = reserve(ledger, 1, refundable=True)
    ledger.refund(entry)
    again = reserve(ledger, 1)
    with pytest.raises(StateError, match="closed already"):
        ledger.settle(entry)
    ledger.settle(again)


def test_a_repeated_draw_is_paid_for_by_itself(ledger: Ledger) -> None:
    """Draws that were made again after a loss add up, and each number is used once."""
    reserve(ledger, 1)
    for repeat in (1, 2):
        ledger.settle(reserve(ledger, 1, repeat=repeat))
        with pytest.raises(RepeatedRound, match="was recorded before"):
            reserve(ledger, 1, repeat=repeat)
    assert ledger.spent(DELTA) == epsilon_of([STEP] * 3, DELTA)
    ledger.verify()


def test_a_withdrawn_patient_is_in_no_later_cohort(ledger: Ledger) -> None:
    """A cohort with a withdrawn patient is refused in the ledger itself; what the patient spent before stays."""
    ledger.settle(reserve(ledger, 1, keys(1, 2)))
    assert ledger.withdraw(key(2))
    before = ledger.verify()
    assert not ledger.withdraw(key(2))
    with pytest.raises(WithdrawnPatient, match="has withdrawn") as refusal:
        reserve(ledger, 2, keys(1, 2))
    assert key(2) not in str(refusal.value)
    assert ledger.verify() == before
    assert ledger.withdrawn() == {key(2)}
    reserve(ledger, 2, keys(1))
    assert ledger.spent_by(key(2), DELTA) == epsilon_of([STEP], DELTA)
    assert ledger.withdraw(key(77))
    assert ledger.withdrawn() == {*keys(2, 77)}
    ledger.verify()


def test_the_history_of_a_patient_names_rounds_and_the_last_model(ledger: Ledger) -> None:
    """For each study: the rounds with the patient, the last one that left, and its price; refunds do not count."""
    for number in (1, 2):
        ledger.settle(reserve(ledger, number, keys(1, 2)))
    reserve(ledger, 3, keys(1, 2))
    ledger.refund(reserve(ledger, 4, keys(1, 2), refundable=True))
    ledger.settle(reserve(ledger, 2, keys(1), study="b" * 64, purpose="evaluate", event=None))
    reserve(ledger, 1, keys(2), study="c" * 64)
    first, second = ledger.history(key(1), DELTA)
    assert (first.study, first.train, first.evaluate, first.released) == ("a" * 64, (1, 2, 3), (), 2)
    assert first.epsilon == epsilon_of([STEP] * 3, DELTA)
    assert (second.train, second.evaluate, second.released, second.epsilon) == ((), (2,), None, None)
    assert ledger.history(key(9), DELTA) == ()

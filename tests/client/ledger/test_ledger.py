"""The ledger's promises to the gate: durable, once, never above a cap, and what never began comes back."""

from __future__ import annotations

import stat
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.ledger import (
    DELTA,
    IDENTITY,
    QUERY,
    STEP,
    allocate,
    begin,
    block,
    key,
    keys,
    releases,
)

from dura_client.ledger.ledger import Caps, Identity, Ledger
from dura_client.ledger.refusals import Ended, Fenced, NoDrawLeft, OldAttempt, OtherHost, WithdrawnPatient
from dura_common.errors import BudgetError, StateError, TrustError
from dura_common.privacy import Gaussian, epsilon_of
from dura_common.privacy.gdp import epsilon_of_mu

GENEROUS = Caps(epsilon_total=50.0, epsilon_if_broken=50.0, delta=DELTA)
ONE = Gaussian(noise_multiplier=2.0)
"""A mechanism whose certificate is known on paper: mu is one over its multiplier, and nothing leaks."""


def test_an_absent_ledger_is_empty_and_reading_does_not_make_it(ledger: Ledger, tmp_path: Path) -> None:
    """Questions about a site that never released anything leave no file behind."""
    assert ledger.entries() == ()
    assert ledger.spent(DELTA) == 0
    assert ledger.studies(DELTA) == ()
    assert ledger.last_delta() is None
    assert ledger.verify().entries == 0
    assert ledger.room(keys(1), [block()], GENEROUS) == (True,)
    assert list(tmp_path.iterdir()) == []


def test_a_study_is_set_aside_as_a_whole(tmp_path: Path) -> None:
    """All blocks are there for another process at once, each with its cohort, and nothing has begun."""
    path, moment = tmp_path / "ledger.db", datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    blocks = (block(), block("spare", 2), block("evaluate", 1, QUERY, 2))
    allocate(Ledger(path, clock=lambda: moment), keys(3, 1, 2), blocks=blocks, held_out=keys(7))
    rows = Ledger(path).entries()
    assert [(row.kind, row.purpose, row.round, row.patients) for row in rows[1:]] == [
        ("allocate", "train", 0, 3),
        ("allocate", "spare", 0, 3),
        ("allocate", "evaluate", 2, 1),
    ]
    assert rows[0].kind == "identity"
    assert {row.time for row in rows} == {moment}
    found = Ledger(path).allocation("a" * 64)
    assert found is not None
    assert (found.manifest, found.begun, found.redraws) == ("9" * 64, False, 0)


def test_the_file_is_private(file_ledger: Ledger, tmp_path: Path) -> None:
    """Only the site's user reads the ledger, and nothing else lies beside it afterwards."""
    allocate(file_ledger)
    (file,) = (tmp_path / "site").iterdir()
    assert file.name == "ledger.db"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_every_commit_is_synchronised_to_the_disk(file_ledger: Ledger) -> None:
    """Connections of the ledger use synchronous = FULL (2) on a write-ahead log."""
    allocate(file_ledger)
    with file_ledger._store._backend.reading() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


def test_each_draw_begins_once_and_a_repetition_takes_a_spare_one(ledger: Ledger) -> None:
    """A draw that has begun is never begun again: the next one asked for at its place is a spare one, until none is."""
    allocate(ledger, blocks=(block(draws=2), block("spare", 1)))
    assert [(begun.block, begun.number) for begun in (begin(ledger, 1), begin(ledger, 2))] == [
        ("train", 1),
        ("train", 2),
    ]
    again = begin(ledger, 2)
    assert (again.block, again.number) == ("spare", 1)
    before = ledger.verify()
    for number in (1, 2):
        with pytest.raises(NoDrawLeft, match="spare"):
            begin(ledger, number)
    assert ledger.verify() == before
    assert ledger.redraws("a" * 64) == 1


def test_a_block_holds_no_more_draws_than_were_declared(ledger: Ledger) -> None:
    """A number beyond the block, or before its first draw, begins nothing."""
    allocate(ledger, blocks=(block(draws=2),))
    before = ledger.verify()
    for number in (0, -1, 3, 99):
        with pytest.raises(Ended, match="set aside"):
            begin(ledger, number)
    with pytest.raises(Ended, match="set aside"):
        begin(ledger, 1, study="b" * 64)
    with pytest.raises(Ended, match="set aside"):
        begin(ledger, 1, purpose="evaluate")
    assert ledger.verify() == before


def test_an_evaluation_is_repeated_only_out_of_its_own_spare_draws(ledger: Ledger) -> None:
    """Spare steps of the training pay for no evaluation, since other patients are in it."""
    blocks = (block(), block("spare", 5), block("evaluate", 1, QUERY, 2))
    allocate(ledger, blocks=blocks)
    ledger.begin("a" * 64, "evaluate", 1, manifest="9" * 64, epoch=0, round_number=2, step=1)
    with pytest.raises(NoDrawLeft, match="spare"):
        ledger.begin("a" * 64, "evaluate", 1, manifest="9" * 64, epoch=0, round_number=2, step=1)


def test_what_never_began_comes_back_and_a_begun_block_does_not(ledger: Ledger) -> None:
    """At the end of a study the spare block that was not touched is free again; the training stays spent whole."""
    allocate(ledger, blocks=(block(draws=4, event=ONE), block("spare", 1, ONE)))
    both = ledger.spent(DELTA)
    begin(ledger, 1)
    assert ledger.close("a" * 64)
    assert ledger.spent(DELTA) < both
    assert ledger.spent(DELTA) == pytest.approx(epsilon_of_mu(0.5, DELTA), rel=0.02)
    assert not ledger.close("a" * 64)
    with pytest.raises(Ended, match="set aside"):
        begin(ledger, 2)
    with pytest.raises(StateError, match="begun here"):
        allocate(ledger)


def test_an_approval_that_never_began_can_be_made_again(ledger: Ledger) -> None:
    """Before the first draw a second approval replaces the first, and nobody is charged twice."""
    allocate(ledger)
    once = ledger.spent(DELTA)
    allocate(ledger, keys(1, 2, 3))
    assert ledger.spent(DELTA) == once
    assert [kind for kind, *_ in releases(ledger)] == ["allocate", "close", "allocate"]


def test_studies_that_have_expired_give_back_what_they_never_began(tmp_path: Path) -> None:
    """After its last day an approved study holds nothing back."""
    now = [datetime(2026, 3, 1, tzinfo=UTC)]
    ledger = Ledger(tmp_path / "ledger.db", clock=lambda: now[0])
    allocate(ledger, expires=date(2026, 3, 1))
    ledger.end_expired()
    assert ledger.allocation("a" * 64) is not None
    now[0] = datetime(2026, 3, 2, tzinfo=UTC)
    ledger.end_expired()
    assert ledger.allocation("a" * 64) is None
    assert ledger.spent(DELTA) == 0


def test_squares_of_mu_add_up_under_the_cap(ledger: Ledger) -> None:
    """Studies fit as long as the squares of their mu do: nine of mu 1/2 are one of mu 3/2 (Gaussian DP composes)."""
    cap = epsilon_of_mu(1.5, DELTA * 0.875) * 1.001  # an eighth of delta is set aside for leaks
    for number in range(9):
        allocate(ledger, study=f"{number:064x}", blocks=(block(draws=1, event=ONE),), epsilon_total=cap)
    before = ledger.verify()
    with pytest.raises(BudgetError, match="over all studies") as refusal:
        allocate(ledger, study="f" * 64, blocks=(block(draws=1, event=ONE),), epsilon_total=cap)
    assert key(1) not in str(refusal.value)
    assert ledger.verify() == before
    allocate(ledger, keys(8, 9), study="f" * 64, blocks=(block(draws=1, event=ONE),), epsilon_total=cap)
    assert ledger.spent(DELTA) == pytest.approx(epsilon_of_mu(1.5, DELTA), rel=0.01)


def test_a_broken_aggregation_has_a_sum_of_its_own(ledger: Ledger) -> None:
    """What a coordinator that broke the sums would learn is added up over studies, under its own cap."""
    from dura_common.privacy.blocks import Block

    shared = Block("train", 0, 1, Gaussian(noise_multiplier=8.0), ONE)
    cap = epsilon_of_mu(0.5, DELTA * 0.875) * 1.001
    allocate(ledger, blocks=(shared,), epsilon_if_broken=cap)
    with pytest.raises(BudgetError, match="if the aggregation were broken"):
        allocate(ledger, study="b" * 64, blocks=(shared,), epsilon_if_broken=cap)


def test_patients_pay_for_their_own_cohorts_only(ledger: Ledger) -> None:
    """Disjoint cohorts cost the larger price, a patient of both pays for both."""
    allocate(ledger, keys(1, 2), blocks=(block(), block("evaluate", 1, QUERY, 2)), held_out=keys(3, 4))
    apart = ledger.spent(DELTA)
    assert ledger.spent_by(key(9), DELTA) == 0
    assert apart == max(ledger.spent_by(key(number), DELTA) for number in range(1, 5))
    allocate(ledger, keys(4, 5), study="b" * 64)
    assert ledger.spent_by(key(4), DELTA) > max(ledger.spent_by(key(3), DELTA), ledger.spent_by(key(5), DELTA))


def test_one_exhausted_patient_stops_the_whole_cohort_and_room_names_the_others(ledger: Ledger) -> None:
    """A cohort with one patient at the cap is not set aside; `room` tells who would fit, and those do."""
    cap = epsilon_of_mu(0.6, DELTA * 0.875)
    allocate(ledger, keys(1), blocks=(block(draws=1, event=ONE),), epsilon_total=cap)
    second: dict[str, Any] = {"study": "b" * 64, "blocks": (block(draws=1, event=ONE),), "epsilon_total": cap}
    with pytest.raises(BudgetError, match="over all studies"):
        allocate(ledger, keys(1, 2, 3), **second)
    caps = Caps(epsilon_total=cap, epsilon_if_broken=50.0, delta=DELTA)
    assert ledger.room(keys(1, 2, 3), second["blocks"], caps) == (False, True, True)
    allocate(ledger, keys(2, 3), **second)


def test_studies_without_noise_are_kept_without_a_price(ledger: Ledger) -> None:
    """A public study is recorded, its draws begin once, and it has no epsilon rather than epsilon zero."""
    allocate(ledger, blocks=(block(draws=1, event=None),), epsilon_total=1e-9, epsilon_if_broken=1e-9)
    begin(ledger, 1)
    with pytest.raises(NoDrawLeft, match="spare"):
        begin(ledger, 1)
    (study,) = ledger.studies(DELTA)
    assert (study.epsilon, study.unaccounted, study.draws) == (None, 1, 1)
    assert ledger.spent(DELTA) == 0


def test_inside_a_study_the_price_is_the_accountants(ledger: Ledger) -> None:
    """What one study costs is composed by the accountant, tighter than the certificate that adds up over studies."""
    allocate(ledger)
    exact = epsilon_of([STEP], DELTA)
    assert ledger.spent(DELTA, "a" * 64) == pytest.approx(exact, rel=1e-9)
    assert exact <= ledger.spent(DELTA) < exact * 1.1


def test_a_withdrawn_patient_is_in_no_later_cohort_and_counts_zero_from_the_next_draw_on(ledger: Ledger) -> None:
    """A cohort with a withdrawn patient is refused; a draw that begins later names the patient as withdrawn."""
    allocate(ledger, keys(1, 2))
    assert begin(ledger, 1).withdrawn == frozenset()
    assert ledger.withdraw(key(2))
    assert not ledger.withdraw(key(2))
    assert begin(ledger, 2).withdrawn == {key(2)}
    before = ledger.verify()
    with pytest.raises(WithdrawnPatient, match="has withdrawn") as refusal:
        allocate(ledger, keys(1, 2), study="b" * 64)
    assert key(2) not in str(refusal.value)
    assert ledger.verify() == before
    assert ledger.withdrawn() == {key(2)}


def test_attempts_only_grow(ledger: Ledger) -> None:
    """A request with a number that was taken up before, or a lower one, is refused for ever; other rounds are free."""
    ledger.attempt("a" * 64, "train", 1, 2)
    before = ledger.verify()
    for number in (1, 2):
        with pytest.raises(OldAttempt, match="2"):
            ledger.attempt("a" * 64, "train", 1, number)
    assert ledger.verify() == before
    ledger.attempt("a" * 64, "train", 1, 7)
    ledger.attempt("a" * 64, "evaluate", 1, 1)
    ledger.attempt("a" * 64, "train", 2, 1)


def test_a_process_that_was_replaced_begins_nothing(ledger: Ledger) -> None:
    """The latest process that serves is the only one that may begin draws; another host is refused until it moves."""
    allocate(ledger)
    first = ledger.serve("host-a")
    begin(ledger, 1, epoch=first)
    second = ledger.serve("host-a")
    with pytest.raises(Fenced, match="another process"):
        begin(ledger, 2, epoch=first)
    with pytest.raises(OtherHost, match="another host"):
        ledger.serve("host-b")
    begin(ledger, 2, epoch=second)
    ledger.move("host-b")
    with pytest.raises(Fenced, match="another process"):
        begin(ledger, 3, epoch=second)


@pytest.mark.parametrize("other", [Identity(check="d" * 64, held_out=0.5), Identity(check="c" * 64, held_out=0.25)])
def test_another_pseudonym_key_is_noticed(ledger: Ledger, other: Identity) -> None:
    """A replaced key would make everybody a stranger who has spent nothing: the ledger refuses it."""
    allocate(ledger)
    before = ledger.verify()
    with pytest.raises(TrustError, match="another pseudonym key"):
        allocate(ledger, study="b" * 64, identity=other)
    assert ledger.verify() == before
    assert ledger.identity() == IDENTITY


@pytest.mark.parametrize("patients", [(), keys(1, 1), ("sub-01",), ("A" * 64,)])
def test_wrong_patients_are_a_programming_error(ledger: Ledger, patients: tuple[str, ...]) -> None:
    """Labels instead of keys and doubled patients never reach the file."""
    with pytest.raises(ValueError, match=r"cohort|keys"):
        allocate(ledger, patients)
    assert ledger.entries() == ()


def test_the_history_of_a_patient_names_rounds(ledger: Ledger) -> None:
    """For each study: the rounds in which draws with the patient began, and what the study costs that patient."""
    allocate(ledger, keys(1, 2))
    for number in (1, 2):
        begin(ledger, number)
    allocate(ledger, keys(2), study="c" * 64)
    (first,) = ledger.history(key(1), DELTA)
    assert (first.study, first.train, first.evaluate) == ("a" * 64, (1, 2), ())
    assert first.epsilon == pytest.approx(epsilon_of([STEP], DELTA), rel=1e-9)
    assert ledger.history(key(9), DELTA) == ()

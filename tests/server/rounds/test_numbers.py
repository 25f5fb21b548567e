"""Numbers of requests at the coordinator: they only grow, and no site decides how far."""

from __future__ import annotations

from pathlib import Path

from tests.support.consortium import Consortium
from tests.support.studies import study

from dura_common.messages import LEAP, LEARNED, MAX_ATTEMPTS, Refusal, RefusalReason, TrainRound
from dura_server.rounds.asking import Numbers, parts_of_request


def test_a_site_that_lies_about_numbers_does_not_use_up_a_round(tmp_path: Path) -> None:
    """A coordinator from a backup continues above the numbers of the sites, and believes no claim that is far above."""
    made = Consortium(tmp_path, moment=None)
    made.make_all()
    stored, _ = made.submit(study(name="hands"))
    numbers = Numbers(stored)
    request = TrainRound(
        study=stored.digest, round=1, attempt=numbers.next("train-1"), members=("east", "north"), first_step=1
    )

    def told(*claims: int) -> int:
        refusals = [Refusal(reason=RefusalReason.REPEATED_ROUND, attempt=claim) for claim in claims]
        numbers.learn(parts_of_request(request), dict(zip(("east", "north"), refusals, strict=False)))
        return numbers.next("train-1")

    assert told(7) == 8
    assert told(8 + LEARNED + 1, MAX_ATTEMPTS) == 9
    assert told(9 + LEARNED, MAX_ATTEMPTS) == 10 + LEARNED
    assert LEARNED + 1 < LEAP  # the others accept what follows from such a claim
    assert Numbers(stored).next("train-1") == 11 + LEARNED
    assert Numbers(stored).next("train-2") == 1

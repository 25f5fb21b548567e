"""One budget at two places, and one person under two names: neither may spend what is spent already."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.attacks.draws.hospital import DELTA, NOW, Hospital, Keeps, Loses, vector_for
from tests.support.commands import dura
from tests.support.policies import approve_study
from typer.testing import CliRunner

from dura_client.commands.cli import app
from dura_client.ledger.ledger import Ledger
from dura_client.patients.cohort import load_cohort
from dura_client.patients.frozen import freeze
from dura_client.patients.withdrawal import withdraw
from dura_client.release import gate
from dura_client.review import approval
from dura_client.review.approval import decline_study
from dura_client.review.review import review
from dura_client.site.home import SiteHome
from dura_client.studies.approvals import OfferedStudy, find_offer
from dura_client.sums.ports import Part
from dura_client.training.split import side_of
from dura_common.errors import PolicyError, StateError, TrustError
from dura_common.messages import Refusal, RefusalReason, RoundDone, encode
from dura_common.secagg import SessionParameters

pytestmark = pytest.mark.long


def begun(ledger: Ledger) -> int:
    """Count the draws that began."""
    return sum(row.kind == "begin" for row in ledger.entries())


def test_a_home_that_was_copied_to_another_machine_draws_nothing(
    hospital: Hospital, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy refuses with what to do, until somebody says that the site has moved for good."""
    asked = hospital.wanted()
    reference = hospital.approved(asked)
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference), asked), RoundDone)
    copy = SiteHome(Path(shutil.copytree(hospital.home.path, tmp_path / "copy" / "north")))
    monkeypatch.setattr(gate, "host_id", lambda: "e" * 64)
    there = Hospital(hospital.consortium, hospital.recordings)
    monkeypatch.setattr(Hospital, "home", property(lambda _: copy))
    kept = Keeps()
    answer = there.answer(kept, there.train(reference, round=2), asked)
    assert answer == Refusal(reason=RefusalReason.SITE_FAULT)
    assert kept.vectors == []
    assert begun(there.ledger) == 1
    there.ledger.move("e" * 64)
    assert isinstance(there.answer(kept, there.train(reference, round=2), asked), RoundDone)


def test_the_command_that_moves_a_ledger_asks_first(hospital: Hospital) -> None:
    """Without a yes nothing changes; with it the ledger belongs to this host."""
    hospital.approved(hospital.wanted())
    hospital.ledger.serve("e" * 64)
    before = hospital.ledger.verify()
    refused = CliRunner().invoke(app, ["ledger", "move", "--home", str(hospital.home.path)], input="n\n")
    assert refused.exit_code == PolicyError.exit_code
    assert hospital.ledger.verify() == before
    assert dura("site", "ledger", "move", "--yes", "--home", hospital.home, here=True)["moved"]
    assert hospital.ledger.verify().entries == before.entries + 1


def test_a_second_process_fences_the_first_off(hospital: Hospital) -> None:
    """While one process waits for the others a second one answers: each vector has its own row, none comes back."""
    asked = hospital.wanted(aggregation={"spare_steps": 2})
    reference = hospital.approved(asked)
    kept = Keeps()

    class Overtaken(Keeps):
        def attend(self, params: SessionParameters, part: Part) -> None:
            assert isinstance(hospital.answer(kept, hospital.train(reference, 2), asked), RoundDone)
            super().attend(params, part)

    first = Overtaken()
    request = hospital.train(reference)
    answer = hospital.service(first).answer(encode(request), vector_for(request, asked))
    assert answer == Refusal(reason=RefusalReason.SITE_FAULT)
    assert (len(first.vectors), len(kept.vectors), begun(hospital.ledger)) == (0, 1, 1)
    hospital.ledger.verify()


def test_only_blocks_that_never_began_come_back(hospital: Hospital) -> None:
    """Declining after one vector keeps the training spent and gives the spare draws and the evaluations back."""
    asked = hospital.wanted(aggregation={"spare_steps": 2})
    reference = hospital.approved(asked)
    hospital.answer(Loses(), hospital.train(reference), asked)
    whole, training = hospital.ledger.spent(DELTA, reference), hospital.key(1)
    decline_study(hospital.home, reference)
    held_out = load_cohort(hospital.home, asked, "motor").held_out_keys[0]
    assert 0 < hospital.ledger.spent_by(training, DELTA) < whole
    assert hospital.ledger.spent_by(held_out, DELTA) == 0
    with pytest.raises(StateError, match="begun here"):
        approve_study(hospital.home, reference, "motor", NOW)
    untouched = hospital.approved(hospital.wanted(name="untouched"))
    decline_study(hospital.home, untouched)
    assert hospital.ledger.spent(DELTA, untouched) == 0
    hospital.ledger.verify()


def test_a_new_label_is_noticed_by_the_recordings(hospital: Hospital) -> None:
    """A patient who was in a study and is filed under another label stops the next approval, and nobody is named."""
    hospital.approved(hospital.wanted())
    hospital.rename(1, 51)
    asked = hospital.wanted(name="second")
    reference = hospital.offered(asked)
    result = review(hospital.home, find_offer(hospital.home, reference, NOW), "motor")
    (finding,) = [finding for finding in result.findings if not finding.passed]
    assert finding.rule == "same-labels"
    assert not any(word in finding.sentence for word in ("001", "051"))
    before = hospital.ledger.verify()
    with pytest.raises(PolicyError, match="another label: 1"):
        approve_study(hospital.home, reference, "motor", NOW)
    assert hospital.ledger.verify() == before


def test_who_withdrew_does_not_come_back_under_a_new_label(hospital: Hospital) -> None:
    """The withdrawal holds for the recordings, not only for the label."""
    hospital.approved(hospital.wanted())
    withdraw(hospital.home, "sub-001", "motor")
    hospital.rename(1, 51)
    reference = hospital.offered(hospital.wanted(name="second"))
    with pytest.raises(PolicyError, match="another label: 1"):
        approve_study(hospital.home, reference, "motor", NOW)


def test_another_pseudonym_key_is_noticed(hospital: Hospital) -> None:
    """With a replaced key nobody draws and nobody approves, and the message says what to restore."""
    asked = hospital.wanted()
    reference = hospital.approved(asked)
    path = hospital.home.keys / "pseudonym.key"
    right = path.read_bytes()
    path.write_bytes(b"another".ljust(32, b"*"))
    kept = Keeps()
    answer = hospital.answer(kept, hospital.train(reference), asked)
    assert answer == Refusal(reason=RefusalReason.NOT_AUTHENTIC)
    with pytest.raises(TrustError, match="another pseudonym key") as error:
        load_cohort(hospital.home, asked, "motor")
    assert "backup" in (error.value.hint or "")
    path.write_bytes(right)
    assert isinstance(hospital.answer(kept, hospital.train(reference, 2), asked), RoundDone)
    assert len(kept.vectors) == 1


def sides(hospital: Hospital, found: OfferedStudy) -> tuple[set[str], set[str]]:
    """Return who would train and who would be held out."""
    cohort = load_cohort(hospital.home, found.study, "motor")
    return set(cohort.training_keys), set(cohort.held_out_keys)


def test_who_was_held_out_once_never_trains_whatever_share_a_study_asks_for(hospital: Hospital) -> None:
    """A smaller share takes from within the held-out side, and a larger one than the first study's is refused."""
    first = hospital.approved(hospital.wanted(evaluation={"held_out": 0.4}))
    _, held_out = sides(hospital, find_offer(hospital.home, first))
    for share in (0.15, 0.25, 0.35):
        asked = hospital.wanted(name=f"share-{share:g}", evaluation={"held_out": share})
        training, testing = sides(hospital, find_offer(hospital.home, hospital.offered(asked)))
        assert not training & held_out
        assert testing <= held_out
    more = hospital.wanted(name="more", evaluation={"held_out": 0.5})
    with pytest.raises(PolicyError, match="held-out side"):
        approve_study(hospital.home, hospital.offered(more), "motor", NOW)


@pytest.mark.parametrize("size", [0.25, 0.4])
def test_sides_do_not_depend_on_the_share(size: float) -> None:
    """Nobody who trains at one share is held out at another: the threshold is the site's."""
    keys = [f"{number:064x}" for number in range(500)]
    by_share: list[Callable[[str], str]] = [
        lambda key, share=share: side_of(key, share, size)  # type: ignore[misc]  # bound now
        for share in (0.05, 0.2, 0.25, 0.4, 0.5)
    ]
    for key in keys:
        parts = {side(key) for side in by_share}
        assert parts in ({"training"}, {"held out"}, {"held out", "neither"}, {"neither"})


def test_a_request_under_way_draws_from_no_cohort_that_has_not_paid(hospital: Hospital) -> None:
    """A study is declined and approved again for fewer patients: a request for the old cohort draws nothing."""
    asked = hospital.wanted(data={"minimum_patients": 5})
    reference = hospital.approved(asked)

    class Between(Keeps):
        def attend(self, params: SessionParameters, part: Part) -> None:
            decline_study(hospital.home, reference)
            hospital.remove([1, 2, 5])
            hospital.forget_prepared()
            approve_study(hospital.home, reference, "motor", NOW)
            super().attend(params, part)

    sums = Between()
    assert hospital.answer(sums, hospital.train(reference), asked) == Refusal(reason=RefusalReason.NO_DRAW_LEFT)
    assert sums.vectors == []
    assert begun(hospital.ledger) == 0
    kept = Keeps()
    assert isinstance(hospital.answer(kept, hospital.train(reference, 2), asked), RoundDone)
    assert len(kept.vectors) == begun(hospital.ledger) == 1
    assert hospital.ledger.spent_by(hospital.key(1), DELTA) == 0


def test_an_approval_that_comes_too_late_leaves_the_running_study_as_it_was(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first draw begins while another cohort is being frozen: nothing is approved, nothing is overwritten."""
    asked = hospital.wanted(data={"minimum_patients": 5})
    reference = hospital.approved(asked)
    hospital.remove([1])
    hospital.forget_prepared()

    def slow(*arguments: Any) -> Any:
        assert isinstance(hospital.answer(Keeps(), hospital.train(reference), asked), RoundDone)
        return freeze(*arguments)

    monkeypatch.setattr(approval, "freeze", slow)
    with pytest.raises(StateError, match="has begun here"):
        approve_study(hospital.home, reference, "motor", NOW)
    monkeypatch.undo()
    assert isinstance(hospital.answer(Keeps(), hospital.train(reference, 2, round=2), asked), RoundDone)
    decline_study(hospital.home, reference)
    other = hospital.offered(hospital.wanted(name="another", data={"minimum_patients": 5}))
    approve_study(hospital.home, other, "motor", NOW)

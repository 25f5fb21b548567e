"""One hospital with simulated recordings: the gate releases what the study asks for, and the audit runs on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.support.commands import answer, shown
from tests.support.consortium import Consortium, contents
from tests.support.policies import approve_study
from tests.support.running import TASK
from tests.support.studies import study

from dura_client.data.dataset import DataSet
from dura_client.data.privacy_class import PrivacyClass, Step
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import simulate
from dura_client.ledger.ledger import Ledger
from dura_client.patients.frozen import load_frozen
from dura_client.release.gate import Gate
from dura_client.site.home import SiteHome
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_client.sums.ports import Part
from dura_client.training import engine as engine_module
from dura_common.errors import HostError, PolicyError
from dura_common.messages import EvaluateRound, TrainRound
from dura_common.models import build_model, to_vector
from dura_common.outputs.scores import length_of, parts_of
from dura_common.policy import Policy
from dura_common.secagg import SessionParameters
from dura_common.study import Study

PATIENTS = 14
NOW = datetime.now(UTC)
"""The commands know no other clock than the machine's."""


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> tuple[SiteHome, Study, str]:
    """Return a hospital that has approved a study with all outputs, the study and its digest."""
    root = tmp_path_factory.mktemp("consortium")
    consortium = Consortium(root)
    consortium.make_all(NOW)
    north = consortium.site("north")
    (north.keys / "pseudonym.key").write_bytes(b"harbour".ljust(32, b"*"))  # decides who is held out
    simulate(root / "recordings", "north", patients=PATIENTS, trials=6, seed=3)
    register(north, DataSet(name="motor", root=str(root / "recordings"), task=TASK))
    write_policy(
        north,
        Policy(
            epsilon_per_study=10,
            epsilon_total=20,
            delta=1e-3,
            minimum_patients=10,
            minimum_sites=2,
            public_data_without_noise=False,
        ),
    )
    plan = study(
        sites={"north": PATIENTS, "east": PATIENTS},
        training={"rounds": 2, "steps_per_round": 2, "learning_rate": 0.01},
        evaluation={"epsilon": 8.0, "every": 1, "outputs": ["accuracy", "confusion", "auc"]},
        aggregation={"minimum_sites": 2},
    )
    offer, reference = consortium.offer(plan)
    receive_offer(north, offer, NOW)
    approve_study(north, reference, "motor", NOW)
    return north, plan, reference


class KeptVectors:
    """In place of the way to other sites: keeps what would have been masked."""

    def __init__(self) -> None:
        self.vectors: list[tuple[int, np.ndarray]] = []

    def attend(self, params: SessionParameters, part: Part) -> None:
        """Let the part draw once."""
        self.vectors.append((params.length, part.draw(params.first_step)))


def site(home: SiteHome, *words: object, code: int = 0) -> Any:
    """Run `dura site ...` here; return its object, also that of a failure with the expected code."""
    return answer("site", *words, "--home", home, code=code, here=True)


def test_a_statistic_over_patients_is_stopped_at_the_gate(
    hospital: tuple[SiteHome, Study, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data that a site mean was subtracted from are refused for training and evaluation, before any reservation."""
    home, plan, reference = hospital

    def spoiled(*arguments: Any, **more: Any) -> Any:
        cohort = load_frozen(*arguments, **more)
        steps = (*cohort.steps, Step("site_mean", PrivacyClass.CROSS_PATIENT))
        return replace(cohort, steps=steps)

    monkeypatch.setattr("dura_client.release.gate.load_frozen", spoiled)
    gate = Gate(home, KeptVectors(), clock=lambda: NOW)
    vector = to_vector(build_model(plan))
    before = contents(home.path)
    common = {"study": reference, "round": 1, "attempt": 1, "members": ("east", "north")}
    with pytest.raises(PolicyError, match="site_mean"):
        gate.train(TrainRound(**common), vector)
    with pytest.raises(PolicyError, match="site_mean"):
        gate.evaluate(EvaluateRound(**common), vector)
    after = contents(home.path)
    ledger = home.ledger.name
    assert {name: after[name] for name in before if ledger not in name} == {
        name: before[name] for name in before if ledger not in name
    }
    assert not any(row.kind == "begin" for row in Ledger(home.ledger).entries())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_device_is_found_before_anybody_pays(hospital: tuple[SiteHome, Study, str]) -> None:
    """A site that asks for a device that is not there refuses with what to do, and reserves nothing."""
    home, plan, reference = hospital
    honest = home.settings.read_text()
    home.settings.write_text(honest.replace('"cpu"', '"cuda"'))
    try:
        request = TrainRound(study=reference, round=1, attempt=1, members=("east", "north"))
        with pytest.raises(HostError, match="no CUDA device"):
            Gate(home, KeptVectors(), clock=lambda: NOW).train(request, to_vector(build_model(plan)))
    finally:
        home.settings.write_text(honest)
    assert not any(row.kind == "begin" for row in Ledger(home.ledger).entries())


def test_a_yes_that_nobody_can_give_is_asked_for_by_an_option(hospital: tuple[SiteHome, Study, str]) -> None:
    """Where there is no terminal, `approve` and `ledger move` say which option stands for the answer."""
    home, plan, reference = hospital
    before = contents(home.approvals)
    for words in (("approve", plan.name, "--data", "motor"), ("ledger", "move")):
        error = site(home, *words, code=PolicyError.exit_code)["error"]
        assert "not a terminal" in error["hint"]
        assert "add --yes" in error["hint"]
    assert contents(home.approvals) == before
    assert site(home, "review", reference[:6], "--data", "motor")["study"] == reference


def test_the_gate_releases_the_declared_vector_and_nothing_longer(hospital: tuple[SiteHome, Study, str]) -> None:
    """The curve's point has two sums, the last one all outputs; each goes into one secure sum of that length."""
    home, plan, reference = hospital
    kept = KeptVectors()
    gate = Gate(home, kept, clock=lambda: NOW)
    vector = to_vector(build_model(plan))
    for number in (1, 2):
        common = {"study": reference, "round": number, "attempt": 2, "members": ("east", "north")}
        gate.evaluate(EvaluateRound(**common), vector)
    (first_length, first), (last_length, last) = kept.vectors
    assert (first.shape, first.dtype) == ((2,), np.int64)
    assert last.shape == (length_of(parts_of(plan, 2)),) == (2 + 4 + 40,)
    assert (first_length, last_length) == (first.size, last.size)


def test_the_review_says_what_else_would_leave(hospital: tuple[SiteHome, Study, str]) -> None:
    """Confusion matrix and histogram are named before a privacy officer says yes."""
    home, _, reference = hospital
    leaves = " ".join(site(home, "review", reference[:12], "--data", "motor")["leaves"])
    assert "confusion matrix" in leaves
    assert "histogram of scores" in leaves


def test_the_audit_runs_on_the_sites_own_study(hospital: tuple[SiteHome, Study, str]) -> None:
    """It passes, costs nothing, says what it cannot show, and its JSON has every figure."""
    home, plan, reference = hospital
    before = home.ledger.read_bytes() if home.ledger.exists() else b""
    seen = site(home, "audit-privacy", reference[:12], "--data", "motor", "--canaries", "200")
    assert seen["passed"]
    assert all(check["passed"] for check in seen["checks"])
    assert seen["steps"] == plan.training.steps
    assert seen["epsilon_accounted"] == pytest.approx(8.0, abs=0.1)
    assert 0 < seen["epsilon_expected"] < seen["epsilon_accounted"]
    assert any("only the accounting is a bound" in sentence for sentence in seen["cannot_show"])
    assert (home.ledger.read_bytes() if home.ledger.exists() else b"") == before


def test_a_failed_audit_is_seen_by_people_and_scripts(
    hospital: tuple[SiteHome, Study, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With an engine that forgets its noise the command ends with the exit code of broken trust, in words too."""
    home, _, reference = hospital
    monkeypatch.setattr(engine_module, "add_noise", lambda total, _: total)
    words = ["audit-privacy", reference[:12], "--data", "motor", "--canaries", "40"]
    assert site(home, *words, code=11)["passed"] is False
    text = shown("site", *words, "--home", home, code=11)
    assert "FAILED" in text
    assert "What this audit cannot show" in text


def test_an_audit_needs_noise_and_canaries(hospital: tuple[SiteHome, Study, str], tmp_path: Path) -> None:
    """Too few canaries are an input error; a folder that is no site is one of state."""
    home, _, reference = hospital
    words = ["audit-privacy", reference[:12], "--data", "motor", "--canaries"]
    assert site(home, *words, "5", code=10)["error"]["code"] == "input"
    site(SiteHome(tmp_path / "nowhere"), *words, "50", code=14)

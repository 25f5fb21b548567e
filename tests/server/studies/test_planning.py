"""`dura study plan`: figures that agree with the plan, policies rule by rule, and alternatives that really fit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests.support.commands import answer, shown
from tests.support.studies import Only, merged, small_data, study_data

from dura_common.policy import Policy, judge
from dura_common.privacy.plan import plan_of
from dura_common.study import Study
from dura_server.rounds.rounds import first_parameters
from dura_server.studies.planning import Rehearsal, RehearsalPoint, duration, expected, traffic, verdict

DELTA = 1e-3


def study(noise: str = "local", sites: int = 5, **changes: dict[str, Any]) -> Study:
    """Return a study of 40 steps, with sections changed."""
    sections = study_data(
        name="planned",
        question="?",
        expires="2099-01-01",
        sites={f"site-{number}": 40 for number in range(sites)},
        data=small_data(),
        privacy=Only(noise=noise, epsilon=8.0, delta=DELTA, participation=0.4, windows_per_patient=4),
        training={"rounds": 10, "steps_per_round": 4, "learning_rate": 0.1},
        evaluation={"epsilon": 4.0, "every": 10},
        aggregation={"minimum_sites": sites},
    )
    return Study.model_validate(merged(sections, changes))


def policy(**changes: Any) -> Policy:
    """Return a generous policy, with rules changed."""
    rules: dict[str, Any] = {
        "epsilon_per_study": 10.0,
        "epsilon_total": 20.0,
        "delta": DELTA,
        "minimum_patients": 10,
        "minimum_sites": 3,
        "public_data_without_noise": False,
        "noise": ("local", "shared"),
        "epsilon_if_broken": 60.0,
    }
    return Policy(**{**rules, **changes})


def test_a_study_that_fits_is_shown_what_a_larger_epsilon_would_bring() -> None:
    """Every rule passes, and the only alternative is the cap itself, with less noise."""
    found = verdict(study(), policy(), site="site-1")
    assert found.fits
    (larger,) = found.alternatives
    assert 9.8 < larger.epsilon <= 10
    assert larger.noise_multiplier < plan_of(study()).noise_multiplier
    assert verdict(study(), policy(epsilon_per_study=8.0), site="site-1").alternatives == ()


@pytest.mark.parametrize("spare", [0, 12])
def test_a_study_too_dear_gets_three_ways_out_nearest_first(spare: int) -> None:
    """More noise, fewer steps and smaller participation each fit the cap, spare steps included."""
    wanted = study("shared" if spare else "local", aggregation={"spare_steps": spare})
    found = verdict(wanted, policy(epsilon_per_study=5.0), site="site-1")
    assert [finding.rule for finding in found.findings if not finding.passed] == ["epsilon-per-study"]
    ways = {item.change.split(",")[0]: item for item in found.alternatives}
    assert set(ways) == {"more noise", "fewer steps", "smaller participation"}
    before = plan_of(wanted)
    for item in ways.values():
        assert item.epsilon <= 5.0
    assert ways["fewer steps"].steps < 40
    # Rounds are whole: one of four steps, of those that fit, is up to 8 % of noise.
    assert ways["fewer steps"].noise_multiplier == pytest.approx(before.noise_multiplier, rel=0.08)
    assert ways["smaller participation"].participation < 0.4
    assert ways["smaller participation"].noise_multiplier == pytest.approx(before.noise_multiplier, rel=0.02)
    assert ways["more noise"].noise_multiplier > before.noise_multiplier
    distances = [item.distance for item in found.alternatives]
    assert distances == sorted(distances)


@pytest.mark.parametrize(
    ("noise", "rules"),
    [
        ("local", {"epsilon_per_study": 3.0, "delta": 1e-4, "minimum_patients": 20}),
        ("local", {"epsilon_per_study": 10.0, "minimum_patients": 30}),
        ("local", {"epsilon_per_study": 2.0, "epsilon_total": 2.0}),
        ("shared", {"epsilon_if_broken": 8.0}),
        ("shared", {"noise": ("local",), "epsilon_per_study": 6.0}),
        ("shared", {"epsilon_if_broken": None}),
    ],
)
def test_every_alternative_passes_the_policy_it_was_made_for(noise: str, rules: dict[str, Any]) -> None:
    """Whatever rules fail, there is an alternative, and rebuilt from its figures it passes every rule."""
    limits = policy(**rules)
    found = verdict(study(noise), limits, site="site-1")
    assert not found.fits
    assert found.alternatives
    for item in found.alternatives:
        rebuilt = study(
            item.noise,
            privacy={
                "epsilon": math.nextafter(item.epsilon, math.inf) * 1.001,
                "participation": item.participation,
                "delta": min(DELTA, limits.delta),
            },
            training={"rounds": item.rounds},
            evaluation={"epsilon": item.evaluation_epsilon},
            data={"minimum_patients": max(10, limits.minimum_patients)},
        )
        left = plan_of(rebuilt).epsilon_if_broken
        judged = judge(limits, rebuilt, site="site-1", public_data=True, epsilon_if_broken=left * 0.99)
        assert all(finding.passed for finding in judged if finding.rule != "epsilon-per-study")
        assert plan_of(rebuilt).training_epsilon <= limits.epsilon_per_study * 1.002


def test_a_site_that_is_not_listed_cannot_be_helped() -> None:
    """No other noise makes a study right for somebody who is not in it."""
    found = verdict(study(), policy(), site="elsewhere")
    assert not found.fits
    assert found.alternatives == ()


def test_bytes_are_four_a_parameter_and_sum() -> None:
    """One sum a round with noise of one's own, one a step with shared noise, of exactly the model's parameters."""
    parameters = int(first_parameters(study()).size)
    local, shared = traffic(study(), parameters), traffic(study("shared"), parameters)
    assert (local.sums, local.bytes) == (10, 10 * parameters * 4)
    assert (shared.sums, shared.bytes) == (40, 40 * parameters * 4)
    assert duration(study("shared"), shared, 0.01).computing == pytest.approx(40 * 0.4 * 30 * 0.01)
    assert duration(study("shared"), shared, 0.01).sending > duration(study(), local, 0.01).sending


def test_expected_accuracy_is_interpolated_and_never_extrapolated() -> None:
    """Between two rehearsed epsilons on the logarithm, at one of them itself, outside the nearest with a warning."""
    points = [(1.0, 0.6, 0.5, 0.7), (4.0, 0.8, 0.7, 0.9)]
    rehearsal = Rehearsal(points=tuple(RehearsalPoint(epsilon=e, mean=m, low=a, high=b) for e, m, a, b in points))
    assert expected(rehearsal, 2.0).mean == pytest.approx(0.7)
    assert expected(rehearsal, 2.0).rehearsed
    assert expected(rehearsal, 4.0).mean == 0.8
    for epsilon, mean in ((0.1, 0.6), (50.0, 0.8)):
        found = expected(rehearsal, epsilon)
        assert (found.mean, found.rehearsed) == (mean, False)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Write a study, a policy and a rehearsal."""
    plain = study("shared", aggregation={"tolerated_colluders": 1}).model_dump(mode="json", exclude_none=True)
    plain["expires"] = "2099-01-01"
    text = tomli_w.dumps(plain).replace('expires = "2099-01-01"', "expires = 2099-01-01")
    (tmp_path / "study.toml").write_text(text)
    rules = policy(epsilon_per_study=4.0).model_dump(mode="json", exclude_none=True)
    (tmp_path / "policy.toml").write_text(tomli_w.dumps(rules))
    point = {"epsilon": 8.0, "mean": 0.8, "low": 0.7, "high": 0.9, "runs": 3}
    (tmp_path / "rehearsal.json").write_text(json.dumps({"points": [point], "by": "anybody"}))
    return tmp_path


def run(*words: object, code: int = 0) -> Any:
    """Run `dura study plan` with --json and return its object."""
    return answer("study", "plan", *words, code=code, here=True)


def test_the_command_says_everything_before_anything_is_signed(files: Path) -> None:
    """Noise, both epsilons, accuracy, bytes, time and the policy's answer stand in one object and in the tables."""
    words = (
        files / "study.toml",
        "--policy",
        f"site-2={files / 'policy.toml'}",
        "--rehearsal",
        files / "rehearsal.json",
    )
    data = run(*words)
    plan = plan_of(study("shared", aggregation={"tolerated_colluders": 1}))
    assert data["epsilon"]["training"] == {
        "world": plan.training_epsilon,
        "broken_aggregation": plan.training_epsilon_if_broken,
    }
    assert data["share_multiplier"] == plan.noise_multiplier / 2
    assert (data["rounds"], data["steps"], data["traffic_per_site"]["sums"]) == (10, 40, 40)
    assert data["seconds"]["total"] > 0
    assert data["accuracy"]["mean"] == 0.8
    (site,) = data["policies"]
    assert (site["site"], site["fits"]) == ("site-2", False)
    assert site["alternatives"]
    text = shown("study", "plan", *words, columns=160)
    both = ("against everybody who sees the sums", "if the aggregation is broken")
    for expected_words in ("does NOT fit", "would fit", *both, "MB"):
        assert expected_words in text


def test_wrong_files_are_one_clear_error(files: Path) -> None:
    """A policy without a name, a missing file and something that is no rehearsal are said, with exit code 10."""
    assert "SITE=policy.toml" in run(files / "study.toml", "--policy", "policy.toml", code=10)["error"]["message"]
    run(files / "study.toml", "--policy", "north=absent.toml", code=10)
    error = run(files / "study.toml", "--rehearsal", files / "policy.toml", code=10)["error"]
    assert "rehearsal" in error["message"]
    (files / "empty.json").write_text('{"points": []}')
    run(files / "study.toml", "--rehearsal", files / "empty.json", code=10)


def test_without_noise_no_epsilon_is_shown(tmp_path: Path) -> None:
    """A study on public data has no epsilon, and the command does not invent one."""
    data = study().model_dump(mode="json", exclude_none=True)
    data["privacy"] = {"noise": "none"}
    del data["evaluation"]["epsilon"]
    text = tomli_w.dumps(data).replace('expires = "2099-01-01"', "expires = 2099-01-01")
    (tmp_path / "study.toml").write_text(text)
    assert run(tmp_path / "study.toml")["epsilon"] is None

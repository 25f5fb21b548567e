"""The risk of an attack: against closed forms, against attacks that are carried out, and as people read it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from tests.support.studies import WITHOUT_NOISE, Only, study

from dura_common.privacy import Gaussian, SampledGaussian
from dura_common.privacy.accounting import calibrate_training
from dura_common.privacy.gdp import mu_of_epsilon
from dura_common.privacy.risk import (
    CERTAIN,
    FALSE_ALARMS,
    NO_RISK,
    Risk,
    of_hundred,
    risk_of,
    risk_of_mu,
    risk_of_study,
    sentences,
)


@settings(deadline=None, max_examples=30)
@given(noise=st.floats(0.5, 30), count=st.integers(1, 20))
def test_of_gaussian_sums_the_figures_are_the_closed_form(noise: float, count: int) -> None:
    """The best test between N(0, s^2) and N(1, s^2) is known (Neyman and Pearson): bounds lie on it, never below."""
    mu = np.sqrt(count) / noise
    risk = risk_of([Gaussian(noise_multiplier=noise, count=count)])
    advantage = 2 * norm.cdf(mu / 2) - 1
    hits = norm.cdf(norm.ppf(FALSE_ALARMS) + mu)
    assert advantage <= risk.advantage <= advantage * 1.01 + 1e-6
    assert hits <= risk.hits <= hits * 1.02 + 1e-6


@pytest.mark.parametrize(
    ("epsilon", "advantage", "hits"),
    [(0.1, 0.011, 0.0108), (1.0, 0.093, 0.0183), (3.0, 0.245, 0.045), (8.0, 0.518, 0.189)],
)
def test_of_sampled_steps_the_figures_are_those_of_another_implementation(
    epsilon: float, advantage: float, hits: float
) -> None:
    """Q 0.5, 40 steps, delta 1e-6: figures of riskcal 1.5.1 (Kulynych et al. 2024), with which a prototype agreed."""
    noise = calibrate_training(epsilon, 1e-6, 0.5, 40)
    risk = risk_of([SampledGaussian(participation=0.5, noise_multiplier=noise, steps=40)])
    assert risk.advantage == pytest.approx(advantage, abs=0.001)
    assert risk.hits == pytest.approx(hits, rel=0.02)


def test_an_attack_that_is_carried_out_stays_below() -> None:
    """The likelihood ratio of sampled steps finds no more than the bound in 200,000 outputs of either kind."""
    random = np.random.default_rng(5)
    q, noise, steps, runs = 0.5, 1.5, 4, 200_000
    out = random.normal(0, noise, (runs, steps))
    took_part = random.normal(0, noise, (runs, steps)) + (random.random((runs, steps)) < q)

    def ratio(seen: np.ndarray) -> np.ndarray:
        return np.log1p(q * np.expm1((seen - 0.5) / noise**2)).sum(axis=1)

    threshold = np.quantile(ratio(out), 1 - FALSE_ALARMS)
    hits = (ratio(took_part) > threshold).mean()
    right = ((ratio(took_part) > 0).mean() + (ratio(out) <= 0).mean()) / 2
    risk = risk_of([SampledGaussian(participation=q, noise_multiplier=noise, steps=steps)])
    error = 4 * np.sqrt(0.25 / runs)
    assert 0.8 * risk.hits < hits <= risk.hits + error
    assert right <= risk.right + error
    assert right > 0.5 + 0.8 * (risk.right - 0.5)


@settings(deadline=None, max_examples=30)
@given(epsilon=st.floats(0.1, 20), leak=st.floats(0, 1e-3))
def test_at_a_cap_the_figures_are_those_of_its_gaussian(epsilon: float, leak: float) -> None:
    """The curve of N(mu, 1) against N(0, 1) has the cap's epsilon at its delta (Dong, Roth and Su 2022)."""
    mu = mu_of_epsilon(epsilon, 1e-6)
    delta = norm.cdf(mu / 2 - epsilon / mu) - np.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)
    assert delta == pytest.approx(1e-6, rel=1e-3)
    risk = risk_of_mu(mu, leak)
    assert risk.hits == pytest.approx(min(1, norm.cdf(norm.ppf(FALSE_ALARMS) + mu) + leak))
    assert risk.advantage == pytest.approx(min(1, norm.cdf(mu / 2) - norm.cdf(-mu / 2) + leak))
    with pytest.raises(ValueError, match="must not be negative"):
        risk_of_mu(-mu, leak)


def test_nothing_and_everything() -> None:
    """Without a release there is no risk; without noise it is certain; a broken aggregation is never better."""
    assert risk_of([]) == NO_RISK
    assert risk_of([Gaussian(noise_multiplier=0.01)]) == CERTAIN
    assert risk_of_study(study(privacy=WITHOUT_NOISE, evaluation=Only())) == CERTAIN
    shared = study(
        sites={"north": 40, "east": 40, "south": 40},
        privacy={"noise": "shared"},
        aggregation={"minimum_sites": 3},
    )
    world, broken = risk_of_study(shared), risk_of_study(shared, broken=True)
    assert world.advantage < broken.advantage <= 1
    assert world.hits < broken.hits <= 1


def test_more_steps_never_look_safer() -> None:
    """Both figures grow with the steps."""
    risks = [
        risk_of([SampledGaussian(participation=0.3, noise_multiplier=2.0, steps=steps)]) for steps in (1, 5, 25, 125)
    ]
    assert [risk.advantage for risk in risks] == sorted(risk.advantage for risk in risks)
    assert [risk.hits for risk in risks] == sorted(risk.hits for risk in risks)


@pytest.mark.parametrize(("share", "text"), [(0.5, "50"), (0.5431, "54.4"), (0.01, "1"), (0.0183, "1.9"), (1.0, "100")])
def test_figures_are_rounded_up(share: float, text: str) -> None:
    """A bound that is rounded stays a bound."""
    assert of_hundred(share) == text


def test_the_sentences_name_the_attack_and_what_guessing_gives() -> None:
    """They say who attacks, how often that person is right, and what it would be without the study."""
    text = " ".join(sentences(Risk(0.093, 0.0183)))
    assert "at most 54.7 times in 100. Guessing gives 50." in text
    assert "recognises at most 1.9 in 100" in text
    assert "anonym" not in text
    assert "with certainty" in sentences(CERTAIN)[0]

"""Prices of blocks as the ledger writes them, and what a later check of them accepts."""

from __future__ import annotations

import pytest

from dura_client.ledger.charges import MOST, Charge, charge_of, pays
from dura_common.privacy import Gaussian, SampledGaussian, event_to_json

DELTA = 1e-6
STEPS = event_to_json(SampledGaussian(participation=0.2, noise_multiplier=4.0, steps=100))
SHARE = event_to_json(SampledGaussian(participation=0.2, noise_multiplier=2.0, steps=100))
SUMS = event_to_json(Gaussian(noise_multiplier=3.0, count=2))


@pytest.mark.parametrize(("event", "alone"), [(STEPS, SHARE), (SUMS, SUMS), (STEPS, None), (None, None)])
def test_what_was_charged_pays(event: str | None, alone: str | None) -> None:
    """A price pays for its own block, also if another machine computes the last digits otherwise."""
    charge = charge_of(event, alone, DELTA)
    assert pays(charge, event, alone, DELTA)
    other = charge._replace(mu=round(charge.mu * (1 - 1e-6)), mu_alone=round(charge.mu_alone * (1 - 1e-6)))
    assert pays(other, event, alone, DELTA)


@pytest.mark.parametrize("member", ["mu", "mu_alone", "leak", "leak_alone"])
def test_a_lower_price_does_not_pay(member: str) -> None:
    """A price that is one per cent too low, or without its leak, is no price of the block."""
    charge = charge_of(STEPS, SHARE, DELTA)
    value = getattr(charge, member)
    lower = charge._replace(**{member: 0 if member.startswith("leak") else round(value * 0.99)})
    assert not pays(lower, STEPS, SHARE, DELTA)
    assert pays(charge._replace(**{member: value + 1}), STEPS, SHARE, DELTA)


def test_a_price_beyond_every_cap_pays_for_hardly_any_noise() -> None:
    """A block without a certificate costs more than any cap, and nothing less pays for it."""
    bare = event_to_json(SampledGaussian(participation=0.5, noise_multiplier=0.05, steps=100))
    assert charge_of(bare, bare, DELTA) == Charge(MOST, 0, MOST, 0)
    assert pays(Charge(MOST, 0, MOST, 0), bare, bare, DELTA)
    assert not pays(Charge(MOST - 1, 100, MOST, 0), bare, bare, DELTA)

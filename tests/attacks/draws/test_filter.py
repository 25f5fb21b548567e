"""A researcher who writes the second study after seeing the first one's result: the cap holds all the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import ndtr
from tests.support.ledger import allocate, block, keys

from dura_client.ledger.ledger import Caps, Ledger
from dura_common.errors import BudgetError
from dura_common.privacy import SampledGaussian
from dura_common.privacy.blocks import Block

CAP = 10.0
DELTA = 1e-3
Vector = NDArray[np.float64]


def gaussian(noise: float) -> SampledGaussian:
    """Return one sum over everybody."""
    return SampledGaussian(participation=1.0, noise_multiplier=noise, steps=1)


def rare(participation: float) -> SampledGaussian:
    """Return one sum that hardly anybody is in, with next to no noise."""
    return SampledGaussian(participation=participation, noise_multiplier=0.1, steps=1)


def after(folder: Path, first: SampledGaussian) -> Callable[[SampledGaussian], bool]:
    """Return what tells whether a ledger takes a study after this one."""
    ledger = Ledger(folder / "ledger.db")
    caps = {"epsilon_total": CAP, "epsilon_if_broken": CAP}
    allocate(ledger, keys(1), blocks=(block(draws=1, event=first),), delta=DELTA, **caps)
    return lambda event: all(ledger.room(keys(1), [block(draws=1, event=event)], Caps(**caps, delta=DELTA)))


def dearest(fits: Callable[[float], bool], cheap: float, dear: float) -> float:
    """Return the dearest value that the ledger takes, by bisection on a logarithmic scale."""
    for _ in range(16):
        middle = math.sqrt(cheap * dear)
        cheap, dear = (middle, dear) if fits(middle) else (cheap, middle)
    return cheap


def of_gaussian(epsilons: Vector, mu: float) -> Vector:
    """Return delta at each epsilon of N(mu, 1) against N(0, 1) (Balle and Wang 2018)."""
    result: Vector = ndtr(mu / 2 - epsilons / mu) - np.exp(epsilons) * ndtr(-mu / 2 - epsilons / mu)
    return result


def of_rare(epsilons: Vector, q: float, noise: float) -> Vector:
    """Return delta at each epsilon of the mixture against its centre, for removing a patient."""
    inside = (np.exp(epsilons) - 1) / q + 1
    edge = np.where(inside > 0, noise**2 * np.log(np.where(inside > 0, inside, 1)) + 0.5, -np.inf)
    result: Vector = (
        (1 - q) * ndtr(-edge / noise) + q * ndtr((1 - edge) / noise) - np.exp(epsilons) * ndtr(-edge / noise)
    )
    return result


@pytest.mark.parametrize("mu", [1.0, 1.5])
def test_a_second_study_chosen_by_the_first_ones_result_stays_under_the_cap(tmp_path: Path, mu: float) -> None:
    """Numerical integration over the first result of the better of two second studies: at most the policy's delta.

    A cap on the composed list of what happened let 1.5 to 1.8 times the policy's delta pass.
    """
    accepts = after(tmp_path, gaussian(1 / mu))
    noise = dearest(lambda value: accepts(gaussian(1 / value)), 0.01, 10.0)
    share = dearest(lambda value: accepts(rare(value)), 1e-12, 0.1)
    z = np.linspace(-9, 9, 200_001)
    weights = np.exp(-z * z / 2) / math.sqrt(2 * math.pi) * (z[1] - z[0])
    left = CAP - (mu * mu / 2 + mu * z)
    better = np.maximum(of_gaussian(left, noise), of_rare(np.minimum(left, 600), share, 0.1))
    assert float(np.sum(weights * np.clip(better, 0, 1))) <= DELTA
    assert noise > 1  # the filter leaves room for a second study worth its name


def test_broken_aggregation_is_summed_over_studies(tmp_path: Path) -> None:
    """Ten studies whose single shares cost epsilon 6 each do not fit under 20 together, whatever the world sees."""
    ledger = Ledger(tmp_path / "ledger.db")
    share = Block("train", 0, 1, gaussian(40.0), gaussian(1.0))
    caps = {"epsilon_total": CAP, "epsilon_if_broken": 20.0}

    def run(number: int) -> None:
        allocate(ledger, keys(1, 2), study=f"{number:064x}", blocks=(share,), delta=DELTA, **caps)

    done = 0
    while all(ledger.room(keys(1, 2), [share], Caps(**caps, delta=DELTA))):
        run(done)
        done += 1
    assert 1 < done < 20
    with pytest.raises(BudgetError, match="if the aggregation were broken"):
        run(done)
    assert ledger.spent(DELTA) < 1
    assert all(ledger.room(keys(3), [share], Caps(**caps, delta=DELTA)))

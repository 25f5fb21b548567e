"""Rényi divergences: bounds on epsilon for many patients at once, about a tenth above the tight ones.

A quick yes: who stays under a cap by this bound stays under it. Who does not is composed tightly
(:mod:`dura_common.privacy.loss`). Divergences of different mechanisms add up, order by order.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, logsumexp

from dura_common.privacy.loss import Sampled

ORDERS: NDArray[np.float64] = np.array([*range(2, 33), 40, 48, 64, 96, 128, 256, 512], dtype=np.float64)
"""Whole orders, for which the sampled Gaussian has a closed form."""


@lru_cache(maxsize=4096)
def divergences(mechanism: Sampled) -> NDArray[np.float64]:
    """Return the divergence of one step at each of :data:`ORDERS`.

    Mironov, Talwar and Zhang 2019 (arXiv 1908.10530), section 3.3: for a whole order a, with noise s,
    D = 1/(a - 1) log sum_k binomial(a, k) (1 - q)^(a - k) q^k exp((k^2 - k) / 2 s^2), in both directions.
    """
    q, s = mechanism.participation, mechanism.noise_multiplier
    if q == 1:
        return ORDERS / (2 * s * s)
    result = np.empty(ORDERS.size)
    for position, order in enumerate(ORDERS):
        k = np.arange(order + 1)
        binomial = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
        terms = binomial + (order - k) * math.log1p(-q) + k * math.log(q) + (k * k - k) / (2 * s * s)
        result[position] = logsumexp(terms) / (order - 1)
    return result


def epsilon_bounds(divergence: NDArray[np.float64], delta: float) -> NDArray[np.float64]:
    """Return an upper bound on epsilon for each row of divergences, shape (rows, orders) to (rows,).

    Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), proposition 12.
    """
    correction = np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    bounds: NDArray[np.float64] = np.maximum(0.0, (divergence + correction).min(axis=1))
    return bounds

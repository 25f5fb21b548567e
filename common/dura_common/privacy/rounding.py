"""The cost of rounding noise shares: instead of one Gaussian, each of h sites adds a rounded Gaussian to integers.

One site is easy: x + round(z) = round(x + z) for integer x, so the guarantee of the continuous Gaussian holds
unchanged. For h shares of deviation s (in steps of the grid), compare their sum K = round(z_1) + ... + round(z_h) with
K' = round(z_1 + ... + z_h + u), where u is a sum of h - 1 independent uniform numbers in [-1/2, 1/2]. Adding K' is
post-processing of the Gaussian mechanism of deviation s sqrt(h), so it keeps that guarantee exactly; and K has nearly
the law of K'. With g(t) = exp(-s^2 t^2 / 2) sin(t/2) / (t/2), the characteristic functions are, on [-pi, pi],

    of K: (sum over m of g(t + 2 pi m))^h,    of K': sum over m of g(t + 2 pi m)^h,

which differ only in the mixed products. The largest of these is at most exp(-2 pi^2 s^2 (h - 1) / h): the exponent
k / (k + 1) of Kairouz, Liu and Steinke 2021 (arXiv 2102.06387, proposition 13) for discrete Gaussian shares. The sum of
all mixed products and of the Gaussian tails beyond a window bounds the total variation; at ten steps it is below
10^-400.

A sum may contain more than h shares: those of sites that seemed lost but arrived, and those of colluders. They are
independent noise on top, which is post-processing too.
"""

from __future__ import annotations

import math

SMALLEST_SHARE = 0.5
"""Smallest share, in steps of the grid. Below it, neighbouring terms of the series are no longer negligible, and this
module claims nothing."""
_NEIGHBOURS = 1.001
"""Bounds 1 + exp(-4 pi^2 s^2) + exp(-12 pi^2 s^2) + ... for all shares of at least :data:`SMALLEST_SHARE`."""


def log_variation(share: float, honest: int) -> float:
    """Return the natural logarithm of a bound on the total variation between the laws of K and K', at most 0.

    Args:
        share: deviation of one site's noise, in steps of the grid.
        honest: number of sites whose shares count (h). With one site, the laws are the same, and the result is minus
            infinity.

    Raises:
        ValueError: the share is below :data:`SMALLEST_SHARE`, or there is no honest site.
    """
    if not (share >= SMALLEST_SHARE and math.isfinite(share)):
        raise ValueError(f"a share of the noise must be at least {SMALLEST_SHARE} steps of the grid, got {share:g}")
    if honest < 1:
        raise ValueError(f"at least one honest site must add noise, got {honest}")
    if honest == 1:
        return -math.inf
    terms = [_log_term(share, honest, mixed) for mixed in range(1, honest + 1)]
    largest = max(terms)
    density = largest + math.log(math.fsum(math.exp(term - largest) for term in terms))
    if density >= 0:
        return 0.0
    # Inside the window the laws differ by exp(density) at each integer. Outside, both have no more mass than that.
    window = honest / 2 + share * math.sqrt(-2 * honest * density)
    return min(0.0, density + math.log(window + 2.5))


def _log_term(share: float, honest: int, mixed: int) -> float:
    """Return the logarithm of what products with ``mixed`` factors off the main term add, at the worst t."""
    exponent = mixed * (honest - mixed) / honest if 2 * mixed <= honest else honest / 4
    ways = math.lgamma(honest + 1) - math.lgamma(mixed + 1) - math.lgamma(honest - mixed + 1)
    return ways + mixed * math.log(2 * _NEIGHBOURS) - 2 * math.pi**2 * share**2 * exponent


def extra_delta(share: float, honest: int, values: int, epsilon: float) -> float:
    """Return what rounding adds to delta at ``epsilon`` over all releases together, at most 1.

    If the continuous mechanism is (epsilon, delta), the one with rounded shares is (epsilon, delta + this result): each
    of two neighbouring outputs moves by at most the total variation, one of them weighted with exp(epsilon).

    Args:
        share: deviation of one site's noise, in steps of the grid.
        honest: number of sites whose shares count.
        values: how many numbers are released in all: length of a vector times the number of sums.
        epsilon: the epsilon at which delta is read.

    Raises:
        ValueError: as for :func:`log_variation`, or there is less than one value.
    """
    if values < 1:
        raise ValueError(f"at least one value is released, got {values}")
    log_delta = log_variation(share, honest) + math.log(values) + epsilon + math.log1p(math.exp(-epsilon))
    return 1.0 if log_delta >= 0 else math.exp(log_delta)


def smallest_share(honest: int, values: int, epsilon: float, extra: float) -> float:
    """Return the smallest share (in steps, to a thousandth) for which rounding adds at most ``extra`` to delta.

    A plan refuses shares below it.

    Raises:
        ValueError: ``extra`` is not between 0 and 1, or as for :func:`extra_delta`.
    """
    if not 0 < extra < 1:
        raise ValueError(f"what may be added to delta must lie between 0 and 1, got {extra}")
    low, high = SMALLEST_SHARE, SMALLEST_SHARE
    while extra_delta(high, honest, values, epsilon) > extra:
        low, high = high, 2 * high
    while high - low > 1e-3:  # noqa: PLR2004  # as documented
        middle = (low + high) / 2
        low, high = (low, middle) if extra_delta(middle, honest, values, epsilon) <= extra else (middle, high)
    return high

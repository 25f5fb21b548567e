"""Features of a connectome that depend on one patient alone, so that a private sum over patients may use them.

A connectome is given by its edges: the upper triangle of the regions' correlation matrix without the diagonal, row
by row. Centring by the site's mean or selecting edges on the site's data is not here, and must not be
(:mod:`dura_client.data.privacy_class`).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.errors import InputError

SHRINKAGE = 0.1
"""Share of the identity in the matrix whose root is taken: short scans make correlation matrices singular."""
SMALLEST_EIGENVALUE = 0.02


@declares(PrivacyClass.PER_PATIENT)
def gaussian_ranks(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the standard normal quantiles of the edges' ranks: removes the patient's own mean, scale and outliers."""
    from scipy.stats import norm, rankdata  # noqa: PLC0415  # its import takes half a second, and training ranks nothing

    quantiles: NDArray[np.float64] = norm.ppf((rankdata(edges) - 0.5) / edges.size)
    return quantiles


@declares(PrivacyClass.PER_PATIENT)
def root_edges(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of the matrix square root, centred: half way from correlations to their tangent space.

    Raises:
        InputError: the number of edges is not that of a matrix.
    """
    size = regions_of(edges.size)
    above = np.triu_indices(size, 1)
    matrix = np.eye(size)
    matrix[above] = (1 - SHRINKAGE) * edges
    matrix = np.triu(matrix) + np.triu(matrix, 1).T
    values, vectors = np.linalg.eigh(matrix)
    root: NDArray[np.float64] = (vectors * np.sqrt(np.maximum(values, SMALLEST_EIGENVALUE))) @ vectors.T
    centred: NDArray[np.float64] = root[above] - root[above].mean()
    return centred


def regions_of(edges: int) -> int:
    """Return the number of regions that have this many edges between them.

    Raises:
        InputError: no number has.
    """
    size = (1 + math.isqrt(1 + 8 * edges)) // 2
    if edges < 1 or size * (size - 1) // 2 != edges:
        raise InputError(f"{edges} is not the number of edges of a connectome; 111 regions have 6105")
    return size


@declares(PrivacyClass.PER_PATIENT)
def edges_of(series: NDArray[np.float64], kind: str) -> tuple[NDArray[np.float64], float]:
    """Return the edges of one recording's connectome, and the share of regions that had no usable values.

    Pearson's correlation and not a shrunken one: shrinkage depends on the length of the scan, which would make the
    length a mark of the hospital. Edges of a region that is flat or not finite are zero.

    Args:
        series: (volumes, regions).
        kind: of the contract: correlation, ranks, root or root-ranks.
    """
    usable = np.isfinite(series).all(axis=0)
    usable &= np.where(usable, series, 0.0).std(axis=0) > 0
    correlation = np.zeros((series.shape[1], series.shape[1]))
    if usable.sum() > 1:
        correlation[np.ix_(usable, usable)] = np.corrcoef(series[:, usable], rowvar=False)
    edges = correlation[np.triu_indices(series.shape[1], 1)]
    if kind.startswith("root"):
        edges = root_edges(edges)
    if kind.endswith("ranks"):
        edges = gaussian_ranks(edges)
    return edges, 1 - float(usable.mean())

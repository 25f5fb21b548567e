"""Features of a connectome: what they remove, what they keep, and that nobody else's edges enter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from dura_client.data.privacy_class import PrivacyClass, step_of
from dura_client.data.sources.fmri.connectomes import SHRINKAGE, gaussian_ranks, regions_of, root_edges
from dura_common.errors import InputError


def edges(regions: int, seed: int) -> NDArray[np.float64]:
    """Return the correlations between random signals of few common sources."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(60, 3)) @ rng.normal(size=(3, regions)) + rng.normal(size=(60, regions))
    return np.corrcoef(signals.T)[np.triu_indices(regions, 1)]


@settings(max_examples=20, deadline=None)
@given(shift=st.floats(-0.5, 0.5), scale=st.floats(0.1, 9), seed=st.integers(0, 99))
def test_ranks_forget_a_patients_own_mean_and_scale(shift: float, scale: float, seed: int) -> None:
    """Shifting and scaling one patient's edges changes nothing; order is kept, the mean is zero."""
    plain = edges(9, seed)
    ranked = gaussian_ranks(plain)
    assert np.allclose(gaussian_ranks(plain * scale + shift), ranked)
    assert np.array_equal(np.argsort(ranked), np.argsort(plain))
    assert abs(ranked.mean()) < 1e-12


@pytest.mark.parametrize("regions", [2, 9, 40])
def test_the_root_is_the_matrix_square_root(regions: int) -> None:
    """The edges are those of scipy's square root of the shrunk matrix, centred."""
    plain = edges(regions, 5)
    above = np.triu_indices(regions, 1)
    half = np.zeros((regions, regions))
    half[above] = (1 - SHRINKAGE) * plain
    matrix = half + half.T + np.eye(regions)
    expected = np.real(sqrtm(matrix))[above]
    assert np.allclose(root_edges(plain), expected - expected.mean(), atol=1e-8)


@pytest.mark.parametrize("count", [0, 2, 6104, 6106])
def test_a_number_that_no_connectome_has_is_refused(count: int) -> None:
    """Edges of half a region do not exist."""
    with pytest.raises(InputError, match="111 regions have 6105"):
        regions_of(count)
    assert regions_of(6105) == 111


def test_both_features_depend_on_one_patient() -> None:
    """They may enter a private sum."""
    assert {step_of(step).privacy for step in (gaussian_ranks, root_edges)} == {PrivacyClass.PER_PATIENT}

"""Somebody breaks the aggregation and looks behind the end of a hospital's noise.

The noise used to end at 8.57 standard deviations (Box-Muller on 53 bits). With ten honest sites one share is 0.15 of
what a patient adds, so a patient moved the sum behind that end in one release out of a hundred: proof of taking part.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from tests.bench.bench_noise import by_53_bits

from dura_client.training import secure_random
from dura_client.training.secure_random import integer_gaussian
from dura_common.errors import InputError
from dura_common.privacy.plan import plan_of
from dura_common.privacy.tails import REACH, smallest_multiplier
from dura_common.study import Study

OLD_REACH = math.sqrt(2 * 53 * math.log(2))
SHARE = 0.152
"""Of ten honest sites at epsilon 8 and delta 1e-3."""


def shared(epsilon: float, sites: int, delta: float = 1e-3) -> Study:
    """Return a study whose noise is shared by many sites, all honest but the one that is spared."""
    content: dict[str, Any] = {
        "name": "tails",
        "question": "?",
        "expires": "2099-01-01",
        "sites": {f"site{number:02d}": 40 for number in range(sites)},
        "data": {
            "task": "t",
            "channels": ["C3", "C4"],
            "sampling_rate": 64.0,
            "band": [4.0, 30.0],
            "window_start": 0.0,
            "window_length": 1.0,
            "classes": ["a", "b"],
        },
        "privacy": {
            "noise": "shared",
            "epsilon": epsilon,
            "delta": delta,
            "participation": 0.4,
            "windows_per_patient": 4,
        },
        "training": {"rounds": 1, "steps_per_round": 4, "learning_rate": 0.1},
        "evaluation": {"epsilon": epsilon},
        "aggregation": {"minimum_sites": sites},
    }
    return Study.model_validate(content)


def test_the_old_noise_ended_where_a_patient_was_seen() -> None:
    """All of the old sampler's values lie within 8.57; what lies beyond with a patient would prove the patient."""
    old = by_53_bits(1_000_000, SHARE * 2**16) / (SHARE * 2**16)
    assert np.abs(old).max() < OLD_REACH
    proof = float(np.mean(old + 1 / SHARE > OLD_REACH))
    assert proof > 5 * 1e-3  # many times the stated delta, in a single release


def test_the_new_noise_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rarest words give values beyond the old end, and the end that is left costs nothing."""
    monkeypatch.setattr(secure_random, "words", lambda count: np.zeros(count, dtype=np.uint64))
    values = np.abs(integer_gaussian(1000, SHARE * 2**16)) / (SHARE * 2**16)
    assert values[:500].min() > OLD_REACH
    assert values.max() <= REACH + 1e-3
    assert smallest_multiplier(330, 1e-25) < SHARE


def test_noise_that_its_tails_do_not_carry_is_refused() -> None:
    """A plan whose shares are too small for the tails is refused with what to do."""
    with pytest.raises(InputError, match=r"each site's noise would be .* at least 0\.0") as caught:
        plan_of(shared(60.0, 20))
    assert caught.value.hint is not None
    assert "smaller epsilon" in caught.value.hint
    assert plan_of(shared(8.0, 10)).share_multiplier > 0.1

"""Warnings that every output about a study must show."""

from __future__ import annotations

from dura_common.study.noise import NoNoise, SharedNoise
from dura_common.study.study import Study


def warnings_of(study: Study) -> tuple[str, ...]:
    """Return the study's warnings, the most serious first; empty if there are none."""
    found = []
    if isinstance(study.privacy, NoNoise):
        found.append(
            'noise = "none": this study has no differential privacy; only data registered as public may take part'
        )
    if isinstance(study.privacy, SharedNoise) and study.aggregation.tolerated_colluders == 0:
        found.append(
            "tolerated_colluders = 0: a site of this study knows its own share of the noise and can subtract it "
            "from a sum, so the other sites' patients have less protection against this site than epsilon says"
        )
    if isinstance(study.privacy, NoNoise) and (study.aggregation.spare_steps or study.evaluation.spare_draws):
        found.append(
            "spare draws without noise: two sums of one round over different sites, subtracted, show what the sites "
            "that are in only one of them had sent"
        )
    return tuple(found)

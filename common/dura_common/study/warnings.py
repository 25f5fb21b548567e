"""What every output about a study must say aloud."""

from __future__ import annotations

from dura_common.study.noise import NoNoise, SharedNoise
from dura_common.study.study import Study


def warnings_of(study: Study) -> tuple[str, ...]:
    """Return the study's warnings, most serious first; empty if there is nothing to warn of."""
    found = []
    if isinstance(study.privacy, NoNoise):
        found.append('noise = "none": no differential privacy; only data registered as public may take part')
    if isinstance(study.privacy, SharedNoise) and study.aggregation.tolerated_colluders == 0:
        found.append(
            "tolerated_colluders = 0: a participating site, which knows its own share of the noise, sees the sums of "
            "the others with less noise than epsilon says"
        )
    if isinstance(study.privacy, NoNoise) and (study.aggregation.spare_steps or study.evaluation.spare_draws):
        found.append(
            "spare draws without noise: two sums of one round over different sites, subtracted, show what the sites that "
            "are in only one of them had sent"
        )
    return tuple(found)

"""Why a recording gives no example, and why a patient is no patient of a study: rules of the study, one patient each.

The reasons are for the data manager of this hospital. Nothing of them, and no number of them, leaves the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag

from dura_client.data.privacy_class import PrivacyClass, declares
from dura_common.study import LeavingOut


class Broken(IntFlag):
    """Rules that a recording breaks."""

    INTERPOLATED = 1
    REJECTED = 2
    SHORT = 4
    ANSWER = 8
    REGIONS = 16
    CELLS = 32
    FORM = 64
    SENSORS = 128


WORDS = {
    Broken.ANSWER: "no answer in the table that the study asks for",
    Broken.INTERPOLATED: "too many interpolated channels",
    Broken.REJECTED: "too many windows lost to gaps, BAD marks or values that are not numbers",
    Broken.SHORT: "too short",
    Broken.REGIONS: "too many regions without values",
    Broken.CELLS: "too many missing cells",
    Broken.FORM: "not of the form that the study asks for",
    Broken.SENSORS: "a sensor of the study is missing or bad, and MEG is not interpolated",
}
FEW = "fewer windows than the study demands"


@declares(PrivacyClass.PER_PATIENT)
def broken_rules(rules: LeavingOut, *, interpolated: float, rejected: float, seconds: float) -> Broken:
    """Return which rules a recording breaks.

    Args:
        rules: of the study.
        interpolated: share of the study's channels that were interpolated.
        rejected: share of windows that were lost.
        seconds: recorded time without gaps.
    """
    found = Broken(0)
    if interpolated > rules.largest_interpolated:
        found |= Broken.INTERPOLATED
    if rejected > rules.largest_rejected:
        found |= Broken.REJECTED
    if seconds < rules.shortest_seconds:
        found |= Broken.SHORT
    return found


def why_left_out(rules: LeavingOut, windows: int, broken: Sequence[int]) -> str | None:
    """Return why a patient takes no part, in words; None for a patient of the study.

    Args:
        rules: of the study.
        windows: number of the patient's windows.
        broken: of each recording, the rules that it breaks (:class:`Broken`).
    """
    if windows >= rules.fewest_windows:
        return None
    seen = Broken(0)
    for rule in broken:
        seen |= Broken(rule)
    causes = [words for rule, words in WORDS.items() if rule in seen]
    return "; ".join(causes) if causes else FEW

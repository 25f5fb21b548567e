"""Annotated stretches against a study: what two classes claim, what is too short for a window, what nobody scored."""

from __future__ import annotations

from collections.abc import Sequence

from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.findings.finding import Finding, found
from dura_client.data.findings.grade import Grade
from dura_client.data.sources.cuts import Marked, joined, without
from dura_common.study import SignalContract

UNSCORED = 0.02
"""Share of a recording without any annotation of the study from which it is told."""


def stretch_findings(contract: SignalContract, item: SignalRecording, marks: Sequence[Marked]) -> list[Finding]:
    """Return what a study cannot use of a recording's annotated stretches."""
    names = [name for name in contract.classes if name != contract.background]
    spans = {name: joined([mark for mark in marks if mark.name == name], item.samples) for name in names}
    everything = [span for some in spans.values() for span in some]
    if not everything:
        return []
    alone = sum(end - begin for begin, end in joined([Marked(*span, "") for span in everything], item.samples))
    both = (sum(end - begin for begin, end in everything) - alone) / item.rate
    least = contract.window_length * item.rate
    short = sum(end - begin < least for begin, end in everything)
    findings = []
    if both > 1 / item.rate:
        cause = f"{both:.3g} s are claimed by two of the study's classes and are left out"
        remedy = "Find out which class is right and mend onset or duration in events.tsv."
        findings.append(found("CUT-SPAN", item.place, cause, remedy=remedy))
    if short * 2 >= len(everything):  # some short ones are usual: at a change, and where a recording ends
        cause = f"{short} of {len(everything)} stretches are shorter than a window of {contract.window_length:g} s"
        remedy = "Check the unit of the durations (seconds); shorter stretches give no window."
        findings.append(found("CUT-SPAN", item.place, cause, remedy=remedy))
    rest = sum(end - begin for begin, end in without([(0, item.samples)], everything))
    if contract.background is None and rest > UNSCORED * item.samples:
        cause = f"{rest / item.rate:.3g} of {item.seconds:.3g} s carry no annotation of the study's classes"
        remedy = "Nothing needs to be done if nobody scored them; they are not used."
        findings.append(found("CUT-SPAN", item.place, cause, remedy=remedy, grade=Grade.KNOW))
    return findings

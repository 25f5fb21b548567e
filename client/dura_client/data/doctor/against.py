"""A data set against a study's data contract: how well each recording meets it, and how many windows remain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.around.stretches import stretch_findings
from dura_client.data.doctor.look import Look
from dura_client.data.eeg.channels import band_text
from dura_client.data.eeg.events import shown
from dura_client.data.eeg.names import canonical, scalp
from dura_client.data.eeg.preparing.cutting import plan_windows
from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.eeg.signals import missing_sensors
from dura_client.data.findings.finding import WHOLE, Finding, counted, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.sources.answers import Answers, answers_for
from dura_client.data.sources.fitting import other_task
from dura_client.data.sources.leaving_out import WORDS
from dura_common.errors import InputError
from dura_common.study import DataContract, SignalContract

MOST_FILLED = 0.25
"""Share of a study's channels that may be interpolated before it is called a loss."""


def against(
    dataset: DataSet, contract: SignalContract, opened: Sequence[SignalRecording], looks: Sequence[Look]
) -> tuple[list[Finding], dict[str, dict[str, int]]]:
    """Return findings about a study's demands, and the windows of each patient by class."""
    findings: list[Finding] = []
    findings += other_task(dataset, contract)
    unknown = [name for name in contract.channels if canonical(name).lower() not in scalp()]
    if unknown and contract.source == "eeg":
        cause = f"the study asks for channels that the 10-05 system does not know: {listed(unknown)}"
        findings.append(
            found(
                "CH-NAME", WHOLE, cause, remedy="Tell the researcher; `dura site decline` says no.", grade=Grade.STOPS
            )
        )
    answers, faults = answers_or_fault(dataset, contract)
    findings += faults
    if answers is not None:
        findings += answers.tables.findings
        findings += answers.findings(
            [(item.recording.subject, item.recording.entities.get("ses")) for item in opened],
        )
    windows: dict[str, Counter[str]] = defaultdict(Counter)
    for item, seen in zip(opened, looks, strict=True):
        filled = _filled(contract, item, seen)
        if not faults:
            counts = _windows(dataset, contract, item, answers, filled, findings)
            windows[item.recording.subject].update(counts)
        findings += _band(contract, item)
        findings += _said(contract, item, filled)
    findings += [] if faults else _classes(dataset, contract, opened, windows)
    fewest = contract.leave_out.fewest_windows
    patients = sum(count.total() >= fewest for count in windows.values())
    if patients < contract.minimum_patients:
        cause = (
            f"{patients} patients have {counted(fewest, 'window')} or more, and the study demands "
            f"{contract.minimum_patients}"
        )
        findings.append(
            found("SIZE-SMALL", WHOLE, cause, grade=Grade.STOPS, remedy="Add patients, or `dura site decline`.")
        )
    return findings, {subject: dict(count) for subject, count in sorted(windows.items())}


def answers_or_fault(dataset: DataSet, contract: DataContract) -> tuple[Answers | None, list[Finding]]:
    """Return the answers of the tables, or the finding that there is no such column."""
    try:
        return answers_for(dataset, contract), []
    except InputError as error:
        return None, [found("ANS-COL", WHOLE, error.message, remedy=error.hint or "")]


def _windows(
    dataset: DataSet,
    contract: SignalContract,
    item: SignalRecording,
    answers: Answers | None,
    filled: list[str],
    findings: list[Finding],
) -> Counter[str]:
    """Count the windows of each class that a recording gives, and say what is lost and why."""
    planned = plan_windows(
        item,
        dataset,
        contract,
        answers,
        stretches=[(piece.first, piece.first + piece.samples) for piece in item.pieces],
        interpolated=len(filled) / len(contract.channels),
    )
    if planned.lost:
        findings.append(found("CUT-LOST", item.place, counted(planned.lost, "window")))
    if planned.broken:
        causes = "; ".join(words for rule, words in WORDS.items() if rule in planned.broken)
        findings.append(found("CUT-RULE", item.place, causes))
    spans = contract.label == "annotation"
    names = (*contract.classes, *contract.within)
    points = [mark for mark in item.marked(dataset) if mark.name in names and mark.end <= mark.begin]
    if spans and points:
        findings.append(found("CUT-SPAN", item.place, f"{counted(len(points), 'annotation')} of the study's classes"))
    if spans:
        findings += stretch_findings(contract, item, item.marked(dataset))
    if contract.target == "value":
        return Counter({"value": len(planned.labels)})
    return Counter(contract.classes[int(label)] for label in planned.labels)


def _band(contract: SignalContract, item: SignalRecording) -> list[Finding]:
    low, high = contract.band
    if item.rate / 2 <= high:
        cause = f"sampled at {item.rate:g} Hz, it cannot hold the study's band up to {high:g} Hz"
        return [
            found(
                "FILT-CUT",
                item.place,
                cause,
                grade=Grade.STOPS,
                remedy="Move the recording out of the folder, or `dura site decline`.",
            )
        ]
    found_bands = {item.band_of(channel) for channel in item.channels}
    cut = [band for band in found_bands if (band[0] or 0.0) > low or (band[1] is not None and band[1] < high)]
    return [
        found(
            "FILT-CUT",
            item.place,
            f"the recorder let pass {band_text(band)}, and the study's band is {low:g} to {high:g} Hz",
        )
        for band in sorted(cut, key=str)
    ]


def _filled(contract: SignalContract, item: SignalRecording, seen: Look) -> list[str]:
    """Return the study's channels that are absent or bad."""
    bad = {channel.name for channel, odd in zip(item.channels, seen.odd, strict=True) if channel.bad or odd}
    wanted = contract.channels if contract.source == "meg" else tuple(map(canonical, contract.channels))
    return missing_sensors([channel.name for channel in item.channels], bad, wanted)


def _said(contract: SignalContract, item: SignalRecording, filled: list[str]) -> list[Finding]:
    wanted = len(contract.channels)
    if not filled:
        return []
    if contract.source == "meg":
        lacking = f"{len(filled)} of the study's {wanted} sensors are missing or bad: {listed(filled)}"
        return [found("CH-LACK", item.place, lacking)]
    cause = f"{len(filled)} of the study's {wanted} channels would be interpolated: {listed(filled)}"
    return [
        found("CH-FILL", item.place, cause, grade=Grade.LOSES if len(filled) > MOST_FILLED * wanted else Grade.KNOW)
    ]


def _classes(
    dataset: DataSet, contract: SignalContract, opened: Sequence[SignalRecording], windows: dict[str, Counter[str]]
) -> list[Finding]:
    total: Counter[str] = Counter()
    for count in windows.values():
        total.update(count)
    missing = [name for name in contract.classes if not total[name]]
    codes = sorted(
        {
            event.code
            for item in opened
            for event in item.events
            if dataset.class_of(event.code, item.levels) not in contract.classes
        }
    )
    findings = []
    if codes and not missing and contract.label in {"event", "annotation"}:
        remedy = "Check their spelling; if one means a class of the study, say so with `--label CODE=CLASS`."
        cause = f"event names that stand for no class of the study: {shown(codes)}"
        findings.append(found("EV-MAP", WHOLE, cause, remedy=remedy, grade=Grade.KNOW))
    if missing:
        hint = f"; codes that stand for no class of the study: {shown(codes)}" if codes else ""
        remedy = (
            f"Say what the codes mean: `dura site data update {dataset.name} "
            "--label CODE=CLASS`; or the study does not fit."
        )
        findings.append(found("EV-MAP", WHOLE, f"no window of {listed(missing)}{hint}", remedy=remedy))
    none = [subject for subject, count in sorted(windows.items()) if not count.total()]
    if none and len(none) < len(windows):
        findings.append(
            found(
                "EV-NONE",
                WHOLE,
                f"patients without a window for this study: {listed(f'sub-{subject}' for subject in none)}",
            )
        )
    few = [
        subject for subject, count in sorted(windows.items()) if count.total() and len(+count) < len(contract.classes)
    ]
    if few and not missing and contract.label in {"event", "annotation"}:
        findings.append(
            found(
                "EV-NONE",
                WHOLE,
                f"patients with windows of some classes only: {listed(f'sub-{subject}' for subject in few)}",
                grade=Grade.KNOW,
                remedy="Nothing needs to be done; their balance is their own.",
            )
        )
    return findings

"""A data set against a study's data contract: how well each recording meets it, and how many windows remain."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.look import Look
from dura_client.data.eeg.channels import band_text
from dura_client.data.eeg.events import shown
from dura_client.data.eeg.names import canonical, scalp
from dura_client.data.eeg.recording import EegRecording
from dura_client.data.findings.finding import WHOLE, Finding, found, listed
from dura_client.data.findings.grade import Grade
from dura_common.study import SignalContract

MOST_FILLED = 0.25
"""Share of a study's channels that may be interpolated before it is called a loss."""


def against(
    dataset: DataSet, contract: SignalContract, opened: Sequence[EegRecording], looks: Sequence[Look]
) -> tuple[list[Finding], dict[str, dict[str, int]]]:
    """Return findings about a study's demands, and the windows of each patient by class."""
    findings: list[Finding] = []
    if dataset.task != contract.task:
        cause = f"it was registered for the task {dataset.task!r}, and the study asks for {contract.task!r}"
        remedy = f"`dura site data add NAME {dataset.root} --task {contract.task}` registers those recordings."
        findings.append(found("TASK-OTHER", WHOLE, cause, remedy=remedy))
    unknown = [name for name in contract.channels if canonical(name).lower() not in scalp()]
    if unknown:
        cause = f"the study asks for channels that the 10-05 system does not know: {listed(unknown)}"
        findings.append(
            found(
                "CH-NAME", WHOLE, cause, remedy="Tell the researcher; `dura site decline` says no.", grade=Grade.STOPS
            )
        )
    windows: dict[str, Counter[str]] = defaultdict(Counter)
    for item, seen in zip(opened, looks, strict=True):
        windows[item.recording.subject].update(_windows(dataset, contract, item))
        findings += _band(contract, item)
        findings += _filled(contract, item, seen)
    findings += _classes(dataset, contract, opened, windows)
    patients = sum(bool(count.total()) for count in windows.values())
    if patients < contract.minimum_patients:
        cause = f"{patients} patients have a window, and the study demands {contract.minimum_patients}"
        findings.append(
            found("SIZE-SMALL", WHOLE, cause, grade=Grade.STOPS, remedy="Add patients, or `dura site decline`.")
        )
    return findings, {subject: dict(count) for subject, count in sorted(windows.items())}


def _windows(dataset: DataSet, contract: SignalContract, item: EegRecording) -> Counter[str]:
    """Count the windows of each class that lie in one stretch of the recording."""
    before, length = contract.window_start * item.rate, contract.window_length * item.rate
    counts: Counter[str] = Counter()
    for event in item.events:
        name = dataset.class_of(event.code, item.levels)
        begin = event.sample + before
        if name in contract.classes and any(
            piece.first <= event.sample < piece.first + piece.samples
            and piece.first - 0.5 <= begin
            and begin + length <= piece.first + piece.samples + 0.5
            for piece in item.pieces
        ):
            counts[name] += 1
    return counts


def _band(contract: SignalContract, item: EegRecording) -> list[Finding]:
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
    found_bands = {item.source.signals[channel.index].band for channel in item.channels}
    cut = [band for band in found_bands if (band[0] or 0.0) > low or (band[1] is not None and band[1] < high)]
    return [
        found(
            "FILT-CUT",
            item.place,
            f"the recorder let pass {band_text(band)}, and the study's band is {low:g} to {high:g} Hz",
        )
        for band in sorted(cut, key=str)
    ]


def _filled(contract: SignalContract, item: EegRecording, seen: Look) -> list[Finding]:
    good = {channel.name for channel, odd in zip(item.channels, seen.odd, strict=True) if not (channel.bad or odd)}
    wanted = [canonical(name) for name in contract.channels]
    filled = [name for name in wanted if name not in good]
    if not filled:
        return []
    cause = f"{len(filled)} of the study's {len(wanted)} channels would be interpolated: {listed(filled)}"
    return [
        found(
            "CH-FILL", item.place, cause, grade=Grade.LOSES if len(filled) > MOST_FILLED * len(wanted) else Grade.KNOW
        )
    ]


def _classes(
    dataset: DataSet, contract: SignalContract, opened: Sequence[EegRecording], windows: dict[str, Counter[str]]
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
    if few and not missing:
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

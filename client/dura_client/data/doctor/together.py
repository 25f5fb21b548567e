"""What only all recordings together show: meanings of codes, one person twice, differing filters and rates."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from dura_client.data.dataset import KNOWN_LABELS, DataSet
from dura_client.data.doctor.look import Look
from dura_client.data.eeg.channels import band_text
from dura_client.data.eeg.events import shown
from dura_client.data.eeg.recording import SignalRecording
from dura_client.data.findings.finding import WHOLE, Finding, found, listed
from dura_client.data.findings.grade import Grade
from dura_common.study import WORD

CODED = re.compile(r"[A-Za-z]{0,3}[\s_.-]*\d+(\.\d+)?|[A-Za-z]")
"""A code that says nothing by itself: ``1``, ``S  2``, ``T1``, ``E769``, ``A``."""
STAGES = frozenset({"W", "N1", "N2", "N3", "R"})
"""Stages of sleep, as the AASM manual abbreviates them: short, but no mere codes."""
HELD_OUT = 0.25
"""Share of patients that a study usually holds out."""
FEWEST_COMPARED = 4
"""Recordings that are compared with one another; of fewer, none is the odd one."""
APART = 7.0
"""Times that a recording's values may be larger or smaller than those of the others."""
SIDE = 2
"""Fewest patients of a side."""
WORTH_SAYING = 0.01


def together(
    dataset: DataSet, opened: Sequence[SignalRecording], looks: Sequence[Look], classes: Sequence[str] = ()
) -> list[Finding]:
    """Return findings about the data set as a whole.

    Args:
        dataset: as it is registered.
        opened: its recordings.
        looks: what their samples show.
        classes: of the study that the data are held against; a code that is one of them needs no other meaning.
    """
    return [
        *_meanings(dataset, opened, frozenset(classes)),
        *_runs(dataset, opened),
        *_values(opened),
        *_rare(dataset, opened),
        *_sizes(opened, looks),
        *_alike_names(dataset, opened),
        *_persons(opened),
        *_equipment(opened),
        *_size(len({item.recording.subject for item in opened})),
    ]


def has_meaning(dataset: DataSet, code: str, levels: Mapping[str, str], classes: frozenset[str]) -> bool:
    """Tell whether a code can be a class: mapped, declared, known, asked for, or a word that is no mere code."""
    if code in dataset.labels or code in levels or code.lower() in KNOWN_LABELS or code in STAGES | classes:
        return True
    return bool(re.match(WORD, code)) and not CODED.fullmatch(code)


def _meanings(dataset: DataSet, opened: Sequence[SignalRecording], classes: frozenset[str]) -> list[Finding]:
    unknown: dict[str, list[str]] = {}
    for item in opened:
        mine = dict.fromkeys(event.code for event in item.events)
        without = [code for code in mine if not has_meaning(dataset, code, item.levels, classes)]
        if without:
            unknown[item.place] = without
    empty = [
        item.place
        for item in opened
        if item.events and len(unknown.get(item.place, ())) == len({event.code for event in item.events})
    ]
    example = f"`dura site data update {dataset.name} --label CODE=CLASS`, once for each code."
    remedy = f"Say what they mean: {example}"
    findings = []
    if empty and len(empty) == sum(bool(item.events) for item in opened):
        codes = sorted({code for place in empty for code in unknown[place]})
        findings.append(found("EV-MAP", WHOLE, f"no event code has a meaning: {shown(codes)}", remedy=remedy))
    else:
        findings += [
            found(
                "EV-MAP",
                place,
                f"no event code of this recording has a meaning: {shown(unknown[place])}",
                remedy=remedy,
                grade=Grade.LOSES,
            )
            for place in empty
        ]
        some = sorted({code for place, codes in unknown.items() if place not in empty for code in codes})
        if some:
            findings.append(
                found(
                    "EV-MAP",
                    WHOLE,
                    f"these event codes stand for no class: {shown(some)}",
                    remedy=f"If a study needs them, say what they mean: {example}",
                    grade=Grade.KNOW,
                )
            )
    return findings


def _runs(dataset: DataSet, opened: Sequence[SignalRecording]) -> list[Finding]:
    meanings: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in opened:
        for code in {event.code for event in item.events} - set(dataset.labels):
            meanings[code][dataset.class_of(code, item.levels)].append(item.place)
    return [
        found(
            "EV-RUN",
            WHOLE,
            f"{code} is "
            + listed(f"{name} in {len(places)} recordings (such as {places[0]})" for name, places in names.items()),
        )
        for code, names in sorted(meanings.items())
        if len(names) > 1
    ]


def _values(opened: Sequence[SignalRecording]) -> list[Finding]:
    """Say which event names have one value in some recordings and another in others."""
    seen: dict[str, dict[frozenset[str], list[str]]] = defaultdict(lambda: defaultdict(list))
    for item in opened:
        for code, values in item.values.items():
            seen[code][values].append(item.place)
    differing = {code: groups for code, groups in seen.items() if len(groups) > 1}
    findings = []
    for code, groups in sorted(differing.items()):
        usual = max(groups, key=lambda values: len(groups[values]))
        rare = [place for values, places in groups.items() if values != usual for place in places]
        shown_groups = listed("/".join(sorted(values)) for values in groups)
        cause = f"{code} has other values in some recordings than in others ({shown_groups}): see {listed(rare)}"
        findings.append(found("EV-VALUE", WHOLE, cause))
    return findings


def _rare(dataset: DataSet, opened: Sequence[SignalRecording]) -> list[Finding]:
    """Say which event names only one of several recordings has: a slip of the pen, or another task."""
    with_events = [item for item in opened if item.events]
    if len(with_events) < FEWEST_COMPARED:
        return []
    holders: dict[str, set[str]] = defaultdict(set)
    for item in with_events:
        for event in item.events:
            holders[dataset.class_of(event.code, item.levels)].add(item.place)
    common = sum(len(places) > 1 for places in holders.values())
    alone: dict[str, list[str]] = defaultdict(list)
    for name, places in sorted(holders.items()):
        if len(places) == 1:
            alone[next(iter(places))].append(name)
    return [
        found(
            "EV-MAP",
            place,
            f"no other recording has these event names: {shown(names)}",
            remedy="Check their spelling; if they mean a class of the others, map them with `--label CODE=CLASS`.",
            grade=Grade.KNOW,
        )
        for place, names in alone.items()
        if common
    ] + _lacking(with_events, holders)


def _lacking(with_events: Sequence[SignalRecording], holders: Mapping[str, set[str]]) -> list[Finding]:
    """Say which recording has no event of a name that all others have."""
    lacking: dict[str, list[str]] = defaultdict(list)
    for name, having in sorted(holders.items()):
        if len(having) == len(with_events) - 1:
            lacking[next(item.place for item in with_events if item.place not in having)].append(name)
    return [
        found(
            "EV-MAP",
            place,
            f"it has no event of these names, which all other recordings have: {shown(names)}",
            remedy="Check the event table; if the recording was made so, nothing needs to be done.",
            grade=Grade.KNOW,
        )
        for place, names in lacking.items()
    ]


def _sizes(opened: Sequence[SignalRecording], looks: Sequence[Look]) -> list[Finding]:
    """Say which recordings are far larger or smaller than the others, although each alone may be right."""
    sizes = {item.place: seen.amplitude for item, seen in zip(opened, looks, strict=True) if seen.amplitude > 0}
    if len(sizes) < FEWEST_COMPARED:
        return []
    middle = statistics.median(sizes.values())
    findings = []
    for item in opened:
        ratio = sizes.get(item.place, middle) / middle
        if not item.measure.is_plausible(sizes.get(item.place, 0.0)) or 1 / APART < ratio < APART:
            continue
        times = f"{ratio:.3g} times as large as" if ratio > 1 else f"{1 / ratio:.3g} times smaller than"
        cause = f"its values are {times} those of the other recordings (median)"
        remedy = "Compare gain and unit with those of the others; `--scale PLACE=FACTOR` corrects one recording."
        findings.append(found("VAL-UNIT", item.place, cause, remedy=remedy, grade=Grade.KNOW))
    return findings


def _alike_names(dataset: DataSet, opened: Sequence[SignalRecording]) -> list[Finding]:
    names = {dataset.class_of(event.code, item.levels) for item in opened for event in item.events}
    groups: dict[str, set[str]] = defaultdict(set)
    for name in names:
        groups[re.sub(r"[\s_.-]+", "", name.lower())].add(name)
    return [
        found("EV-CASE", WHOLE, f"{listed(sorted(group))} count as {len(group)} classes")
        for group in groups.values()
        if len(group) > 1
    ]


def _persons(opened: Sequence[SignalRecording]) -> list[Finding]:
    """Compare what headers say of patients; what they say is not shown."""
    holders: dict[str, dict[str, str]] = defaultdict(dict)
    for item in opened:
        if item.source.person:
            holders[item.source.person].setdefault(item.recording.subject, item.place)
    return [
        found(
            "SAME-PERSON",
            next(iter(places.values())),
            f"its header names the same patient as that of {listed(list(places.values())[1:])}",
        )
        for places in holders.values()
        if len(places) > 1
    ]


def _equipment(opened: Sequence[SignalRecording]) -> list[Finding]:
    findings = []
    for code, what, values in (
        ("FILT-MIX", "recorder's filters", [_band(item) for item in opened]),
        ("RATE-MIX", "sampling rates (Hz)", [f"{item.rate:g}" for item in opened]),
        ("LINE-NONE", "declared line frequencies (Hz)", [f"{item.line:g}" for item in opened if item.line]),
        (
            "CH-NAME",
            "sets of channels",
            [" ".join(sorted(channel.name for channel in item.channels)) for item in opened],
        ),
    ):
        counts = Counter(values)
        if len(counts) < 2:  # noqa: PLR2004  # all alike
            continue
        usual, _ = counts.most_common(1)[0]
        odd = (
            [item.place for item, value in zip(opened, values, strict=False) if value != usual]
            if len(values) == len(opened)
            else []
        )
        shown = (
            listed(f"{value} in {count}" for value, count in counts.most_common())
            if code != "CH-NAME"
            else f"{len(counts)}"
        )
        places = f"; the rare ones are those of {listed(odd)}" if odd else ""
        findings.append(
            found(
                code,
                WHOLE,
                f"recordings differ in their {what}: {shown}{places}",
                grade=Grade.KNOW,
                remedy="Nothing needs to be done if the recordings were made so.",
            )
        )
    return findings


def _band(item: SignalRecording) -> str:
    bands = {item.band_of(channel) for channel in item.channels}
    return listed(sorted(band_text(band) for band in bands), 2)


def _size(patients: int) -> list[Finding]:
    """Say how likely a side of the split has fewer than two patients."""
    p = odds_of_small_side(patients, HELD_OUT)
    if p < WORTH_SAYING:
        return []
    cause = (
        f"with {patients} patients, a study that holds out {HELD_OUT:.0%} is impossible here "
        f"with a probability of {p:.0%}: a side would have fewer than {SIDE}"
    )
    return [found("SIZE-SMALL", WHOLE, cause)]


def odds_of_small_side(patients: int, held_out: float) -> float:
    """Return the probability that a side of the keyed split has fewer than two patients."""

    def below(share: float) -> float:
        return sum(
            math.comb(patients, k) * share**k * (1 - share) ** (patients - k) for k in range(min(SIDE, patients + 1))
        )

    return min(1.0, below(held_out) + below(1 - held_out))

"""Names of electrodes as clinics write them, brought to the 10-05 system where that is certain.

Only spelling is brought: a prefix (``EEG``, ``POL``), dots, capitals, the reference behind a hyphen, and the four old
names T3 to T6. MNE's own aliases are not used: they put T5 and T6 at T9 and T10. What could mean two things is told
and not guessed: bipolar pairs, places of a cap (A1 to D32, 1 to 64), contacts inside the head.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import mne

EARS = {"a1": "A1", "a2": "A2", "m1": "M1", "m2": "M2"}
OLD = {"t3": "T7", "t4": "T8", "t5": "P7", "t6": "P8"}
REFERENCES = re.compile(
    r"(ref|ref\d|le|ar|avg?|av|car|lr|ler|g\d?|gnd|org|a1|a2|m1|m2|a1[/+]?a2|m1[/+]?m2|linked|mean|nose|0|\d)",
    re.IGNORECASE,
)
"""What may stand behind a hyphen as the reference of all channels."""
OTHER = re.compile(
    r"(ecg|ekg|eog|[hv]eog|loc|roc|emg|chin|submental|resp|airflow|flow|nasal|thor|abd|spo2|sao2|osat|pulse|pleth|hr|pr"
    r"|photic|status|trig|stim?|sti|marker|events?|mk|dc|aux|exg|ex|gsr|eda|ibi|bursts|suppr|temp|rectal|body|snore|pos"
    r"|light|acc|ref|gnd|misc|bio|ecg[lr]|l[- ]?leg|r[- ]?leg|tib|beat|ppg|nibp|cii|lab|horizontal|vertical|ma|map)"
    r"[^a-z]*.*",
    re.IGNORECASE,
)
"""Names of what is no electrode on the scalp."""
CAP_LETTERS = frozenset("ABDEGH")
"""Letters that begin no name of the 10-05 system but the ears': running numbers behind them are places of a cap."""
CAP_RUN, CAP_NAMES = 8, 16
CONTACT_RUN = 4
"""So many running numbers behind one prefix are contacts of one electrode inside the head."""
_NO_CONTACTS = {
    "AUX",
    "DC",
    "EX",
    "EXG",
    "EOG",
    "EMG",
    "ECG",
    "EKG",
    "CH",
    "EEG",
    "MISC",
    "BIO",
    "X",
    "STI",
    "GSR",
    "ACC",
    "E",
    "MEG",
}


class Site(StrEnum):
    """Where a channel was recorded, by its name."""

    SCALP = "scalp"
    EAR = "ear"
    PAIR = "pair"
    """The difference of two electrodes."""
    CAP = "cap"
    """A place of a cap that needs its layout to be known."""
    INSIDE = "inside"
    """A contact inside the head."""
    OTHER = "other"
    """No electrode on the head: heart, eyes, breath, triggers."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Name:
    """What a label means."""

    site: Site
    name: str
    """In the 10-05 system for the scalp, otherwise as written."""


@cache
def scalp() -> dict[str, str]:
    """Return the names of the 10-05 system by their lower-case form, without ears, with the old names as they are."""
    montage = mne.channels.make_standard_montage("colin27_1005")
    return {name.lower(): name for name in montage.ch_names if name.lower() not in {*EARS, *OLD}}


def canonical(name: str) -> str:
    """Return a scalp name as the 10-05 system writes it today, or the name itself."""
    lower = name.lower()
    return OLD.get(lower) or scalp().get(lower, name)


def interpret(labels: Sequence[str]) -> tuple[Name, ...]:
    """Return what the labels of one recording mean, together: a shared reference shows only in all of them."""
    bare = [_bare(label) for label in labels]
    pairs = [pair for pair in (_pair(text) for text in bare) if pair]
    behind = Counter(second for _, second in pairs)
    shared = behind.most_common(1)[0][0] if len(behind) == 1 and len(pairs) > 2 else ""  # noqa: PLR2004  # two pairs share one by chance
    single = [_single(text, shared) for text in bare]
    caps, inside = _caps(bare), _inside(bare)
    return tuple(_with(name, text in caps, text in inside) for name, text in zip(single, bare, strict=True))


def _with(name: Name, cap: bool, inside: bool) -> Name:
    if cap:
        return Name(Site.CAP, name.name)
    return Name(Site.INSIDE, name.name) if inside and name.site in {Site.UNKNOWN, Site.OTHER} else name


def _bare(label: str) -> str:
    text = re.sub(r"^(eeg|pol)[\s_:-]+", "", " ".join(label.split()), flags=re.IGNORECASE)
    return text.strip(" .").replace("–", "-")


def _pair(text: str) -> tuple[str, str] | None:
    """Return both electrodes of a bipolar name; a number behind, given to a pair that came twice, is dropped."""
    parts = re.sub(r"-\d+$", "", text).split("-")
    if len(parts) != 2:  # noqa: PLR2004  # one hyphen
        return None
    first, second = (part.strip(" .").lower() for part in parts)
    known = {*scalp(), *OLD}
    return (first, second) if first in known and second in known else None


def _single(text: str, shared: str) -> Name:
    pair = _pair(text)
    if pair and pair[1] != shared:
        return Name(Site.PAIR, text)
    head, hyphen, behind = text.partition("-")
    if hyphen and (REFERENCES.fullmatch(behind.strip()) or pair):
        text = head.strip(" .")
    lower = text.lower()
    if lower in OLD or lower in scalp():
        return Name(Site.SCALP, canonical(text))
    if lower in EARS:
        return Name(Site.EAR, EARS[lower])
    return Name(Site.OTHER if OTHER.fullmatch(text) else Site.UNKNOWN, text)


def _caps(texts: Sequence[str]) -> set[str]:
    """Return names that are places of a cap: running numbers behind letters that name no site, or numbers alone."""
    numbers = [text for text in texts if text.isdigit()]
    lettered: dict[str, set[int]] = defaultdict(set)
    for text in texts:
        match = re.fullmatch(r"([A-Z])(\d{1,3})", text)
        if match:
            lettered[match[1]].add(int(match[2]))
    running = any(set(range(1, CAP_RUN + 1)) <= lettered[letter] for letter in CAP_LETTERS & set(lettered))
    found = set(numbers) if len(numbers) >= CAP_NAMES else set()
    if running and sum(len(ones) for ones in lettered.values()) >= CAP_NAMES:
        found |= {text for text in texts if re.fullmatch(r"[A-Z]\d{1,3}", text)}
    return found


def _inside(texts: Sequence[str]) -> set[str]:
    groups: dict[str, dict[int, str]] = defaultdict(dict)
    for text in texts:
        match = re.fullmatch(r"([A-Za-z]{1,6}'?)[ _-]?(\d{1,2})", text)
        if match and text.lower() not in {*scalp(), *OLD, *EARS} and match[1].upper() not in _NO_CONTACTS:
            groups[match[1]][int(match[2])] = text
    return {
        text
        for group in groups.values()
        if len(group) >= CONTACT_RUN and set(range(min(group), min(group) + CONTACT_RUN)) <= set(group)
        for text in group.values()
    }

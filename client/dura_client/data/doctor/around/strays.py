"""Files that are overlooked, or read otherwise than they seem: links, copies put aside, odd numbers of runs."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.recordings.content import kind_of
from dura_client.data.recordings.folder import BidsFolder, entities_of
from dura_client.data.recordings.source import Unreadable

ASIDE = re.compile(
    r"(?P<ending>\.(edf|bdf|vhdr|vmrk|eeg|set|fdt|fif|gdf|tsv|json))"
    r"(?P<more>[.~_-]?(bak|backup|old|orig|copy|part|crdownload|tmp|temp|swp|7z|rar|tar|tgz|csv|txt|~)|~|\.(edf|bdf))$",
    re.IGNORECASE,
)
"""Names of recordings and their sidecars with something behind their ending."""
BARE = re.compile(r"sub-[^.]*_(eeg|meg)", re.IGNORECASE)


def stray_findings(folder: BidsFolder) -> list[Finding]:
    """Return what lies in the folder of a data set and is overlooked, or read otherwise than it seems."""
    return [*_links(folder), *_aside(folder), *_folders(folder), *_elsewhere(folder), *_runs(folder)]


def _links(folder: BidsFolder) -> Iterator[Finding]:
    here = os.path.realpath(folder.root)
    for parent, inner, names in os.walk(folder.root):
        for name in sorted((*inner, *names)):
            path = Path(parent) / name
            if not path.is_symlink() or name.startswith("."):
                continue
            if not path.exists():
                try:
                    kind_of(path)
                except Unreadable as error:
                    yield found(error.note.code, folder.place(path), error.note.cause)
            elif path.is_dir() and (os.path.realpath(path) + os.sep).startswith(here + os.sep):
                cause = "it is a link to another folder of the data set, whose recordings may count twice"
                remedy = "Remove the link; each recording belongs into one folder."
                yield found("FILE-LINK", folder.place(path), cause, remedy=remedy)


def _aside(folder: BidsFolder) -> Iterator[Finding]:
    for path in folder.files:
        match = ASIDE.search(path.name)
        cause = ""
        if match is not None:
            cause = f"its name ends in {match['ending']}{match['more']}"
        elif BARE.fullmatch(path.name) and path.is_file():
            cause = "its name has no ending"
        if cause:
            remedy = "Give it the name of a recording or a table if it is one; otherwise move it out of the folder."
            yield found("FILE-KNOWN", folder.place(path), f"{cause}; it is not used", remedy=remedy, grade=Grade.LOSES)


def _folders(folder: BidsFolder) -> Iterator[Finding]:
    """Name folders that are called like a recording in one file."""
    for parent, inner, _ in os.walk(folder.root):
        for name in sorted(inner):
            if Path(name).suffix.lower() in {".edf", ".bdf", ".vhdr", ".set", ".fif", ".tsv", ".json"}:
                cause = "it is a folder, and its name is that of a file"
                remedy = "Put the file itself into its place."
                yield found("FILE-KIND", folder.place(Path(parent) / name), cause, remedy=remedy)


def _elsewhere(folder: BidsFolder) -> Iterator[Finding]:
    """Name tables and descriptions of one patient in the folder of another."""
    for path in folder.files:
        top = path.relative_to(folder.root).parts[0]
        owner = f"sub-{entities_of(path.name).get('sub', '')}"
        if path.suffix in {".tsv", ".json"} and top.startswith("sub-") and owner not in {"sub-", top}:
            cause = f"its name says {owner}, and it lies in {top}"
            yield found("FILE-KNOWN", folder.place(path), cause, remedy="Move it to the patient that it belongs to.")


def _runs(folder: BidsFolder) -> Iterator[Finding]:
    """Say which runs have no number, are missing among others, or have one number in two spellings."""
    groups: dict[tuple[str, ...], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for recording in folder.recordings:
        parts = recording.entities
        run = parts.pop("run", None)
        if run is not None:
            place = folder.place(recording.path)
            groups[tuple(f"{key}-{value}" for key, value in parts.items())][run].append(place)
    for same in groups.values():
        first = next(iter(same.values()))[0]
        words = [run for run in same if not run.isdigit()]
        if words:
            cause = f"its run is not a number: run-{words[0]}; it was read all the same"
            remedy = "Number the runs: run-1, run-2, and so on."
            yield found("FILE-KNOWN", same[words[0]][0], cause, remedy=remedy, grade=Grade.KNOW)
        numbers = [int(run) for run in same if run.isdigit()]
        if len(set(numbers)) < len(numbers):
            cause = f"its runs hold one number in two spellings: {listed(sorted(same))}"
            yield found(
                "FILE-TWO", first, cause, remedy="Find out whether they are two recordings, and number them anew."
            )
        absent = [str(one) for one in range(1, max(numbers, default=0)) if one not in numbers]
        if absent and max(numbers) <= 2 * len(numbers):
            cause = f"among its runs ({listed(sorted(same))}) none has the number {listed(absent)}"
            remedy = "Nothing needs to be done if it was never recorded; otherwise bring it."
            yield found("SES-ORDER", first, cause, remedy=remedy, grade=Grade.KNOW)

"""A BIDS folder: which recordings of a task it holds, and which files look like recordings and are none.

The folder is walked once, and names are compared with what BIDS wants letter by letter: what differs in capitals
only, lies in the wrong place or has a form that BIDS does not know is named instead of overlooked.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from dura_client.data.findings.finding import Finding, found, listed
from dura_client.data.findings.grade import Grade

PACKED = (".tar.gz", ".gz", ".tgz", ".tar", ".zip", ".bz2", ".xz", ".7z", ".rar")
FOLDERS = (".mff", ".ds")
"""Endings of recordings that are folders."""
PARTS = {".eeg": ".vhdr", ".vmrk": ".vhdr", ".fdt": ".set"}
"""Ending of a part of a recording, and of the file that must lie beside it."""
ASIDE = {"derivatives", "sourcedata", "code", "stimuli", "rawdata-old"}
"""Folders at the top that hold no recordings of the data set."""
_ENTITY = re.compile(r"[a-z]+-[A-Za-z0-9]+")
_ROOM = re.compile(r"acq-(crosstalk|calibration)(_|$)")
"""Files of the MEG room's own state, which BIDS keeps beside recordings."""


@dataclass(frozen=True, slots=True)
class Form:
    """How BIDS writes recordings of one kind."""

    kind: str
    """Folder and suffix of a recording."""
    endings: tuple[str, ...]
    """Formats that are read."""
    others: tuple[str, ...]
    """Recordings that are named and not read: BIDS does not allow them, or dura has no reader for them here."""
    order: tuple[str, ...]
    """Entities of a name, in this order."""
    remedy: str
    """What to do with one of the others."""

    @property
    def name(self) -> str:
        """Return what the kind is called."""
        return f"BIDS-{self.kind.upper()}"

    @property
    def sidecars(self) -> tuple[str, ...]:
        """Return the endings of files beside a recording."""
        return ("_events.tsv", "_channels.tsv", f"_{self.kind}.json", "_events.json")


FORMS = {
    "eeg": Form(
        "eeg",
        (".edf", ".vhdr", ".bdf", ".set"),
        (".fif", ".gdf", ".cnt", ".mff", ".nxe", ".21e", ".lay", ".rec"),
        ("sub", "ses", "task", "acq", "run", "split"),
        "Convert it to EDF or BrainVision.",
    ),
    "meg": Form(
        "meg",
        (".fif", ".ds"),
        (".sqd", ".con", ".kdf", ".edf", ".bdf", ".vhdr", ".set"),
        ("sub", "ses", "task", "acq", "run", "proc", "split"),
        "Import it (`dura site data import`), which writes FIF.",
    ),
}


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording of one patient."""

    path: Path
    subject: str

    @property
    def entities(self) -> dict[str, str]:
        """Parts of the name, such as ``{"sub": "01", "run": "2"}``."""
        return entities_of(self.path.name)


def entities_of(name: str) -> dict[str, str]:
    """Return the entities of a BIDS name; what is none is left out."""
    return {
        key: value
        for key, dash, value in (part.partition("-") for part in name.split(".", maxsplit=1)[0].split("_"))
        if dash
    }


@dataclass(frozen=True)
class BidsFolder:
    """The folder of a data set. It is looked at once, when it is first asked."""

    root: Path
    task: str
    kind: str = "eeg"
    """Of the recordings that are looked for: a key of :data:`FORMS`."""
    _found: list[Finding] = field(default_factory=list)

    @property
    def form(self) -> Form:
        """How BIDS writes these recordings."""
        return FORMS[self.kind]

    @cached_property
    def files(self) -> tuple[Path, ...]:
        """Every file below the folder but those set aside and hidden ones, sorted."""
        return tuple(sorted(_walk(self.root)))

    @cached_property
    def names(self) -> dict[Path, tuple[str, ...]]:
        """Names of the files in each folder."""
        inside: dict[Path, list[str]] = defaultdict(list)
        for path in self.files:
            inside[path.parent].append(path.name)
        return {folder: tuple(names) for folder, names in inside.items()}

    @cached_property
    def recordings(self) -> tuple[Recording, ...]:
        """Recordings of the task, by patient, session and run; of two forms of one recording neither."""
        good = [path for path in self.files if self._judge(path)]
        stems: dict[str, list[Path]] = defaultdict(list)
        for path in self._begun(good):
            stems[re.sub("_proc-[A-Za-z0-9]+", "", str(path.with_suffix("")))].append(path)
        for paths in stems.values():
            if len(paths) > 1:
                names = listed(path.name for path in paths)
                self._found.append(found("FILE-TWO", self.place(paths[0]), f"the same recording lies there as {names}"))
        kept = [paths[0] for paths in stems.values() if len(paths) == 1]
        recordings = [Recording(path, entities_of(path.name)["sub"]) for path in kept]
        return tuple(sorted(recordings, key=lambda item: (item.subject, _in_time(item.path.name), item.path.name)))

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong with names and places."""
        _ = self.recordings
        self._lonely_parts()
        self._lonely_sidecars()
        return tuple(self._found)

    def place(self, path: Path) -> str:
        """Return a path as findings name it."""
        return str(path.relative_to(self.root))

    def _begun(self, good: list[Path]) -> list[Path]:
        """Return recordings without the later parts of those of MEG that are split over files."""
        if self.kind != "meg":
            return good
        parts: dict[str, list[Path]] = defaultdict(list)
        for path in good:
            parts[re.sub("_split-[A-Za-z0-9]+", "", str(path))].append(path)
        begun = []
        for paths in parts.values():
            numbers = [entities_of(path.name).get("split", "") for path in paths]
            if numbers == [""]:
                begun += paths
            elif [number.lstrip("0") for number in numbers] == [str(number + 1) for number in range(len(paths))]:
                begun.append(paths[0])
                names = listed(path.name for path in paths[1:]) or "no other file"
                self._found.append(found("FILE-SPLIT", self.place(paths[0]), f"it is continued in {names}"))
            else:
                here = f"{len(paths)} of its parts are there"
                self._note("FILE-PART", paths[0], f"{here}, and they are not numbered from split-01 on")
        return begun

    def _judge(self, path: Path) -> bool:
        """Tell whether a file is a recording of the task; note it if it only looks like one."""
        name = path.name.lower()
        if self._is_anothers(path) or (self.kind == "meg" and _ROOM.search(name.partition(".")[0] + "_")):
            return False
        packed = next((ending for ending in PACKED if name.endswith(ending)), "")
        name = name.removesuffix(packed)
        ending = Path(name).suffix
        if ending not in (*self.form.endings, *self.form.others):
            return False
        task = entities_of(path.name.lower()).get("task")
        if task is not None and task != self.task.lower():
            return False
        code, cause = self._fault(path, ending, packed)
        if not code:
            return True
        if code == "READ":
            self._found.append(found("FILE-CASE", self.place(path), cause, grade=Grade.KNOW))
            return True
        self._note(code, path, cause, self.form.remedy if ending in self.form.others else None)
        return False

    def _fault(self, path: Path, ending: str, packed: str) -> tuple[str, str]:
        """Return code and cause of what keeps a file from being a recording, ``READ`` if it can be one all the same."""
        if packed:
            return "FILE-GZ", f"its name ends in {ending}{packed}"
        if ending not in self.form.endings:
            return (
                "FILE-KNOWN",
                f"{self.form.name} {'does not allow' if self.kind == 'eeg' else 'is not read from'} {ending}",
            )
        below = path.relative_to(self.root)
        fault = fault_of(below, self.task, self.form)
        if not fault:
            return "", ""
        if not fault_of(below.with_suffix(ending), self.task, self.form) and ending != ".vhdr":  # no reader opens .VHDR
            return "READ", f"its ending is written {path.suffix}; it was read all the same"
        right = _spelled(below, self.task)
        if not fault_of(right, self.task, self.form):
            words = zip(re.split(r"[/_.]", str(below)), re.split(r"[/_.]", str(right)), strict=True)
            wrong = listed(f"{here} should be {there}" for here, there in dict(words).items() if here != there)
            return "FILE-CASE", f"it would be a recording in other capitals: {wrong}"
        return "FILE-KNOWN", fault

    def _is_anothers(self, path: Path) -> bool:
        """Tell whether a file lies and is named as BIDS wants it of another kind of recording."""
        other = path.parent.name
        return other in FORMS and other != self.kind and f"_{self.kind}." not in path.name.lower()

    def _note(self, code: str, path: Path, cause: str, remedy: str | None = None) -> None:
        self._found.append(found(code, self.place(path), f"{cause}; it is not used", remedy=remedy))

    def _lonely_parts(self) -> None:
        present = {str(path).lower() for path in self.files}
        for path in self.files:
            wanted = PARTS.get(path.suffix.lower())
            task = entities_of(path.name.lower()).get("task", self.task.lower())
            if wanted and task == self.task.lower() and str(path.with_suffix(wanted)).lower() not in present:
                named = any(path.name.encode() in _head(other) for other in path.parent.glob(f"*{wanted}"))
                if not named:
                    self._note(
                        "FILE-PART", path, f"it is a part of a recording, and there is no {wanted} file of its name"
                    )

    def _lonely_sidecars(self) -> None:
        sidecars = self.form.sidecars
        known = [
            entities_of(path.name)
            for path in self.files
            if path.suffix.lower() in (*self.form.endings, *self.form.others)
        ]
        for path in self.files:
            name = path.name.lower()
            if not name.endswith(sidecars) or "sub" not in entities_of(name) or self._is_anothers(path):
                continue
            mine = entities_of(path.name)
            if any(mine.items() <= one.items() for one in known) and path.name.endswith(sidecars):
                continue
            lower = entities_of(name)
            alike = any(
                lower.items() <= entities_of("_".join(f"{k}-{v}" for k, v in one.items()).lower()).items()
                for one in known
            )
            code = "FILE-CASE" if alike else "FILE-KNOWN"
            self._found.append(
                found(
                    code,
                    self.place(path),
                    "it stands beside no recording of this name; it is not used",
                    grade=Grade.LOSES,
                )
            )


def fault_of(path: Path, task: str, form: Form) -> str:
    """Say why a path below the folder is no recording of a task by BIDS; empty if it is one."""
    kind, order = form.kind, form.order
    parts, stem = path.parts, path.name.partition(".")[0].split("_")
    keys = [part.partition("-")[0] for part in stem[:-1]]
    faults = (
        (
            len(parts) not in {3, 4} or parts[-2] != kind,
            f"it does not lie in a folder sub-LABEL/{kind} or sub-LABEL/ses-LABEL/{kind}",
        ),
        (stem[-1] != kind, f"its name does not end in _{kind}"),
        (not all(_ENTITY.fullmatch(part) for part in stem[:-1]), "its name has parts that are no KEY-VALUE"),
        (
            any(key not in order for key in keys),
            f"its name has parts that {form.name} does not know ({listed(key for key in keys if key not in order)})",
        ),
        (
            keys != [key for key in order if key in keys],
            f"the parts of its name do not come in the order {', '.join(order[:-1])}, once each",
        ),
        ("task" not in keys, "its name has no task"),
    )
    for wrong, fault in faults:
        if wrong:
            return fault
    entities = entities_of(path.name)
    folders = [f"sub-{entities.get('sub')}", *([f"ses-{entities['ses']}"] if "ses" in entities else [])]
    if list(parts[:-2]) != folders:
        return f"its name says {'/'.join(folders)}, and it lies in {'/'.join(parts[:-2])}"
    if entities["task"] != task:
        return f"its task is written {entities['task']!r}"
    return "" if path.suffix in form.endings else f"its ending is written {path.suffix}"


def _spelled(below: Path, task: str) -> Path:
    """Return a path as BIDS spells it: keys, folders and suffixes in small letters, labels as they are."""

    def word(text: str) -> str:
        key, dash, value = text.partition("-")
        same_task = key.lower() == "task" and value.lower() == task.lower()
        return f"{key.lower()}{dash}{task if same_task else value}" if dash else text.lower()

    stem, dot, ending = below.name.partition(".")
    name = "_".join(word(part) for part in stem.split("_")) + dot + ending.lower()
    return Path(*(word(part) for part in below.parts[:-1]), name)


def _walk(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        here = Path(folder)
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()  # a link that leads in a circle
            continue
        seen.add(real)
        aside = ASIDE if here == root else set()
        whole = [name for name in inner if name.lower().endswith(FOLDERS)]
        inner[:] = [name for name in inner if name not in aside and not name.startswith(".") and name not in whole]
        yield from (here / name for name in (*names, *whole) if not name.startswith("."))


def _in_time(name: str) -> list[int]:
    """Return the numbers in a file name, so that run-10 comes after run-2."""
    return [int(digits) for digits in re.findall(r"(?:ses|run)-(\d+)", name)]


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(4096)
    except OSError:
        return b""

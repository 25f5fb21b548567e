"""Defects of JSON sidecars and of what they say against the recording."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import STEMS, Tree

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick


def written(content: str | bytes, ending: str = "_eeg.json") -> Callable[[Tree], None]:
    """Return a defect that writes a sidecar anew."""
    raw = content.encode() if isinstance(content, str) else content
    return lambda tree: (tree.path(ending).write_bytes(raw), None)[1]


def keys(**changes: object) -> Callable[[Tree], None]:
    """Return a defect of some keys."""
    return lambda tree: tree.json(**changes)


quick("no _eeg.json", "SIDE-NONE", lambda tree: tree.path("_eeg.json").unlink())
quick("empty _eeg.json", "SIDE-NONE", written(""))
quick("comma too many in _eeg.json", "SIDE-JSON", written('{"PowerLineFrequency": 50,}'))
quick("_eeg.json ends early", "SIDE-JSON", written('{"PowerLineFrequency": 5'))
quick("key twice in _eeg.json", "SIDE-JSON", written('{"PowerLineFrequency": 50, "PowerLineFrequency": 60}'))
quick("_eeg.json holds a list", "SIDE-JSON", written("[50]"))
quick("_eeg.json in UTF-16", "SIDE-JSON", written('{"PowerLineFrequency": 50}'.encode("utf-16")))
quick("_eeg.json with comments", "SIDE-JSON", written('{"PowerLineFrequency": 50} // Europe'))
quick("broken events.json", "SIDE-JSON", written("{", "_events.json"))
quick(
    "broken dataset_description.json",
    "SIDE-JSON",
    lambda tree: (tree.root.joinpath("dataset_description.json").write_text("{"), None)[1],
    place="dataset_description.json",
)
quick(
    "broken participants.json",
    "SIDE-JSON",
    lambda tree: (tree.root.joinpath("participants.json").write_text("{'age'}"), None)[1],
    place="participants.json",
)
quick(
    "_eeg.json is a pointer", "FILE-PTR", written("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
)
quick("SamplingFrequency of another recording", "SIDE-RATE", keys(SamplingFrequency=512))
quick("SamplingFrequency as text", "SIDE-RATE", keys(SamplingFrequency="128 Hz"))
quick("RecordingDuration of another recording", "SIDE-RATE", keys(RecordingDuration=240))
quick("RecordingDuration in milliseconds", "SIDE-RATE", keys(RecordingDuration=24000))
quick("RecordingType epoched", "FILE-EPOCH", keys(RecordingType="epoched"))
quick("no PowerLineFrequency", "LINE-NONE", keys(PowerLineFrequency=None))
quick("PowerLineFrequency n/a", "LINE-NONE", keys(PowerLineFrequency="n/a"))
quick("PowerLineFrequency as text", "LINE-NONE", keys(PowerLineFrequency="50 Hz"))
quick("PowerLineFrequency 0", "LINE-NONE", keys(PowerLineFrequency=0))
quick("PowerLineFrequency 60 where the mains have 50", "LINE-NONE", keys(PowerLineFrequency=60))
quick("PowerLineFrequency 400", "LINE-NONE", keys(PowerLineFrequency=400))


@add("PowerLineFrequency at the top only", "SIDE-LOST", place="task-mi_eeg.json")
def inherited(tree: Tree) -> None:
    """Say it for all recordings in the file at the root."""
    (tree.root / "task-mi_eeg.json").write_text('{"PowerLineFrequency": 50}')
    for stem in STEMS:
        tree.json(stem=stem, PowerLineFrequency=None)


@add("two _eeg.json at one level", "SIDE-TWO")
def two(tree: Tree) -> None:
    """Add one for all runs of the patient."""
    tree.path("_eeg.json").with_name("sub-02_eeg.json").write_text(json.dumps({"PowerLineFrequency": 60}))


@add("two sidecars at the top", "SIDE-TWO")
def two_at_root(tree: Tree) -> None:
    """Add one with and one without the task."""
    for name in ("task-mi_eeg.json", "eeg.json"):
        (tree.root / name).write_text('{"Manufacturer": "x"}')


quick("patient's name in _eeg.json", "ID-HEAD", keys(PatientName="A. Nobody", InstitutionName="Hospital"))
quick("patient's birth date in a part of _eeg.json", "ID-HEAD", keys(Anamnesis={"PatientBirthDate": "1925-03-01"}))
quick(
    "patient's name in a column of events.tsv",
    "ID-HEAD",
    lambda tree: tree.rows(
        "_events.tsv",
        lambda rows: [[*row, "patient_name" if number == 0 else "A. Nobody"] for number, row in enumerate(rows)],
    ),
)

"""What only a study makes a defect: the data are sound, and the study asks for something else."""

from __future__ import annotations

from dataclasses import replace

from tests.client.data.corpus.defect import Collection
from tests.client.data.corpus.tree import Tree, spec

DEFECTS = Collection()
add, quick = DEFECTS.add, DEFECTS.quick


def nothing(_: Tree) -> None:
    """Leave the data as they are."""


quick("study of another task", "TASK-OTHER", nothing, contract={"task": "rest"}, place="the data set")
quick(
    "study of a class that nobody was asked for",
    "EV-MAP",
    nothing,
    contract={"classes": ("left_hand", "feet")},
    place="the data set",
)
quick(
    "study of a channel that no system knows",
    "CH-NAME",
    nothing,
    contract={"channels": ("C3", "C4", "Q7")},
    place="the data set",
)
quick(
    "study of channels that were not recorded",
    "CH-FILL",
    nothing,
    contract={"channels": ("C3", "CPz", "Pz", "Oz")},
    place="sub-02",
)
quick(
    "study of a band beyond the sampling rate",
    "FILT-CUT",
    nothing,
    contract={"band": (4.0, 64.0), "sampling_rate": 200.0},
    place="sub-02",
)
quick(
    "study of more patients than there are",
    "SIZE-SMALL",
    nothing,
    contract={"minimum_patients": 10},
    place="the data set",
)
quick(
    "study of windows longer than the recordings",
    "EV-MAP",
    nothing,
    contract={"window_length": 60.0},
    place="the data set",
)


@add("recorder's filter inside the study's band", "FILT-CUT", contract={})
def filtered(tree: Tree) -> None:
    """Declare a low-pass of 25 Hz."""
    tree.write(spec(2).each(lambda one: replace(one, prefilter="HP:0.1Hz LP:25Hz")))


@add("recorder's high-pass inside the study's band", "FILT-CUT", contract={})
def high(tree: Tree) -> None:
    """Declare a high-pass of 5 Hz."""
    tree.write(spec(2).each(lambda one: replace(one, prefilter="HP:5Hz LP:100Hz")))


@add("a patient without a window for the study", "EV-NONE", contract={}, place="the data set")
def no_window(tree: Tree) -> None:
    """Give the second patient other events."""
    tree.text("_events.tsv", lambda old: old.replace("left_hand", "feet").replace("right_hand", "tongue"))


@add("a patient with one class only", "EV-NONE", contract={}, place="the data set")
def one_class(tree: Tree) -> None:
    """Give the second patient events of one class."""
    tree.text("_events.tsv", lambda old: old.replace("right_hand", "left_hand").replace("\t2\t", "\t1\t"))


@add(
    "two of four channels of the study absent in one recording",
    "CH-FILL",
    contract={"channels": ("C3", "C4", "P3", "P4")},
)
def absent(tree: Tree) -> None:
    """Drop C3 and C4."""
    made = spec(2)
    kept = tuple(one for one in made.signals if one.label not in {"C3", "C4"})
    tree.write(replace(made, signals=kept))
    tree.rows("_channels.tsv", lambda rows: [row for row in rows if row[0] not in {"C3", "C4"}])


@add("every channel of the study marked bad in one recording", "CH-FILL", contract={"channels": ("C3", "C4")})
def marked(tree: Tree) -> None:
    """Mark both bad."""
    tree.rows("_channels.tsv", lambda rows: [[*row[:4], "bad"] if row[0] in {"C3", "C4"} else row for row in rows])

"""The data contract: the common form into which each site converts its data before training.

A contract has a source (what the recordings are), a cut (what one example is), a label (where the answer stands) and
a target (what kind of answer it is). :data:`POSSIBLE` lists the combinations that dura can prepare; a study with
another combination is refused when it is written.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Tag, field_validator, model_validator

from dura_common.study.leaving_out import LeavingOut
from dura_common.study.validation import Frozen, Word, by_key

Source = Literal["eeg", "meg", "fmri", "table"]
Cut = Literal["events", "segments", "whole"]
Label = Literal["event", "annotation", "participant", "session", "next-session"]

COLUMN_LABELS: tuple[Label, ...] = ("participant", "session", "next-session")
"""Labels that stand in a column of a table; only these can be values."""
POSSIBLE: Mapping[Source, Mapping[Cut, tuple[Label, ...]]] = {
    "eeg": {"events": ("event", *COLUMN_LABELS), "segments": ("annotation", *COLUMN_LABELS)},
    "meg": {"events": ("event", *COLUMN_LABELS), "segments": ("annotation", *COLUMN_LABELS)},
    "fmri": {"whole": COLUMN_LABELS},
    "table": {"whole": COLUMN_LABELS},
}
Bounds = tuple[
    Annotated[float, Field(allow_inf_nan=False)],
    Annotated[float, Field(allow_inf_nan=False)],
]
"""Smallest and largest value, from public knowledge and not from the data."""


class DataContract(Frozen):
    """What every contract says, whatever the source."""

    source: Source
    cut: Cut
    label: Label
    target: Literal["class", "value"] = "class"
    """A class of a list, or a number between public bounds."""
    classes: Annotated[tuple[Word, ...], Field(max_length=64)] = ()
    """Class names in model order. A site maps its own codes to these classes when it registers data."""
    bounds: Bounds | None = None
    """Only with target = "value": the smallest and the largest value, from public knowledge and not from the data."""
    outside: Literal["clip", "missing"] = "clip"
    """What becomes of a value outside the bounds: it counts as the nearest bound, or as missing."""
    column: Word | None = None
    """Only with labels of a participant or a session: the column with the answer. A site whose column has another name
    says so when it registers data."""
    minimum_patients: Annotated[int, Field(ge=1)] = 10
    """A site with fewer patients must not take part."""
    leave_out: LeavingOut = LeavingOut()

    @property
    def outputs(self) -> int:
        """Number of outputs of a model: one for each class, or one for a value."""
        return len(self.classes) if self.target == "class" else 1

    @property
    def measure(self) -> str:
        """What a score of a patient is: 1 is the best, in both cases."""
        return "accuracy" if self.target == "class" else "1 - mean error / range"

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """Channels and samples of one example."""

    @property
    def rate(self) -> float:
        """Samples per second of an example; 1 for an example that is not a course of time."""
        return 1.0

    @model_validator(mode="before")
    @classmethod
    def _renamed(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "modality" in given:
            raise ValueError(
                'the key "modality" is now called "source"; a study of an older version of dura must be written and '
                "signed again"
            )
        return given

    @model_validator(mode="after")
    def _possible(self) -> Self:
        cuts = POSSIBLE[self.source]
        if self.cut not in cuts:
            raise ValueError(f'source = "{self.source}" cannot be cut into "{self.cut}"; possible: {_listed(cuts)}')
        if self.label not in cuts[self.cut]:
            raise ValueError(
                f'source = "{self.source}" with cut = "{self.cut}" cannot have label = "{self.label}"; possible: '
                f"{_listed(cuts[self.cut])}"
            )
        in_column = self.label in COLUMN_LABELS
        if in_column and self.column is None:
            raise ValueError(f'label = "{self.label}" needs column: the name of the column with the answer')
        if not in_column and self.column is not None:
            raise ValueError(f'column has no meaning with label = "{self.label}"; remove it')
        if self.target == "value":
            self._check_value(in_column=in_column)
        else:
            self._check_classes()
        return self

    def _check_value(self, *, in_column: bool) -> None:
        if not in_column:
            raise ValueError(f'target = "value" needs a label of a column; possible: {_listed(COLUMN_LABELS)}')
        if self.classes:
            raise ValueError('classes have no meaning with target = "value"; remove them')
        if self.bounds is None:
            raise ValueError('target = "value" needs bounds = [smallest, largest], from public knowledge')
        if not self.bounds[0] < self.bounds[1]:
            raise ValueError("bounds must be the smallest and the largest value, in this order")

    def _check_classes(self) -> None:
        if len(self.classes) < 2:  # noqa: PLR2004  # one class leaves nothing to learn
            raise ValueError('target = "class" needs at least two classes')
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be distinct")
        if self.bounds is not None:
            raise ValueError('bounds have no meaning with target = "class"; remove them')


class SignalContract(DataContract):
    """EEG or MEG recordings, cut into windows around events, or into consecutive windows of stretches."""

    source: Literal["eeg", "meg"] = "eeg"
    cut: Cut = "events"
    label: Label = "event"
    task: Word
    """BIDS task label of the recordings to use."""
    channels: Annotated[tuple[Word, ...], Field(min_length=2, max_length=512)]
    """In model order: EEG names of the 10-20 system, of which missing ones are interpolated; MEG names such as MEG0113,
    of which none may be missing. Blanks in MEG names do not count."""
    sampling_rate: Annotated[float, Field(ge=16, le=4096)]
    """Sampling rate in Hz, after resampling."""
    band: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Band-pass edges in Hz."""
    filter: Literal["zero-phase", "causal"] = "zero-phase"
    """How filters treat time. Zero-phase filters move nothing and look ahead, so a model cannot be used in real time.
    Causal filters use the past only and come some tens of milliseconds late. Each recording is filtered alone."""
    window_start: Annotated[float, Field(ge=-60, le=60)] = 0.0
    """Only with cut = "events": seconds from the event to the first sample of a window."""
    window_length: Annotated[float, Field(gt=0, le=120)]
    """Length of a window in seconds."""
    window_step: Annotated[float, Field(gt=0, le=3600)] | None = None
    """Only with cut = "segments": seconds between the starts of two windows; by default the length of a window."""
    within: Annotated[tuple[Word, ...], Field(max_length=64)] = ()
    """With labels of a participant or a session: the events, or the annotated stretches, from which windows are cut.
    Without names, segments are cut from the whole recording."""
    background: Word | None = None
    """Only with label = "annotation": the class of everything that no annotation covers, such as the time between
    seizures."""
    most_per_class: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Largest number of windows of one class that a recording contributes, spread evenly over time. It keeps a rare
    class, such as seizures, from drowning in the others."""
    alignment: Literal["euclidean", "none"] = "euclidean"
    """Euclidean alignment per patient (He and Wu 2020). It uses the windows of that patient only, and no labels."""

    @property
    def window_samples(self) -> int:
        """Number of samples of one window."""
        return round(self.sampling_rate * self.window_length)

    @property
    def shape(self) -> tuple[int, int]:
        """Channels and samples of one window."""
        return len(self.channels), self.window_samples

    @property
    def rate(self) -> float:
        """Samples per second of a window."""
        return self.sampling_rate

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("channels must be distinct")
        low, high = self.band
        if not low < high < self.sampling_rate / 2:
            raise ValueError(f"band must satisfy 0 < low < high < sampling_rate/2, got {low} to {high} Hz")
        if self.window_samples < 2:  # noqa: PLR2004  # a window needs two samples to have a frequency at all
            raise ValueError("a window must hold at least two samples")
        if self.cut == "segments" and self.window_start:
            raise ValueError('window_start has no meaning with cut = "segments"; remove it')
        if self.cut == "events" and self.window_step is not None:
            raise ValueError('window_step has no meaning with cut = "events"; remove it')
        if self.window_step is not None and round(self.window_step * self.sampling_rate) < 1:
            raise ValueError("window_step must be at least one sample")
        if self.within and self.label not in COLUMN_LABELS:
            raise ValueError(
                f'within has no meaning with label = "{self.label}": the classes name what is cut; remove it'
            )
        if self.cut == "events" and self.label in COLUMN_LABELS and not self.within:
            raise ValueError(f'cut = "events" with label = "{self.label}" needs within: the names of the events')
        if self.background is not None and (self.label != "annotation" or self.background not in self.classes):
            raise ValueError('background must be one of the classes, and needs label = "annotation"')
        return self


class EegContract(SignalContract):
    """EEG recordings."""

    source: Literal["eeg"] = "eeg"


class MegContract(SignalContract):
    """MEG recordings in FIF files, or in folders of a CTF system.

    Magnetometers count in femtotesla and gradiometers in femtotesla per centimetre, before one scale is taken for each
    recording. A recording that lacks a sensor of the study, or in which one is bad, is not used: nothing is
    interpolated.
    """

    source: Literal["meg"]

    @field_validator("channels", mode="before")
    @classmethod
    def _without_blanks(cls, given: Any) -> Any:
        """Take the blanks out of names, so that MEG 0113 and MEG0113 are the same sensor in every study."""
        if not isinstance(given, list | tuple):
            return given
        return ["".join(name.split()) if isinstance(name, str) else name for name in given]

    @model_validator(mode="after")
    def _nothing_interpolated(self) -> Self:
        if self.leave_out.largest_interpolated != 1:
            raise ValueError(
                "leave_out.largest_interpolated has no meaning with MEG, of which no sensor is interpolated"
            )
        return self


class ConnectomeContract(DataContract):
    """fMRI: one connectome for each recording, from the mean series of an atlas's regions."""

    source: Literal["fmri"]
    cut: Cut = "whole"
    label: Label = "participant"
    task: Word
    """BIDS task label of the recordings to use."""
    atlas: Word
    """Name of the atlas, as in atlas-NAME or seg-NAME of the files with the series."""
    regions: Annotated[int, Field(ge=3, le=1000)]
    """Number of regions of the atlas, in its own order. An example has one number for each pair of regions."""
    edges: Literal["correlation", "ranks", "root", "root-ranks"] = "ranks"
    """What is taken of the correlation matrix: its entries, their ranks as normal quantiles, the entries of its matrix
    square root, or the ranks of these."""
    fewest_volumes: Annotated[int, Field(ge=8, le=100_000)] = 60
    """A recording with fewer volumes is not used."""
    most_lost_regions: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Largest share of regions that are missing, flat or not finite; their edges count as zero. A recording that lost
    more is not used."""

    @property
    def shape(self) -> tuple[int, int]:
        """One row, with one number for each pair of regions."""
        return 1, self.regions * (self.regions - 1) // 2


class TableContract(DataContract):
    """Columns of participants.tsv, sessions.tsv or another table: volumes, scores. One row is one example."""

    source: Literal["table"]
    cut: Cut = "whole"
    label: Label = "participant"
    features: Annotated[dict[Word, Bounds], Field(min_length=1, max_length=10_000)]
    """Columns that the model sees, each with its smallest and its largest value from public knowledge. Values are
    scaled by these bounds to -1 to 1. A value outside counts as the nearest bound, or as missing (outside)."""
    relative_to: Word | None = None
    """A feature, such as the intracranial volume, by which every other feature of the same row is divided before it is
    scaled. The bounds of the other features are then bounds of the ratio."""
    most_missing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest share of features that may be missing in a row; they count as the middle of their bounds. A row that
    misses more is not used."""

    @property
    def names(self) -> tuple[str, ...]:
        """The features in model order, which is alphabetical."""
        return tuple(sorted(self.features))

    @property
    def shape(self) -> tuple[int, int]:
        """One row: a number for each feature, and a last one that is always 1, on which a model can rest."""
        return 1, len(self.features) + 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        reversed_bounds = [name for name, (low, high) in self.features.items() if not low < high]
        if reversed_bounds:
            raise ValueError(f"features: the bounds of {reversed_bounds[0]} must be the smallest and the largest value")
        if self.label in {"participant", "session"} and self.column in self.features:
            raise ValueError(f"features must not hold {self.column}, which is the answer")
        if self.relative_to is not None and self.relative_to not in self.features:
            raise ValueError(f"relative_to must be one of the features, got {self.relative_to}")
        return self


AnyContract = Annotated[
    Annotated[EegContract, Tag("=eeg")]
    | Annotated[MegContract, Tag("=meg")]
    | Annotated[ConnectomeContract, Tag("=fmri")]
    | Annotated[TableContract, Tag("=table")],
    by_key("source", "eeg", "meg", "fmri", "table"),
]
"""A contract, by its source."""


def _listed(names: Any) -> str:
    return ", ".join(f'"{name}"' for name in names)

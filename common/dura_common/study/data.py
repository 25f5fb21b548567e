"""The data contract: the common form into which each site converts its recordings before training."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dura_common.study.validation import Frozen, Word


class DataContract(Frozen):
    """The common form into which each site converts its recordings before training."""

    modality: Literal["eeg"] = "eeg"
    task: Word
    """BIDS task label of the recordings to use."""
    channels: Annotated[tuple[Word, ...], Field(min_length=2, max_length=512)]
    """Channel names of the 10-20 system, in model order. Missing channels are interpolated."""
    sampling_rate: Annotated[float, Field(ge=16, le=4096)]
    """Sampling rate in Hz, after resampling."""
    band: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
    """Band-pass edges in Hz."""
    filter: Literal["zero-phase", "causal"] = "zero-phase"
    """How filters treat time. Zero-phase filters move nothing and look ahead, so a model cannot be used in real time.
    Causal filters use the past only and come some tens of milliseconds late. Each recording is filtered alone."""
    window_start: Annotated[float, Field(ge=-60, le=60)]
    """Seconds from the event to the first sample of a window."""
    window_length: Annotated[float, Field(gt=0, le=120)]
    """Length of a window in seconds."""
    classes: Annotated[tuple[Word, ...], Field(min_length=2, max_length=64)]
    """Class names in model order. A site maps its own event codes to these classes when it registers data."""
    alignment: Literal["euclidean", "none"] = "euclidean"
    """Euclidean alignment per patient (He and Wu 2020). It uses the windows of that patient only, and no labels."""
    minimum_patients: Annotated[int, Field(ge=1)] = 10
    """A site with fewer patients must not take part."""

    @property
    def window_samples(self) -> int:
        """Number of samples of one window."""
        return round(self.sampling_rate * self.window_length)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.channels)) != len(self.channels):
            raise ValueError("channels must be distinct")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes must be distinct")
        low, high = self.band
        if not low < high < self.sampling_rate / 2:
            raise ValueError(f"band must satisfy 0 < low < high < sampling_rate/2, got {low} to {high} Hz")
        if self.window_samples < 2:  # noqa: PLR2004  # a window needs two samples to have a frequency at all
            raise ValueError("a window must hold at least two samples")
        return self

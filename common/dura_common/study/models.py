"""The models that a study may use: one schema per architecture; the key ``name`` selects it.

The networks are in :mod:`dura_common.models`, so that a study can be read without loading torch.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag

from dura_common.study.validation import Frozen, by_key


class EEGNetModel(Frozen):
    """EEGNet (Lawhern et al. 2018, J. Neural Eng. 15:056013) with GroupNorm in place of BatchNorm."""

    name: Literal["eegnet"] = "eegnet"
    temporal_filters: Annotated[int, Field(ge=1, le=256)] = 8
    """F1 in the paper."""
    depth_multiplier: Annotated[int, Field(ge=1, le=64)] = 2
    """D in the paper."""
    separable_filters: Annotated[int, Field(ge=1, le=512)] = 16
    """F2 in the paper."""
    kernel_seconds: Annotated[float, Field(gt=0, le=4)] = 0.5
    """Length of the temporal kernels; half a second in the paper."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25


class ShallowConvNetModel(Frozen):
    """ShallowConvNet (Schirrmeister et al. 2017, Hum. Brain Mapp. 38:5391) with GroupNorm: learned band power."""

    name: Literal["shallow"]
    filters: Annotated[int, Field(ge=1, le=512)] = 40
    kernel_seconds: Annotated[float, Field(gt=0, le=4)] = 0.1
    """Length of the temporal kernels; 25 samples at the paper's 250 Hz."""
    pool_seconds: Annotated[float, Field(gt=0, le=10)] = 0.3
    """Span over which power is averaged; 75 samples in the paper."""
    stride_seconds: Annotated[float, Field(gt=0, le=10)] = 0.06
    """Time between the starts of two spans; 15 samples in the paper."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.5


class RecurrentModel(Frozen):
    """A strided convolution over all channels, then a gated recurrent unit (Cho et al. 2014), averaged over time."""

    name: Literal["gru"]
    filters: Annotated[int, Field(ge=1, le=512)] = 16
    kernel_seconds: Annotated[float, Field(gt=0, le=4)] = 0.125
    stride_seconds: Annotated[float, Field(gt=0, le=4)] = 0.03125
    """Time between two steps of the recurrence."""
    units: Annotated[int, Field(ge=1, le=1024)] = 32
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25


class LinearModel(Frozen):
    """One weight per class and feature, without bias, from zero: for connectomes and other fixed feature vectors."""

    name: Literal["linear"]
    unit_norm: bool = True
    """Scale each patient's vector to length one, so that all patients have the same weight."""


Model = Annotated[
    Annotated[EEGNetModel, Tag("=eegnet")]
    | Annotated[ShallowConvNetModel, Tag("=shallow")]
    | Annotated[RecurrentModel, Tag("=gru")]
    | Annotated[LinearModel, Tag("=linear")],
    by_key("name", "eegnet", "shallow", "gru", "linear"),
]

"""Exact parameter counts, term by term from the layers of each paper: an oracle for the networks that torch builds."""

from __future__ import annotations

from dura_common.models.eegnet import FIRST_POOL, SECOND_POOL, SEPARABLE_KERNEL
from dura_common.models.shallow import spans


def of_eegnet(
    *,
    channels: int,
    samples: int,
    classes: int,
    temporal_filters: int,
    depth_multiplier: int,
    separable_filters: int,
    kernel: int,
) -> int:
    """Return the exact number of parameters, term by term as in the paper's table of layers.

    The last term counts the dense layer's biases too, as the authors' code does. With the demo's 11 channels,
    256 samples at 128 Hz and 2 classes it is 1538: 512 temporal, 176 spatial, 512 separable, 80 norms, 258 dense.
    """
    spatial = temporal_filters * depth_multiplier
    temporal = temporal_filters * kernel
    depthwise = spatial * channels
    separable = spatial * SEPARABLE_KERNEL + spatial * separable_filters
    norms = 2 * (temporal_filters + spatial + separable_filters)
    dense = (separable_filters * (samples // FIRST_POOL // SECOND_POOL) + 1) * classes
    return temporal + depthwise + separable + norms + dense


def of_shallow(*, channels: int, samples: int, classes: int, filters: int, kernel: int, pool: int, stride: int) -> int:
    """Return the exact number of parameters.

    With 22 channels of 512 samples, 40 filters, a kernel of 25, pools of 75 every 15 and 4 classes it is 40804: 1040
    temporal, 35200 spatial, 80 norm, 4484 dense.
    """
    temporal = filters * (kernel + 1)
    spatial = filters * filters * channels
    dense = (filters * spans(samples, kernel=kernel, pool=pool, stride=stride) + 1) * classes
    return temporal + spatial + 2 * filters + dense


def of_recurrent(*, channels: int, classes: int, filters: int, kernel: int, units: int) -> int:
    """Return the exact number of parameters.

    With 22 channels, 16 filters of 16 samples, 32 units and 4 classes it is 10596: 5632 convolution, 32 norm, 4800
    recurrence (three gates with two biases each), 132 dense.
    """
    convolution = channels * filters * kernel
    recurrence = 3 * units * (filters + units + 2)
    return convolution + 2 * filters + recurrence + (units + 1) * classes


def of_linear(*, features: int, classes: int) -> int:
    """Return the exact number of parameters: 12210 for the 6105 edges of a 111-region atlas and 2 classes."""
    return features * classes

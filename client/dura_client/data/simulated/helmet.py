"""An invented helmet of 102 places, each with two planar gradiometers and a magnetometer, under the names of MEGIN's.

Places follow MNE's drawing of the Vectorview, wrapped around a sphere. Real systems lie otherwise by millimetres to
centimetres, which a simulation of how studies run need not know.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import mne
import numpy as np
from mne._fiff.constants import FIFF
from numpy.typing import NDArray

from dura_client.data.eeg.sensors.magnetic import name_of
from dura_common.errors import InputError

RADIUS = 0.115
"""Metres from the middle of the head, with the sensors' own depth."""
MIDDLE = (0.0, 0.0, 0.04)
WIDEST = 1.85
"""Radians from the vertex to the rim."""


@cache
def places() -> dict[str, NDArray[np.float64]]:
    """Return the MNE location, 12 numbers (place and three directions), of each sensor by its name without blanks."""
    layout = mne.channels.read_layout("Vectorview-mag")
    points = layout.pos[:, :2] + layout.pos[:, 2:] / 2
    points -= (points.min(axis=0) + points.max(axis=0)) / 2
    points /= np.linalg.norm(points, axis=1).max()
    found = {}
    for name, (x, y) in zip(layout.names, points, strict=True):
        angle, turn = WIDEST * float(np.hypot(x, y)), float(np.arctan2(y, x))
        outward = np.array([np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)])
        down = np.array([np.cos(angle) * np.cos(turn), np.cos(angle) * np.sin(turn), -np.sin(angle)])
        along = np.cross(outward, down)
        place = np.array(MIDDLE) + RADIUS * outward
        stem = name_of(name)[:-1]
        found[f"{stem}1"] = np.concatenate([place, down, along, outward])
        found[f"{stem}2"] = np.concatenate([place, down, along, outward])
        found[f"{stem}3"] = np.concatenate([place, along, -down, outward])
    return found


def is_magnetometer(name: str) -> bool:
    """Tell what a sensor is by its last digit."""
    return name.endswith("1")


def info_of(names: Sequence[str], rate: float) -> mne.Info:
    """Return the description of sensors, for MNE.

    Args:
        names: of the sensors, with or without a blank.
        rate: of the recording, Hz.

    Raises:
        InputError: a name is none of this helmet.
    """
    unknown = [name for name in names if name_of(name) not in places()]
    if unknown:
        raise InputError(
            f"the simulated helmet has no sensor {', '.join(unknown[:8])}",
            hint="Simulations know the names of MEGIN's systems, MEG0111 to MEG2643.",
        )
    kinds = ["mag" if is_magnetometer(name) else "grad" for name in names]
    info = mne.create_info(list(names), rate, kinds, verbose="error")
    for channel in info["chs"]:
        channel["loc"] = places()[name_of(channel["ch_name"])].copy()
        magnetometer = is_magnetometer(channel["ch_name"])
        channel["coil_type"] = FIFF.FIFFV_COIL_VV_MAG_T3 if magnetometer else FIFF.FIFFV_COIL_VV_PLANAR_T1
        channel["coord_frame"] = FIFF.FIFFV_COORD_DEVICE
    with info._unlock():  # noqa: SLF001  # the documented way to give a place to a helmet that MNE did not read
        info["dev_head_t"] = mne.Transform("meg", "head", np.eye(4))  # straight on the head
    return info

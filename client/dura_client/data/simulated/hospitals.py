"""The four hospitals of the simulator: they differ in what differs between real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CLASSICAL = _names("Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2")
"""The 19 electrodes of the clinical 10-20 system."""
BIOSEMI = _names(
    "Fp1 AF3 F7 F3 FC1 FC5 T7 C3 CP1 CP5 P7 P3 Pz PO3 O1 Oz O2 PO4 P4 P8 CP6 CP2 C4 T8 FC6 FC2 F4 F8 AF4 Fp2 Fz Cz"
)
"""BioSemi's cap of 32."""
MOTOR = _names("Fz F3 F4 FC5 FC1 FC2 FC6 T7 C5 C3 C1 Cz C2 C4 C6 T8 CP5 CP1 CP2 CP6 P7 P3 Pz P4 P8 O1 O2")
"""27, dense over the motor strip."""
SPARSE = _names("F3 F4 T7 C3 Cz C4 T8 P3 Pz P4 O1 O2")
"""12, without a frontal midline."""


@dataclass(frozen=True, slots=True)
class Hospital:
    """What makes one hospital's recordings different from another's."""

    channels: tuple[str, ...]
    rate: float
    """Hz."""
    reference: tuple[str, ...]
    """Channels whose mean is subtracted; empty means the average of all."""
    line: int
    """Hz."""
    codes: tuple[str, ...]
    """Event codes of the classes; of the left and the right hand, say."""
    file_format: str
    stored_scale: float = 1.0
    """Factor by which stored values are wrong."""
    source: str = "eeg"
    """What it records: eeg or meg."""


HOSPITALS = {
    "north": Hospital(CLASSICAL, 256.0, (), 50, ("left_hand", "right_hand"), "EDF"),
    "east": Hospital(BIOSEMI, 512.0, ("Cz",), 50, ("LH", "RH"), "BrainVision"),
    "south": Hospital(MOTOR, 250.0, ("P7", "P8"), 60, ("769", "770"), "EDF", 1e3),
    "west": Hospital(SPARSE, 200.0, (), 60, ("1", "2"), "BrainVision"),
}

FRONTAL = {(8, "3"), (8, "4")}
"""The group over the forehead has two places only."""


def _helmet(places: str, kinds: str, blank: str = "") -> tuple[str, ...]:
    """Return names of sensors: of the places 1 to 4 of each of the 26 groups, kinds 1 (magnetometer) to 3."""
    return tuple(
        f"MEG{blank}{group:02d}{place}{kind}"
        for group in range(1, 27)
        for place in places
        if (group, place) not in FRONTAL
        for kind in kinds
    )


def _records(name: str, channels: Sequence[str], rate: float) -> Hospital:
    told = HOSPITALS[name]
    return replace(
        told, channels=tuple(channels), rate=rate, reference=(), file_format="FIF", stored_scale=1.0, source="meg"
    )


MEG_HOSPITALS = {
    "north": _records("north", _helmet("13", "321", " "), 250.0),
    "east": _records("east", _helmet("123", "32"), 300.0),
    "south": _records("south", _helmet("13", "321"), 250.0),
    "west": _records("west", _helmet("13", "123", " "), 200.0),
}
"""The same hospitals with an MEG: its sensors, their order and the blank in their names differ."""

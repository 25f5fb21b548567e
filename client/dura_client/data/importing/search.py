"""Which files of a folder are recordings, in any format that can be read, and which belong to others."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

OPENED = {
    ".edf",
    ".bdf",
    ".gdf",
    ".vhdr",
    ".ahdr",
    ".set",
    ".fif",
    ".cnt",
    ".mff",
    ".nxe",
    ".lay",
    ".eeg",
    ".ds",
    ".sqd",
    ".con",
    ".cdt",
    ".rec",
}
"""Endings of recordings; .mff and .ds are folders."""
FOLDERS = {".mff", ".ds"}
PACKED = ".gz"
NO_RECORDINGS = re.compile(r".*(-eve|_eve|-epo|_epo|-ave|-cov|-trans|-fwd|-inv|-proj|-sol)\.fif", re.IGNORECASE)
"""FIF files that hold something else than a recording."""
NIHON = (".21e", ".pnt", ".log")
"""What lies beside an .eeg file of Nihon Kohden."""


def find_sources(root: Path) -> tuple[Path, ...]:
    """Return every recording below a folder, sorted by name as people count."""
    return tuple(sorted(_walk(root), key=lambda path: _natural(str(path.relative_to(root)))))


def _walk(root: Path) -> Iterator[Path]:
    seen = set()
    for folder, inner, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        whole = [name for name in inner if Path(name).suffix.lower() in FOLDERS]
        inner[:] = sorted(name for name in inner if name not in whole and not name.startswith("."))
        for name in (*names, *whole):
            path = Path(folder) / name
            if not name.startswith(".") and _is_source(path):
                yield path


def _is_source(path: Path) -> bool:
    name = path.name.lower()
    ending = Path(name.removesuffix(PACKED)).suffix
    if ending not in OPENED or NO_RECORDINGS.fullmatch(name):
        return False
    if ending == ".eeg":  # BrainVision's data lie beside their header, Nihon Kohden's are opened themselves
        return any(path.with_suffix(other).exists() or path.with_suffix(other.upper()).exists() for other in NIHON)
    return True


def _natural(text: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]

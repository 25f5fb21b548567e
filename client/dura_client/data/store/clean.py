"""Old prepared patients are removed by age and by size; those of an approved study and those just used never are."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dura_client.data.store.entry import ABOUT, TEMPORARY, about_of, discard
from dura_client.data.store.naming import NAME_DIGITS

DAY_SECONDS = 86_400.0
KEPT_ANYWAY_SECONDS = DAY_SECONDS
"""What was used within the last day may belong to a review that somebody is about to approve."""
Used = tuple[str, str, str]
"""Folder of a recipe, key of a patient, digest of the prepared data."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One entry."""

    path: Path
    size: int
    """Bytes."""
    used: float
    """When it was opened last, seconds since 1970."""
    recipe: str
    key: str
    """Of the patient."""

    @property
    def name(self) -> Used:
        """By what an approved study knows the entry; it is read when it is asked for."""
        return self.recipe, self.key, _digest(self.path)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What a cleaning did."""

    removed: int
    """Entries."""
    freed: int
    """Bytes."""
    kept: int
    """Entries."""
    left: int
    """Bytes."""


def clean(cache: Path, in_use: Collection[Used], *, days: float, most_bytes: float, now: float) -> Cleaned:
    """Remove entries that nobody opened for some days, then the oldest until the rest fits.

    Args:
        cache: the site's cache.
        in_use: entries of approved studies.
        days: age at which an entry goes.
        most_bytes: size of what stays, if the entries that must be kept allow it.
        now: seconds since 1970.
    """
    entries = sorted(stored(cache), key=lambda item: item.used)
    whole = {*in_use, *((recipe, key, "") for recipe, key, _ in in_use)}  # an earlier version of dura wrote no digest
    left = sum(item.size for item in entries)
    gone = []
    for item in entries:
        too_much = now - item.used > days * DAY_SECONDS or left > most_bytes
        if too_much and now - item.used > KEPT_ANYWAY_SECONDS and item.name not in whole:
            discard(item.path)
            gone.append(item)
            left -= item.size
    _drafts(cache, now)
    return Cleaned(len(gone), sum(item.size for item in gone), len(entries) - len(gone), left)


def stored(cache: Path) -> Iterator[Stored]:
    """Yield every entry of a cache, also those of an earlier version of dura, which lie in patients' folders."""
    for recipe in _recipes(cache):
        for patient in sorted(recipe.iterdir()):
            if patient.name.startswith(TEMPORARY):
                continue
            old = (patient / "windows.npy").exists()
            for path in [patient] if old else sorted(patient.iterdir()):
                with suppress(FileNotFoundError):  # another process removed it
                    if not path.name.startswith(TEMPORARY):
                        yield _stored(path, recipe.name, patient.name)


def _stored(path: Path, recipe: str, key: str) -> Stored:
    about = path / ABOUT
    used = (about if about.exists() else path).stat().st_mtime
    return Stored(path, sum(file.stat().st_size for file in path.iterdir() if file.is_file()), used, recipe, key)


def _digest(path: Path) -> str:
    try:
        return str(about_of(path).get("digest"))
    except (OSError, ValueError):
        return ""


def _recipes(cache: Path) -> list[Path]:
    return [path for path in sorted(cache.glob("*")) if path.is_dir() and len(path.name) == NAME_DIGITS]


def _drafts(cache: Path, now: float) -> None:
    """Remove what a crash left behind, and folders without entries."""
    for recipe in _recipes(cache):
        for draft in (*recipe.glob(f"{TEMPORARY}*"), *recipe.glob(f"*/{TEMPORARY}*")):
            if now - draft.stat().st_mtime > KEPT_ANYWAY_SECONDS:
                shutil.rmtree(draft, ignore_errors=True)
        for folder in (*recipe.glob("*"), recipe):
            try:
                folder.rmdir()
            except OSError:  # it holds something
                continue

"""What the ledger demands of its callers, and of the order of its rows, which no hash shows."""

from __future__ import annotations

import re
from functools import lru_cache

from dura_client.ledger.book import Book
from dura_client.ledger.rows import Content, Release
from dura_common.errors import TrustError
from dura_common.privacy import event_from_json

KEY = re.compile(r"[0-9a-f]{64}")
"""A patient's name in the ledger: the keyed hash of the pseudonym."""


def check_order(book: Book) -> None:
    """Check what no hash shows: that settlements and refunds follow their reservations, and nobody who withdrew."""
    reserved: dict[Release, Content] = {}
    withdrawn: set[str] = set()
    for number, row in enumerate(book.rows, start=1):
        if row.kind == "withdraw":
            withdrawn.update(book.keys_of(row.cohort))
        elif row.kind == "reserve":
            reserved[row.release] = row
            if withdrawn and not withdrawn.isdisjoint(book.keys_of(row.cohort)):
                raise TrustError(f"the privacy ledger cannot be trusted: entry {number} holds a withdrawn patient")
        else:
            begun = reserved.pop(row.release, None)
            if begun is None or row != begun.followed_by(row.kind, row.time):
                raise TrustError(f"the privacy ledger cannot be trusted: entry {number} follows no reservation")
        if row.event is not None:
            event_from_json(row.event)


def check_arguments(
    study: str, round_number: int, repeat: int, patients: tuple[str, ...], per_study: float, total: float, delta: float
) -> None:
    """Refuse a reservation that names no study, no cohort or impossible caps (`ValueError`: a fault of the caller)."""
    if not study or round_number < 1 or repeat < 0:
        raise ValueError("a reservation names a study, a round from 1 on and a repetition from 0 on")
    _check_cohort(patients)
    if not (per_study > 0 and total > 0 and 0 < delta < 1):
        raise ValueError("caps must be positive and delta between 0 and 1")


@lru_cache(maxsize=16)  # the gate asks again and again with the same cohort
def set_of(patients: tuple[str, ...]) -> frozenset[str]:
    """Return a cohort as a set; the same tuple gives the same set without another pass."""
    return frozenset(patients)


@lru_cache(maxsize=16)  # idem
def _check_cohort(patients: tuple[str, ...]) -> None:
    if not patients or len(set(patients)) != len(patients):
        raise ValueError("a cohort has at least one patient and none twice")
    if not all(KEY.fullmatch(patient) for patient in patients):
        raise ValueError("patients are named by keys of 64 hexadecimal digits, never by their labels")

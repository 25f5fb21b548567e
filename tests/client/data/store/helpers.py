"""What tests of the store share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import PreparedData, digest_of, pseudonym

KEY = b"k" * 32
DAY = 86_400.0
Registered = Callable[..., DataSet]
OwnCopy = Callable[[str], Path]


def digests(prepared: PreparedData) -> dict[str, str]:
    """Return what each patient was prepared to."""
    return {patient.key: digest_of(patient) for patient in prepared.patients}


def entries(cache: Path, label: str) -> list[Path]:
    """Return the entries of one patient."""
    return sorted(cache.glob(f"*/{pseudonym(label, KEY)}/*"))

"""What patients have spent: events collected per patient, composed once for all with equal events."""

from __future__ import annotations

from collections.abc import Mapping

from dura_client.ledger_schema import Snapshot
from dura_common.privacy import epsilon_of, event_from_json

Spending = Mapping[str, tuple[str, ...]]
"""Patient to the events (JSON, sorted) that he or she paid for."""


def collect(snapshot: Snapshot, study: str | None, *, without: str | None = None) -> Spending:
    """Collect events per patient: of one study or all, leaving one out if told."""
    spending: dict[str, list[str]] = {}
    for row in snapshot.rows:
        counts = row.kind == "reserve" and study in {None, row.study} and row.study != without
        if counts and row.event is not None:
            for patient in snapshot.cohorts[row.cohort]:
                spending.setdefault(patient, []).append(row.event)
    return {patient: tuple(sorted(events)) for patient, events in spending.items()}


def add(spending: Spending, charge: Spending) -> Spending:
    """Return the spending of the charged patients after the charge; others are not affected by it."""
    return {patient: tuple(sorted((*spending.get(patient, ()), *events))) for patient, events in charge.items()}


def most(spending: Spending, delta: float) -> float:
    """Return epsilon of the patient who spent most; 0 if nobody spent."""
    groups = {events for events in spending.values() if events}
    return max((epsilon_of([event_from_json(text) for text in group], delta) for group in groups), default=0.0)


def fits(spending: Spending, cap: float, delta: float) -> bool:
    """Return whether every patient stays at or under the cap."""
    # Written so that an epsilon that is not a number fits nothing.
    return most(spending, delta) <= cap

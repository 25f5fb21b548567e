"""Policies that tests vary, and the approval of a study under them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from dura_client.review.approval import approve_reviewed
from dura_client.review.review import review
from dura_client.site.home import SiteHome
from dura_client.studies.approvals import find_offer
from dura_common.policy import Policy
from dura_common.study.approval import Approval

RULES: dict[str, Any] = {
    "epsilon_per_study": 8.0,
    "epsilon_total": 10.0,
    "delta": 1e-3,
    "minimum_patients": 10,
    "minimum_sites": 3,
    "public_data_without_noise": False,
}
"""The rules that every policy must state."""
STRICT = Policy(**{**RULES, "epsilon_per_study": 1.0, "epsilon_total": 1.0, "delta": 1e-4, "minimum_sites": 2})
"""What a hospital without recordings has, so that it can start."""


def policy(**changes: Any) -> Policy:
    """Return a policy of :data:`RULES` with changes."""
    return Policy(**{**RULES, **changes})


def approve_study(home: SiteHome, reference: str, dataset: str, now: datetime) -> Approval:
    """Review a study and approve what was reviewed, as `dura site approve` does.

    Raises:
        DuraError: as for :func:`approve_reviewed`, or the recordings cannot be prepared.
    """
    offer = find_offer(home, reference, now)
    return approve_reviewed(home, offer, dataset, review(home, offer, dataset), now)

"""The approval of a study: the cohort is fixed, the study's cost is set aside, and only then the approval is signed.

After a crash in between, the cost is set aside without an approval. Approving the study again replaces it.
"""

from __future__ import annotations

from datetime import datetime

from dura_client.ledger.ledger import Caps
from dura_client.ledger.place import site_ledger
from dura_client.patients.cohort import identity_for
from dura_client.patients.frozen import freeze, keep
from dura_client.review.review import Review
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_client.studies.approvals import OfferedStudy, approve, decline
from dura_common.errors import PolicyError, StateError
from dura_common.privacy.blocks import blocks_of
from dura_common.runtime.bell import SOON, ring
from dura_common.study.approval import Approval


def approve_reviewed(home: SiteHome, offer: OfferedStudy, dataset: str, result: Review, now: datetime) -> Approval:
    """Fix the reviewed cohort, set the study's cost aside for it, and sign; the node then prepares for the study.

    Raises:
        PolicyError: a rule does not hold.
        StateError: the study has already begun here.
        BudgetError: a patient no longer has enough budget.
        NotAuthentic: the offer is not authentic.
    """
    failed = [finding.sentence for finding in result.findings if not finding.passed]
    if failed or result.cohort is None:
        raise PolicyError(
            f"the policy forbids this study: {'; '.join(failed)}",
            hint="Decline the study with `dura site decline`, or first change the policy in writing.",
        )
    ledger = site_ledger(home)
    before = ledger.allocation(offer.digest)
    if before is not None and before.begun:
        raise StateError(
            "this study has already begun here: its patients are fixed and its cost is set aside",
            hint="It cannot be approved again; `dura site decline` ends it.",
        )
    cohort = result.cohort
    digest = keep(home, freeze(offer.digest, dataset, cohort))
    ledger.allocate(
        study=offer.digest,
        blocks=blocks_of(offer.study),
        cohorts={"train": cohort.training_keys, "evaluate": cohort.held_out_keys},
        manifest=digest,
        caps=Caps.of(load_policy(home)),
        expires=offer.study.expires,
        identity=identity_for(home, offer.study),
    )
    try:
        approval = approve(home, offer.digest, dataset, now, cohort=digest)
    except BaseException:  # an interruption too: nothing stays set aside for a yes that was not given
        ledger.close(offer.digest)
        raise
    ring(home.bell, SOON)
    return approval


def decline_study(home: SiteHome, digest: str) -> None:
    """Decline a study by its full digest. Parts of its budget in which nothing began are returned.

    Raises:
        NotApproved: the study was never offered.
    """
    decline(home, digest)
    site_ledger(home).close(digest)

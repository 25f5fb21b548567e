"""A site's yes and what it takes: the cohort is frozen, the study's cost set aside, and only then the yes is signed.

A crash on the way leaves a cost that is set aside for nothing; approving again replaces it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from dura_client.ledger.ledger import Caps
from dura_client.ledger.place import site_ledger
from dura_client.patients.cohort import identity_for
from dura_client.patients.frozen import freeze, keep
from dura_client.review.review import Review, review
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_client.studies.approvals import OfferedStudy, approve, decline, find_offer
from dura_common.errors import PolicyError, StateError
from dura_common.privacy.blocks import blocks_of
from dura_common.study.approval import Approval


def approve_study(
    home: SiteHome, reference: str, dataset: str, now: datetime, *, progress: Callable[[int, int], None] | None = None
) -> Approval:
    """Review a study and approve it if every rule holds.

    Raises:
        PolicyError: a rule does not hold.
        DuraError: as for :func:`approve_reviewed`, and the recordings cannot be prepared.
    """
    offer = find_offer(home, reference, now)
    result = review(home, offer, dataset, progress=progress)
    return approve_reviewed(home, offer, dataset, result, now)


def approve_reviewed(home: SiteHome, offer: OfferedStudy, dataset: str, result: Review, now: datetime) -> Approval:
    """Freeze the reviewed cohort, set the study's cost aside for it, and sign.

    Raises:
        PolicyError: a rule does not hold.
        StateError: the study has begun here already.
        BudgetError: a patient has no room any more.
        NotAuthentic: the offer does not verify.
    """
    failed = [finding.sentence for finding in result.findings if not finding.passed]
    if failed or result.cohort is None:
        raise PolicyError(
            f"the policy forbids this study: {'; '.join(failed)}",
            hint="Say no with `dura site decline`, or change the policy first, in writing, if you mean it.",
        )
    ledger = site_ledger(home)
    before = ledger.allocation(offer.digest)
    if before is not None and before.begun:
        raise StateError(
            "this study has begun here: its cohort is frozen and its cost set aside",
            hint="There is nothing to approve again; `dura site decline` ends it.",
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
        return approve(home, offer.digest, dataset, now, cohort=digest)
    except BaseException:
        ledger.close(offer.digest)
        raise


def decline_study(home: SiteHome, digest: str) -> None:
    """Say no to a study by its full digest; what was set aside for it and never begun comes back.

    Raises:
        NotApproved: it was never offered.
    """
    decline(home, digest)
    site_ledger(home).close(digest)

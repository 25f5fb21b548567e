"""A patient withdraws: out of every later draw and evaluation, and an honest answer about what came before.

The withdrawal is a row of the ledger, chained like every other: it cannot be undone unnoticed, is as durable as the
spending, and holds for every data set, since patients are known by the keyed hash of their label. The declared number
of patients stays public and the same: nobody outside learns that somebody left.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

from dura_client.data.eeg.bids import find_recordings
from dura_client.data.prepare import pseudonym
from dura_client.data.registry import load_dataset
from dura_client.ledger.answers import PatientInStudy
from dura_client.ledger.place import site_ledger
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import load_policy
from dura_client.studies.offers import name_of
from dura_common.errors import InputError

log = logging.getLogger(__name__)

LABEL = "sub-"


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What a withdrawal did, and what it could not do."""

    new: bool
    """Whether the patient had not withdrawn before."""
    studies: tuple[tuple[PatientInStudy, str | None], ...]
    """Studies that the patient was part of, with their names where the offer is still here."""
    spent: float | None
    """Epsilon of the patient over all studies; None if that has no delta to be computed at."""
    delta: float | None

    @property
    def lasting(self) -> tuple[str, ...]:
        """What cannot be undone, in sentences."""
        if not self.studies:
            return ("nothing left this hospital: the patient was part of no study",)
        models = sum(item.released is not None for item, _ in self.studies)
        bound = "" if not self.spent else f" (at most epsilon {self.spent:.3g} at delta {self.delta:g} of it shows)"
        return (
            f"trained models that this patient's contribution went into, and stays in: {models}{bound}",
            "what was released of these rounds and evaluations is known to all sites of the studies",
            "the patient's budget stays spent, so that nothing can be spent twice",
            "the recordings stay where the hospital keeps them; dura's prepared copies are deleted",
        )


def withdraw(home: SiteHome, patient: str, dataset: str) -> Withdrawal:
    """Record that a patient takes part in nothing any more; once or several times, the result is the same.

    Works beside a running node, which leaves the patient out from its next request on.

    Args:
        home: the site's folder.
        patient: label of the patient in the data set, with or without ``sub-``.
        dataset: name of a registered data set that holds, or held, the patient.

    Raises:
        InputError: the data set is not registered, or neither it nor the ledger knows the patient.
        TrustError: the ledger was tampered with.
        HostError: the withdrawal could not be written.
    """
    registered = load_dataset(home, dataset)  # 1  whom it is about
    label = patient.removeprefix(LABEL)
    key = pseudonym(label, SiteKeys(home).pseudonym_key())
    ledger = site_ledger(home)
    if not ledger.knows(key) and label not in {item.subject for item in find_recordings(registered)}:
        raise InputError(
            f"neither the data set {dataset} nor the ledger knows this patient; nothing was changed",
            hint=f"Give the label as in the folder, for example {LABEL}01. Case matters.",
        )
    new = ledger.withdraw(key)  # 2  durable from here on
    for prepared in home.cache.glob(f"*/{key}"):  # 3  prepared copies; the hospital's own recordings are not dura's
        shutil.rmtree(prepared, ignore_errors=True)
    log.info("a patient has withdrawn" if new else "a patient withdrew again")
    delta = load_policy(home).delta if home.policy.exists() else ledger.last_delta()  # 4  the answer
    history = () if delta is None else ledger.history(key, delta)
    return Withdrawal(
        new=new,
        studies=tuple((item, name_of(home, item.study)) for item in history),
        spent=None if delta is None else ledger.spent_by(key, delta),
        delta=delta,
    )

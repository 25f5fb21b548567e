"""A withdrawal ends a patient's part in every later draw and evaluation, and says honestly what cannot be undone.

The withdrawal is a row of the ledger, chained like every other row. It cannot be undone unnoticed, and it is as durable
as the spending. It holds for every data set, because the keyed hash of the label identifies the patient. The declared,
public number of patients stays the same, so nobody outside learns of a withdrawal.
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass

from dura_client.data.prepare import pseudonym
from dura_client.data.registry import load_dataset
from dura_client.data.sources.subjects import subjects_of
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
    """The effects of a withdrawal, and what it could not undo."""

    new: bool
    """Whether the patient had not withdrawn before."""
    studies: tuple[tuple[PatientInStudy, str | None], ...]
    """Studies that the patient was part of, with their names if the offer is still stored."""
    spent: float | None
    """Epsilon of the patient over all studies; None if there is no delta for computing it."""
    delta: float | None

    @property
    def lasting(self) -> tuple[str, ...]:
        """What cannot be undone, in sentences."""
        if not self.studies:
            return ("nothing left this hospital: the patient was part of no study",)
        models = sum(item.released is not None for item, _ in self.studies)
        bound = "" if not self.spent else f" (at most epsilon {self.spent:.3g} at delta {self.delta:g} of it shows)"
        return (
            f"trained models contain this patient's contribution permanently: {models}{bound}",
            "all sites of the studies know the releases of these rounds and evaluations",
            "the patient's budget stays spent, so nothing can be spent twice",
            "the recordings stay in the hospital's folder; dura's prepared copies are deleted",
        )


def withdraw(home: SiteHome, patient: str, dataset: str) -> Withdrawal:
    """Record a withdrawal. Recording it several times has the same result.

    This works while a node is running. The patient counts as zero from the next draw.

    Args:
        home: the site's folder.
        patient: label of the patient in the data set, with or without ``sub-``.
        dataset: name of a registered data set that holds, or held, the patient.

    Raises:
        InputError: the data set is not registered, or neither it nor the ledger knows the patient.
        TrustError: the ledger was tampered with.
        HostError: the withdrawal could not be written.
    """
    registered = load_dataset(home, dataset)  # 1  find the patient
    label = patient.removeprefix(LABEL)
    key = pseudonym(label, SiteKeys(home).pseudonym_key())
    ledger = site_ledger(home)
    if not ledger.knows(key) and label not in subjects_of(registered):
        raise InputError(
            f"neither the data set {dataset} nor the ledger knows this patient; nothing was changed",
            hint=f"Give the label as in the folder, for example {LABEL}01. Case matters.",
        )
    new = ledger.withdraw(key)  # 2  from here on, the withdrawal is durable
    for prepared in home.cache.glob(
        f"*/{key}"
    ):  # 3  delete prepared copies; dura does not touch the hospital's own recordings
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

"""What a privacy officer sees before saying yes: every rule with pass or fail, the cost, and what would leave."""

from __future__ import annotations

from dataclasses import dataclass

from dura_client.consortium.membership import Membership
from dura_client.ledger.place import site_ledger
from dura_client.patients.cohort import Cohort
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_client.studies.approvals import OfferedStudy
from dura_common.consortium.roster import Roster
from dura_common.errors import InputError
from dura_common.outputs.duplicates import length_in
from dura_common.policy import Finding, judge, judge_members
from dura_common.privacy import Gaussian, SampledGaussian
from dura_common.privacy.plan import PrivacyPlan, plan_of
from dura_common.study import PatientNoise, SharedNoise, Study


@dataclass(frozen=True, slots=True)
class ShownMember:
    """A member of the study as the officer sees it."""

    name: str
    fingerprint: str
    since: str
    """Day of the first roster with these keys."""
    confirmed: str | None
    """Who has compared the fingerprint here, and when."""


@dataclass(frozen=True, slots=True)
class Review:
    """The site's view of one study."""

    findings: tuple[Finding, ...]
    leaves: tuple[str, ...]
    """What would leave the site, in sentences."""
    cost: float | None
    """Epsilon of the study for the patient who pays most; None without noise."""
    cost_if_broken: float | None
    """The same against a coordinator who broke the aggregation; equal to ``cost`` with local noise."""
    spent: float
    """Epsilon that the patient who spent most has spent so far, at the policy's delta."""
    members: tuple[ShownMember, ...]
    """The study's sites, this one among them."""
    researcher: ShownMember
    """Who signed the study."""

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(finding.passed for finding in self.findings)


def review(home: SiteHome, offer: OfferedStudy, cohort: Cohort) -> Review:
    """Judge a study against policy, members, data and ledger.

    Raises:
        PolicyError: the site has no policy.
    """
    study, digest, here = offer.study, offer.digest, offer.here
    name = here.card.name
    policy = load_policy(home)
    plan = plan_of(study)
    ledger = site_ledger(home)
    findings = list(
        judge(policy, study, site=name, public_data=cohort.public, epsilon_if_broken=plan.epsilon_if_broken)
    )
    confirmed = here.people.confirmed_names(offer.roster)
    findings.append(judge_members(policy, study, site=name, confirmed=confirmed))
    patients = len(cohort.training_keys) + (len(cohort.held_out_keys) if study.evaluation.split == "patients" else 0)
    findings.append(
        Finding(
            "patients-here",
            patients >= study.data.minimum_patients,
            f"this data set has {patients} patients; the study demands {study.data.minimum_patients}",
        )
    )
    private = isinstance(study.privacy, PatientNoise)
    findings.append(
        Finding(
            "one-patient-each",
            not (private and cohort.shared_recordings),
            f"recordings under more than one patient here: {cohort.shared_recordings}; "
            f"{'there must be none' if private else 'allowed without noise'} (`dura site data check` names them)",
        )
    )
    if private:
        left = ledger.fits(
            study=digest,
            charges=_charges(plan, cohort),
            epsilon_total=policy.epsilon_total,
            delta=policy.delta,
        )
        findings.append(
            Finding(
                "epsilon-total",
                left,
                f"all studies together stay below epsilon {policy.epsilon_total:g} for every patient",
            )
        )
    return Review(
        findings=tuple(findings),
        leaves=_leaves(study),
        cost=plan.epsilon if private else None,
        cost_if_broken=plan.epsilon_if_broken if private else None,
        spent=ledger.spent(policy.delta),
        members=tuple(_member(here, offer.roster, one) for one in sorted(study.sites)),
        researcher=_member(here, offer.roster, offer.researcher.name),
    )


def _member(here: Membership, roster: Roster, name: str) -> ShownMember:
    member = roster.member(name)
    if member is None:
        raise InputError(f"the roster does not list {name}")
    said = here.people.confirmation(member)
    return ShownMember(
        name=name,
        fingerprint=member.fingerprint(),
        since=member.since.date().isoformat(),
        confirmed=None if said is None else f"{said.by}, {said.when:%Y-%m-%d}",
    )


def _charges(
    plan: PrivacyPlan, cohort: Cohort
) -> list[tuple[tuple[str, ...], list[SampledGaussian | Gaussian | None]]]:
    return [
        (cohort.training_keys, [plan.training_event]),
        (cohort.held_out_keys, list(plan.evaluation_events.values())),
    ]


_OUTPUTS = {
    "confusion": "a confusion matrix over held-out patients",
    "auc": "a histogram of scores over held-out patients and classes",
}


_TABLE = (
    "after the last round a table of hashes of all recordings, training and held-out, WITHOUT NOISE: whoever sees the "
    "sum and has a recording can tell whether any site holds it"
)


def _leaves(study: Study) -> tuple[str, ...]:
    rounds = study.training.rounds
    evaluations = len(study.evaluation.rounds(rounds))
    how, times, what = "WITHOUT NOISE", rounds, "the model's parameters after training here"
    if isinstance(study.privacy, SharedNoise):
        how, times, what = "masked, with a share of the noise", study.training.steps, "a sum of patients' gradients"
    elif isinstance(study.privacy, PatientNoise):
        how = "with noise of its own"
    return (
        f"{times} times {what}, {how}",
        f"{evaluations} times two sums over held-out patients (correct answers, patients), {how}",
        *(f"after the last round {_OUTPUTS[name]}, {how}" for name in study.evaluation.outputs if name in _OUTPUTS),
        *([_TABLE] if length_in(study, rounds) else []),
        "nothing else: no recording, no count, no loss, no error text",
    )

"""The review for the privacy officer before a decision: each rule with pass or fail, the cost, and the releases.

The study is first judged by the policy. Recordings are prepared only if the policy allows the study. Then everything
that depends on the data is decided here, in front of a person: patients who are left out, copies, changed labels. After
the approval, no decision depends on the data any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dura_client.consortium.membership import Membership
from dura_client.data.privacy_class import refuse_unpaid
from dura_client.data.registry import load_dataset
from dura_client.ledger.ledger import Caps, Ledger
from dura_client.ledger.place import site_ledger
from dura_client.patients.cohort import MINIMUM_PER_SIDE, Cohort, identity_for, load_cohort
from dura_client.patients.frozen import seen_under_other_keys
from dura_client.site.home import SiteHome
from dura_client.site.policy import load_policy
from dura_client.studies.approvals import OfferedStudy
from dura_common.consortium.roster import Roster
from dura_common.errors import InputError
from dura_common.outputs.duplicates import length_in
from dura_common.policy import Finding, Policy, judge, judge_members
from dura_common.privacy.accounting import epsilon_of
from dura_common.privacy.blocks import blocks_of
from dura_common.privacy.plan import plan_of
from dura_common.privacy.risk import Risk, risk_of_study
from dura_common.study import PatientNoise, SharedNoise, Study


@dataclass(frozen=True, slots=True)
class ShownMember:
    """The officer's view of a member of the study."""

    name: str
    fingerprint: str
    since: str
    """Day of the first roster with these keys."""
    confirmed: str | None
    """The person who compared the fingerprint here, and the date."""


@dataclass(frozen=True, slots=True)
class Review:
    """The site's view of one study."""

    findings: tuple[Finding, ...]
    leaves: tuple[str, ...]
    """The releases of the site, in sentences."""
    cost: float | None
    """The largest epsilon of the study for any patient; None without noise."""
    cost_if_broken: float | None
    """The same epsilon against a coordinator who broke the aggregation; equal to ``cost`` with local noise."""
    risk: Risk | None
    """The risk of an attack on one patient, against everybody outside; None without noise."""
    risk_if_broken: Risk | None
    """The risk of an attack by a coordinator who broke the aggregation."""
    spent: float
    """The largest epsilon that all studies together have cost any patient so far, at the policy's delta."""
    left_out: Mapping[str, frozenset[str]]
    """The reasons why patients would be left out, with the keys of these patients."""
    cohort: Cohort | None
    """The patients who would take part; None if the policy forbids the study and nothing was prepared."""
    members: tuple[ShownMember, ...]
    """The study's sites, including this one."""
    researcher: ShownMember
    """The researcher who signed the study."""

    @property
    def passed(self) -> bool:
        """Whether every rule holds."""
        return all(finding.passed for finding in self.findings)


def review(
    home: SiteHome, offer: OfferedStudy, dataset: str, *, progress: Callable[[int, int], None] | None = None
) -> Review:
    """Judge a study by the policy and its members and, if these allow it, by the data and the ledger.

    Raises:
        PolicyError: the site has no policy, or a preparation step does not declare what it depends on.
        InputError: the data set is unknown, or does not fulfil the contract.
        TrustError: the ledger or a frozen cohort cannot be trusted.
    """
    study, digest, here = offer.study, offer.digest, offer.here
    name = here.card.name
    policy, plan, ledger = load_policy(home), plan_of(study), site_ledger(home)
    ledger.end_expired()
    findings = list(
        judge(
            policy,
            study,
            site=name,
            public_data=load_dataset(home, dataset).public,
            epsilon_if_broken=plan.epsilon_if_broken,
        )
    )
    confirmed = here.people.confirmed_names(offer.roster)
    findings.append(judge_members(policy, study, site=name, confirmed=confirmed))
    private = isinstance(study.privacy, PatientNoise)
    if private:
        findings.append(_inside(policy, study))
    cohort: Cohort | None = None
    left_out: dict[str, frozenset[str]] = {}
    if all(finding.passed for finding in findings):
        whole = load_cohort(home, study, dataset, progress=progress)
        refuse_unpaid(whole.steps)
        cohort, left_out = _with_room(policy, ledger, digest, study, whole)
        findings += _of_data(home, study, ledger, whole, cohort)
    return Review(
        findings=tuple(findings),
        leaves=_leaves(study),
        cost=plan.epsilon if private else None,
        cost_if_broken=plan.epsilon_if_broken if private else None,
        risk=risk_of_study(study) if private else None,
        risk_if_broken=risk_of_study(study, broken=True) if private else None,
        spent=ledger.spent(policy.delta),
        left_out=left_out,
        cohort=cohort,
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


def _inside(policy: Policy, study: Study) -> Finding:
    """Compose all draws of the study, including spare draws, at its own delta and at the policy's delta."""
    privacy = study.privacy
    blocks = blocks_of(study)
    fits, costs = True, []
    for purpose, declared in (
        ("train", getattr(privacy, "epsilon", 0.0)),
        ("evaluate", study.evaluation.epsilon or 0.0),
    ):
        events = [block.event for block in blocks if block.purpose == purpose and block.event is not None]
        own, at_policy = epsilon_of(events, getattr(privacy, "delta", policy.delta)), epsilon_of(events, policy.delta)
        fits = fits and own <= declared and at_policy <= policy.epsilon_per_study
        costs.append(own)
    return Finding(
        "epsilon-declared",
        fits,
        f"all draws and spare draws together cost what the study declares: epsilon {costs[0]:.3g} for patients who "
        f"train, {costs[1]:.3g} for patients who are held out, at the study's delta and at the policy's",
    )


def _with_room(
    policy: Policy, ledger: Ledger, digest: str, study: Study, cohort: Cohort
) -> tuple[Cohort, dict[str, frozenset[str]]]:
    """Leave out patients without enough budget for the study in addition to all others."""
    blocks, full = blocks_of(study), set[str]()
    for purpose, keys in (("train", cohort.training_keys), ("evaluate", cohort.held_out_keys)):
        mine = [block for block in blocks if block.purpose == purpose]
        fits = ledger.room(keys, mine, Caps.of(policy), study=digest)
        full |= {key for key, fine in zip(keys, fits, strict=True) if not fine}
    left_out = {
        "no budget is left for this study": frozenset(full),
        "held out in other studies only": cohort.neither,
        **cohort.prepared.left_out,
    }
    return cohort.without(frozenset(full)), {why: keys for why, keys in left_out.items() if keys}


def _of_data(home: SiteHome, study: Study, ledger: Ledger, whole: Cohort, cohort: Cohort) -> list[Finding]:
    patients = len({*cohort.training_keys, *cohort.held_out_keys})
    sides = min(len(cohort.training_keys), len(cohort.held_out_keys))
    private = isinstance(study.privacy, PatientNoise)
    moved = seen_under_other_keys(home, ledger, whole, private=private)
    size = identity_for(home, study).held_out
    findings = [
        Finding(
            "patients-here",
            patients >= study.data.minimum_patients and sides >= MINIMUM_PER_SIDE,
            f"{patients} patients would take part; the study demands {study.data.minimum_patients}, and "
            f"{MINIMUM_PER_SIDE} on each side",
        ),
        Finding(
            "one-patient-each",
            not (private and cohort.shared_recordings),
            f"recordings under more than one patient here: {cohort.shared_recordings}; "
            f"{'there must be none' if private else 'allowed without noise'} (`dura site data check` names them)",
        ),
        Finding(
            "same-labels",
            not moved,
            f"patients whose recordings were in a study, or withdrawn, under another label: {len(moved)}; there must "
            "be none, since a new label would forget what was spent",
        ),
    ]
    if study.evaluation.split == "patients":
        findings.append(
            Finding(
                "held-out-side",
                study.evaluation.held_out <= size,
                f"the held-out side of this site has {size:g} of its patients, fixed by its first study; this one "
                f"holds out {study.evaluation.held_out:g}",
            )
        )
    return findings


_OUTPUTS = {
    "confusion": "a confusion matrix over held-out patients",
    "auc": "a histogram of scores over held-out patients and classes",
    "fit": "three sums over held-out patients: squared errors, values, squared values",
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

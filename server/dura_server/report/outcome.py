"""Makes the result of a finished study: released figures, declared cost, and extra figures of a simulation."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from dura_common import __version__
from dura_common.consortium.envelope import digest, payload_of
from dura_common.errors import StateError
from dura_common.privacy.plan import plan_of
from dura_common.runtime.files import read_limited
from dura_common.study import PatientNoise, SharedNoise, Study, explain_validation
from dura_common.study.warnings import warnings_of
from dura_server.report.result import Point, SimulationOnly, SiteResult, StudyResult
from dura_server.studies.store import StoredStudy


class _ExtraSite(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    site: str
    epsilon: float | None
    accuracy_alone: float | None


class _ExtraAccuracy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    federated: float
    pooled: float


class Extra(BaseModel):
    """The file that `dura demo` writes next to its report."""

    model_config = ConfigDict(frozen=True, extra="ignore")
    sites: tuple[_ExtraSite, ...]
    accuracy: _ExtraAccuracy
    seconds: dict[str, float]


def read_extra(path: Path) -> Extra:
    """Read a simulation's extra figures.

    Raises:
        InputError: the file is not such a file.
    """
    try:
        return Extra.model_validate_json(read_limited(path, what="the simulation's figures"))
    except ValidationError as error:
        raise explain_validation(error, what="the simulation's figures") from error


def result_of(stored: StoredStudy, extra: Extra | None) -> StudyResult:
    """Return the result of a finished study.

    Raises:
        StateError: the study has not finished.
    """
    state, study = stored.read_state(), stored.study
    if state.phase != "finished":
        raise StateError(f"the study has not finished; it is {state.phase}", hint="`dura study run` runs it.")
    plan = plan_of(study)
    private = isinstance(study.privacy, PatientNoise)
    planned = max(plan.training_epsilon, plan.evaluation_epsilon) if private else None
    known = {item.site: item for item in extra.sites} if extra else {}
    sites = tuple(
        SiteResult(
            site=name,
            declared_patients=patients,
            epsilon=known[name].epsilon if name in known else planned,
            accuracy_alone=known[name].accuracy_alone if name in known else None,
        )
        for name, patients in study.sites.items()
    )
    warnings = warnings_of(study)
    if extra is not None:
        warnings += ("simulated recordings: figures marked as simulation-only exist in no real study",)
    return StudyResult(
        name=study.name,
        question=study.question,
        digest=stored.digest,
        roster=digest(payload_of(stored.roster_envelope)),
        created=datetime.now(UTC),
        dura_version=__version__,
        noise=study.privacy.noise,
        epsilon=planned,
        epsilon_if_broken=plan.epsilon_if_broken if private else None,
        sums=_sums_of(study, state.redraws),
        delta=study.privacy.delta if isinstance(study.privacy, PatientNoise) else None,
        rounds=state.rounds,
        parameters=int(stored.read_model().size),
        chance=1 / len(study.data.classes) if study.data.classes else None,
        classes=study.data.classes,
        bounds=study.data.bounds,
        warnings=warnings,
        sites=sites,
        curve=tuple(Point(**point.model_dump()) for point in state.curve),
        duplicates=state.duplicates,
        simulation=(
            SimulationOnly(
                federated=extra.accuracy.federated, pooled=extra.accuracy.pooled, seconds=dict(extra.seconds)
            )
            if extra
            else None
        ),
    )


def _sums_of(study: Study, redraws: int) -> str:
    """Say which kind of sum carried the vectors, what the sum reveals, and how often a sum was lost."""
    lost = (
        "No draw was repeated."
        if not redraws
        else f"After losses, a site repeated up to {redraws} draws. Each repeated draw was new and was paid for."
    )
    return f"{_kind_of(study)} {lost}"


def _kind_of(study: Study) -> str:
    if not isinstance(study.privacy, SharedNoise):
        return (
            "Each round was one secure sum of sites' weighted changes of the model (a round sum): the coordinator saw "
            "their total and which sites were in it."
        )
    kind = {
        "step": "step sums, all or nothing: the coordinator saw the total over all sites of a step",
        "round": "round sums: the coordinator saw the total of a step and which sites were in it",
    }[study.aggregation.sums]
    return f"Each optimiser step was one secure sum of the sites' vectors ({kind}), and every site made the same step."

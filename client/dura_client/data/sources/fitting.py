"""Whether a data set is what a study asks for: of its source, and of its task."""

from __future__ import annotations

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import WHOLE, Finding, found
from dura_common.errors import InputError
from dura_common.study import DataContract


def require_fitting(dataset: DataSet, contract: DataContract) -> None:
    """Refuse a data set that was registered for something else than the study asks for.

    Raises:
        InputError: its source or its task is another one.
    """
    task = getattr(contract, "task", None)
    options = f"--source {contract.source}" + (f" --task {task}" if task else "")
    hint = f"Register the data that the study means: `dura site data add NAME {dataset.root} {options}`."
    if dataset.source != contract.source:
        raise InputError(
            f"the data set {dataset.name} was registered as {dataset.source}, the study asks for {contract.source}",
            hint=hint,
        )
    if dataset.task != task:
        raise InputError(
            f"the data set {dataset.name} was registered for the task {dataset.task!r}, the study asks for {task!r}",
            hint=hint,
        )


def other_task(dataset: DataSet, contract: DataContract) -> list[Finding]:
    """Say whether the data set was registered for something else than the study asks for."""
    try:
        require_fitting(dataset, contract)
    except InputError as error:
        return [found("TASK-OTHER", WHOLE, error.message, remedy=error.hint or "")]
    return []

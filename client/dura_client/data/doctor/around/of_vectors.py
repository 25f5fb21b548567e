"""What is wrong with a data set whose examples are vectors, beyond what each example says itself."""

from __future__ import annotations

from pathlib import Path

from dura_client.data.dataset import DataSet
from dura_client.data.doctor.around.features import feature_findings
from dura_client.data.doctor.around.people import people_findings
from dura_client.data.doctor.around.series import series_findings
from dura_client.data.findings.finding import Finding
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.sources.fitting import other_task
from dura_common.study import ConnectomeContract, DataContract, TableContract


def vector_findings(dataset: DataSet, contract: DataContract | None) -> list[Finding]:
    """Return findings about the tables of a data set and, with a study that fits, about what it takes from there."""
    folder = BidsFolder(Path(dataset.root), dataset.task or "")
    findings = list(people_findings(folder, recorded=False, tables=dataset.tables))
    if contract is None or other_task(dataset, contract):
        return findings
    if isinstance(contract, TableContract):
        findings += feature_findings(dataset, contract)
    elif isinstance(contract, ConnectomeContract):
        findings += series_findings(dataset, contract)
    return findings

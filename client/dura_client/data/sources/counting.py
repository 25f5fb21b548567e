"""What a data set of connectomes or of table rows holds, and what is wrong with it: by patient, for the site alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import WHOLE, Finding, counted, found, listed
from dura_client.data.findings.grade import Grade
from dura_client.data.sources.columns import read_tables
from dura_client.data.sources.fitting import other_task
from dura_client.data.sources.fmri.source import ConnectomeSource, VolumeReader
from dura_client.data.sources.leaving_out import WORDS
from dura_client.data.sources.vectors import vectors_of
from dura_common.errors import InputError
from dura_common.study import DataContract, SignalContract


@dataclass(frozen=True, slots=True)
class Counted:
    """Patients and examples of a data set; with a study, also how many of them it can use."""

    patients: int
    examples: int
    usable: int
    windows: dict[str, dict[str, int]]
    """Patient to class to number of examples."""
    findings: tuple[Finding, ...]


def count_vectors(dataset: DataSet, contract: DataContract | None) -> Counted:
    """Look at every example as a study would.

    Raises:
        InputError: a table that the registration names cannot be read.
    """
    if contract is None:
        return _volumes(dataset) if dataset.atlas is not None else _rows(dataset)
    findings = other_task(dataset, contract)
    if findings or isinstance(contract, SignalContract):
        return Counted(0, 0, 0, {}, tuple(findings))
    vectors, code = vectors_of(dataset, contract), "ANS-COL"
    try:
        answers = vectors.answers
        if isinstance(vectors, ConnectomeSource):
            code = "ROI-ATLAS"
            vectors.require_atlas()
        code = "ROI-NONE"
        subjects = vectors.subjects
    except InputError as error:
        return Counted(0, 0, 0, {}, (found(code, WHOLE, error.message, remedy=error.hint),))
    windows: dict[str, dict[str, int]] = {}
    examples = usable = 0
    asked: list[tuple[str, str | None]] = []
    for subject in subjects:
        classes: Counter[str] = Counter()
        for example in vectors.examples(subject):
            examples += 1
            asked.append((subject, example.session))
            answer = None if answers is None else answers.of(subject, example.session)
            if example.broken:
                causes = "; ".join(words for rule, words in WORDS.items() if rule in example.broken)
                findings.append(found("CUT-RULE", f"sub-{subject}", causes))
            elif answer is not None:
                usable += 1
                classes["value" if contract.target == "value" else contract.classes[int(answer)]] += 1
        windows[subject] = dict(classes)
    findings += vectors.findings
    if answers is not None:
        findings += [*answers.tables.findings, *answers.findings(asked)]
    findings += _sizes(contract, windows)
    return Counted(len(subjects), examples, usable, windows, tuple(findings))


def _rows(dataset: DataSet) -> Counted:
    """Count the rows of tables without a study."""
    tables = read_tables(dataset)
    people = {*tables.people, *tables.visits}
    rows = len(people) + sum(map(len, tables.visits.values()))
    return Counted(len(people), rows, rows, {}, tuple(tables.findings))


def _volumes(dataset: DataSet) -> Counted:
    """Look at volumes without a study: whether each can be read with the registered atlas."""
    reader, code = VolumeReader(dataset), "ROI-ATLAS"
    try:
        _ = reader.regions
        code = "ROI-NONE"
        patients, scans, readable, findings = reader.look()
    except InputError as error:
        return Counted(0, 0, 0, {}, (found(code, WHOLE, error.message, remedy=error.hint),))
    return Counted(len(patients), scans, readable, {}, (*read_tables(dataset).findings, *findings))


def _sizes(contract: DataContract, windows: dict[str, dict[str, int]]) -> list[Finding]:
    fewest = contract.leave_out.fewest_windows
    patients = sum(sum(classes.values()) >= fewest for classes in windows.values())
    findings = []
    if patients < contract.minimum_patients:
        cause = (
            f"{patients} patients have {counted(fewest, 'example')} or more, and the study demands "
            f"{contract.minimum_patients}"
        )
        remedy = "Add patients, or `dura site decline`."
        findings.append(found("SIZE-SMALL", WHOLE, cause, grade=Grade.STOPS, remedy=remedy))
    seen = {name for classes in windows.values() for name in classes}
    absent = [name for name in contract.classes if name not in seen]
    if absent:
        findings.append(
            found(
                "EV-MAP",
                WHOLE,
                f"no patient has the answer {listed(absent)}",
                remedy="Say what the codes in the column mean: `dura site data update NAME --label CODE=CLASS`.",
            )
        )
    return findings

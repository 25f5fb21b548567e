"""Where the volumes of a task lie in a data set, and which file of a scan is taken when there are several.

A scan lies as it was recorded (``sub-01/func/sub-01_task-rest_bold.nii.gz``) or below ``derivatives`` as pipelines
leave it (``space-SPACE_desc-preproc_bold``, ``desc-denoised_bold``). A data set uses one kind for everybody, since the
kind would otherwise be a mark of the patient: denoised ones if there are any, then preprocessed ones, then raw ones.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import WHOLE, Finding, counted, found, listed
from dura_client.data.recordings.folder import ASIDE, entities_of
from dura_client.data.sources.fmri.images import ENDINGS
from dura_client.data.sources.fmri.series import Series
from dura_common.errors import InputError

KINDS = ("denoised", "preproc", "")
"""What ``desc-`` says, best first; raw scans have none."""
VERSIONS = {"space", "res", "den", "desc", "echo", "part", "chunk"}
"""Entities by which files of one and the same scan differ."""


@dataclass(frozen=True, slots=True)
class Volumes:
    """The scans of a data set that are used, in the order of patients, and what is to be said of the others."""

    scans: tuple[Series, ...]
    findings: tuple[Finding, ...]


def find_volumes(dataset: DataSet) -> Volumes:
    """Return one file for each scan of the data set's task.

    Raises:
        InputError: there is none.
    """
    root = Path(dataset.root)
    files = [path for path in root.rglob("sub-*_bold.nii*") if path.name.endswith(ENDINGS)]
    files = [
        path
        for path in files
        if entities_of(path.name).get("task") == dataset.task and not _aside(path.relative_to(root))
    ]
    kinds = {entities_of(path.name).get("desc", "") for path in files}
    kind = next((name for name in KINDS if name in kinds), None)
    if kind is None:
        raise InputError(
            f"the data set {dataset.name} has no volumes of the task {dataset.task}",
            hint=f"Expected files such as sub-01/func/sub-01_task-{dataset.task}_bold.nii.gz below the folder, or "
            f"sub-01_task-{dataset.task}_space-SPACE_desc-preproc_bold.nii.gz below derivatives.",
        )
    findings = [] if kind == "denoised" else [_unadjusted(kind)]
    scans: dict[tuple[tuple[str, str], ...], list[Path]] = defaultdict(list)
    for path in sorted(files):
        scans[_scan(path)].append(path)
    chosen: list[Series] = []
    for paths in scans.values():
        fitting = [path for path in paths if entities_of(path.name).get("desc", "") == kind]
        one, finding = _one(root, fitting, paths, kind, _space(dataset))
        findings += [] if finding is None else [finding]
        if one is not None:
            parts = entities_of(one.name)
            chosen.append(Series(parts["sub"], parts.get("ses"), one))
    chosen.sort(key=lambda item: (item.subject, item.session or "", item.path.name))
    return Volumes(tuple(chosen), tuple(findings))


def _aside(below: Path) -> bool:
    """Tell whether a file lies in a folder that holds no data of the study: originals, code, what is hidden."""
    return below.parts[0] in ASIDE - {"derivatives"} or any(part.startswith(".") for part in below.parts)


def _scan(path: Path) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((key, value) for key, value in entities_of(path.name).items() if key not in VERSIONS))


def _space(dataset: DataSet) -> str | None:
    """Return in which space the name of the atlas's file says that it lies."""
    parts = entities_of(Path(dataset.atlas.file).name) if dataset.atlas is not None else {}
    return parts.get("space", parts.get("tpl"))


def _one(
    root: Path, fitting: list[Path], everything: list[Path], kind: str, space: str | None
) -> tuple[Path | None, Finding | None]:
    """Return the file of one scan, or why there is none."""
    if not fitting:
        what = f"desc-{kind}" if kind else "raw"
        return None, found("ROI-TWO", everything[0].relative_to(root), f"others have {what} volumes, and it has none")
    spaces = {path: entities_of(path.name).get("space") for path in fitting}
    named = [path for path in fitting if space is not None and spaces[path] == space]
    here = named or [path for path in fitting if space is None or spaces[path] is None]
    if not here:
        others = listed(sorted({name for name in spaces.values() if name is not None}))
        return None, found("ROI-SPACE", fitting[0].relative_to(root), f"it lies in {others}, and the atlas in {space}")
    if len(here) > 1:
        names = listed(sorted(_version(root, path) for path in here))
        return None, found("ROI-TWO", here[0].relative_to(root), f"{counted(len(here), 'file')} of one scan: {names}")
    return here[0], None


def _version(root: Path, path: Path) -> str:
    """Return by what a file differs from others of the same scan, without the patient: pipeline, parts of the name."""
    below = path.relative_to(root).parts
    pipeline = [below[1]] if below[0] == "derivatives" else []
    return " ".join(
        [*pipeline, *(f"{key}-{value}" for key, value in entities_of(path.name).items() if key in VERSIONS)]
    )


def _unadjusted(kind: str) -> Finding:
    what = "preprocessed" if kind else "raw"
    return found("ROI-CONF", WHOLE, f"the means of the regions are taken from {what} volumes as they are")

"""Connectomes of a data set, from series of regions or from volumes and an atlas: one for each scan."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dura_client.data.dataset import DataSet
from dura_client.data.findings.finding import Finding, found
from dura_client.data.recordings.folder import BidsFolder
from dura_client.data.recordings.source import Note, Unreadable
from dura_client.data.sources.answers import Answers, answers_for
from dura_client.data.sources.example import LABEL, Example
from dura_client.data.sources.fmri.atlas import Regions, load_atlas, require_fitting_atlas
from dura_client.data.sources.fmri.averaging import average
from dura_client.data.sources.fmri.connectomes import edges_of
from dura_client.data.sources.fmri.described import folder_above, time_findings
from dura_client.data.sources.fmri.series import Series, find_series, read_series
from dura_client.data.sources.fmri.volumes import Volumes, find_volumes
from dura_client.data.sources.leaving_out import Broken
from dura_client.data.store.digests import FileDigests
from dura_common.study import ConnectomeContract


@dataclass(frozen=True)
class ConnectomeSource:
    """Connectomes of a data set."""

    dataset: DataSet
    contract: ConnectomeContract
    findings: list[Finding] = field(default_factory=list)

    @cached_property
    def people(self) -> dict[str, list[Series]]:
        """Scans by patient, each patient's in order.

        Raises:
            InputError: there are none, or the registered atlas is not the study's.
        """
        if self.dataset.atlas is None:
            return find_series(self.dataset, self.contract)
        self.require_atlas()
        self.findings.extend(self._reader.volumes.findings)
        people: dict[str, list[Series]] = {}
        for item in self._reader.volumes.scans:
            people.setdefault(item.subject, []).append(item)
        return people

    @cached_property
    def answers(self) -> Answers | None:
        """What the tables answer."""
        return answers_for(self.dataset, self.contract)

    @property
    def subjects(self) -> list[str]:
        """Patients with series."""
        return sorted(self.people)

    def sessions(self, subject: str) -> list[str | None]:
        """Return the visit of each example of a patient."""
        return [item.session for item in self.people.get(subject, [])]

    def files(self, subject: str) -> list[Path]:
        """Return the files that hold a patient's scans, and the atlas."""
        own = [item.path for item in self.people.get(subject, [])]
        atlas = self.dataset.atlas
        return own if atlas is None else [*own, Path(self.dataset.root) / atlas.file]

    def content(self, subject: str, digests: FileDigests) -> list[object]:
        """Return what the vectors of a patient depend on, beside the contract and the answers."""
        atlas = self.dataset.atlas
        if atlas is not None:
            digests.watch(Path(self.dataset.root) / atlas.file)
        return [
            "" if atlas is None else atlas.digest,
            *((item.key, digests.of(item.path, item.key)) for item in self.people.get(subject, [])),
        ]

    def examples(self, subject: str) -> list[Example]:
        """Return one example for each scan of a patient."""
        return [self._example(item) for item in self.people.get(subject, [])]

    def require_atlas(self) -> None:
        """Refuse a registered atlas that was exchanged or is not the study's; series need none.

        Raises:
            InputError: it is.
        """
        if self.dataset.atlas is not None:
            require_fitting_atlas(self.dataset, self.contract, self._reader.regions)

    @cached_property
    def _reader(self) -> VolumeReader:
        return VolumeReader(self.dataset)

    def _example(self, item: Series) -> Example:
        place = _place(self.dataset, item)
        try:
            series, content = self._series(item, place)
        except Unreadable as error:
            self._say(place, error.note)
            return Example(item.session, None, Broken.FORM, b"")
        wanted = self.contract.regions
        if series.shape[1] != wanted:
            turned = ": the table looks transposed" if series.shape[0] == wanted else ""
            cause = f"it has {series.shape[1]} columns, and the study's atlas has {wanted} regions{turned}"
            self.findings.append(found("ROI-ORDER", place, cause))
            return Example(item.session, None, Broken.FORM, content)
        if series.shape[0] < self.contract.fewest_volumes:
            cause = f"it has {series.shape[0]} volumes; the study wants {self.contract.fewest_volumes}"
            self.findings.append(found("ROI-SHORT", place, cause))
            return Example(item.session, None, Broken.SHORT, content)
        edges, lost = edges_of(series, self.contract.edges)
        if lost:
            used = lost <= self.contract.most_lost_regions
            cause = f"{round(lost * wanted)} of {wanted} regions are flat or have values that are not numbers"
            self.findings.append(
                found("ROI-FLAT", place, cause + ("; their edges count as zero" if used else "; it is not used"))
            )
            if not used:
                return Example(item.session, None, Broken.REGIONS, content)
        return Example(item.session, edges, Broken(0), content)

    def _series(self, item: Series, place: str) -> tuple[NDArray[np.float64], bytes]:
        """Return the series of a scan and its plain digest."""
        if self.dataset.atlas is not None:
            series, content, findings = self._reader.read(item, place)
            self.findings.extend(findings)
            return series, content
        series = read_series(item)
        return series, hashlib.sha256(LABEL + repr(series.shape).encode() + series.astype("<f4").tobytes()).digest()

    def _say(self, place: str, note: Note) -> None:
        self.findings.append(found(note.code, place, note.cause, remedy=note.remedy))


@dataclass(frozen=True)
class VolumeReader:
    """Reads the volumes of a data set, one scan after the other."""

    dataset: DataSet
    _folders: dict[Path, BidsFolder] = field(default_factory=dict, repr=False)

    @cached_property
    def regions(self) -> Regions:
        """The registered atlas."""
        return load_atlas(self.dataset)

    @cached_property
    def volumes(self) -> Volumes:
        """Where the scans lie."""
        return find_volumes(self.dataset)

    def read(self, item: Series, place: str) -> tuple[NDArray[np.float64], bytes, list[Finding]]:
        """Return the series of one scan (volumes, regions), its plain digest, and what was noticed.

        Raises:
            Unreadable: it cannot be used.
        """
        averaged = average(item.path, self.regions)
        findings = [found(note.code, place, note.cause) for note in averaged.notes]
        findings += time_findings(self._folder(item.path), item.path, place, averaged.seconds)
        return averaged.series, averaged.content, findings

    def _folder(self, path: Path) -> BidsFolder:
        """Return the folder in which the descriptions of a scan lie; it is looked through once."""
        above = folder_above(Path(self.dataset.root), path)
        return self._folders.setdefault(above, BidsFolder(above, self.dataset.task or ""))

    def look(self) -> tuple[set[str], int, int, list[Finding]]:
        """Read every scan, without a study.

        Returns:
            The patients, the number of scans, how many of them can be read, and what is wrong with them.

        Raises:
            InputError: the atlas is not the one that was registered, or there is no scan.
        """
        findings, readable = [*self.volumes.findings], 0
        for item in self.volumes.scans:
            place = _place(self.dataset, item)
            try:
                findings += self.read(item, place)[2]
                readable += 1
            except Unreadable as error:
                findings.append(found(error.note.code, place, error.note.cause, remedy=error.note.remedy))
        return {item.subject for item in self.volumes.scans}, len(self.volumes.scans), readable, findings


def _place(dataset: DataSet, item: Series) -> str:
    below = dataset.series or dataset.atlas is not None
    root = Path(dataset.root).resolve() if dataset.series else Path(dataset.root)  # a mapping's paths are resolved
    place = str(item.path.relative_to(root)) if below else item.path.name
    return f"{place} ({item.key})" if item.key else place

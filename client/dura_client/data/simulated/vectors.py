"""Simulated connectomes and tables: series of regions with an effect of the scanner, and volumes over visits.

Every hospital has its own scanner: another number of volumes, a pattern of coupling of its own, volumes that are a few
percent larger or smaller. An answer of a patient changes the coupling of two networks, or shrinks and widens volumes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dura_client.data.simulated.scans import write_atlas, write_scan
from dura_client.data.simulated.simulate import describe
from dura_client.data.simulated.states import write_sessions
from dura_common.errors import HostError
from dura_common.runtime.files import SHARED_FILE, write_atomic

FACTORS = 8
VOLUMES = (146, 176, 232, 196)
DOMAIN = 0xD0_2B
Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, slots=True)
class Asked:
    """What is simulated of every patient."""

    column: str
    """With the answer, as the hospital calls it."""
    cells: tuple[str, ...]
    """Of the classes, as the hospital writes them; empty if the answer is a value."""
    bounds: tuple[float, float] = (0.0, 1.0)
    visits: int = 0
    """Visits with an answer each; none for an answer of the patient."""

    def answer(self, rng: np.random.Generator, turn: int) -> tuple[str, float]:
        """Return the cell of an answer, and its place between -1 and 1; classes take turns."""
        if self.cells:
            index = turn % len(self.cells)
            return self.cells[index], 2 * index / max(len(self.cells) - 1, 1) - 1
        place = rng.uniform(-1, 1)
        low, high = self.bounds
        return f"{low + (place + 1) / 2 * (high - low):.1f}", float(place)


def write_series(
    out: Path,
    what: str,
    asked: Asked,
    *,
    site: int,
    task: str,
    atlas: str,
    regions: int,
    people: Mapping[int, np.random.SeedSequence],
    layout: Literal["tables", "arrays", "volumes"] = "tables",
    progress: Progress = None,
) -> None:
    """Write series of regions: one TSV for each recording, one ``.npz`` with a mapping, or volumes and their atlas.

    Raises:
        HostError: the disk is full or the folder cannot be written.
    """
    rows: list[str] = []
    listed: list[str] = []
    kept: dict[str, NDArray[np.float32]] = {}
    with _writing(out):
        describe(out, what)
        for done, (number, seed) in enumerate(people.items(), start=1):
            rng, label = np.random.default_rng(seed), f"{number:03d}"
            cells = []
            for visit in range(max(asked.visits, 1)):
                cell, place = asked.answer(rng, number + visit)
                cells.append(cell)
                values = _series(rng, site, regions, place)
                name = f"sub-{label}" + (f"_ses-{visit + 1}" if asked.visits else "")
                session = f"ses-{visit + 1}" if asked.visits else "n/a"
                if layout == "volumes":
                    write_scan(out, f"sub-{label}", name, task, values, rng)
                elif layout == "arrays":
                    kept[name] = values.astype(np.float32)
                    listed.append(f"sub-{label}\t{session}\tseries.npz\t{name}")
                else:
                    folder = out / "derivatives" / "parcels" / f"sub-{label}" / "func"
                    folder.mkdir(parents=True, exist_ok=True)
                    _table(folder / f"{name}_task-{task}_atlas-{atlas}_timeseries.tsv", values)
            _people(out, label, asked, cells, rows, [])
            if progress is not None:
                progress(done, len(people))
        if layout == "volumes":
            write_atlas(out, atlas, regions)
        if layout == "arrays":
            np.savez_compressed(out / "series.npz", **kept)  # type: ignore[arg-type]  # names of arrays are free
            _lines(out / "series.tsv", ["participant_id\tsession_id\tfile\tkey", *listed])
        _lines(out / "participants.tsv", ["\t".join(["participant_id", *_head(asked, [])]), *rows])


def write_rows(
    out: Path,
    what: str,
    asked: Asked,
    *,
    site: int,
    features: Mapping[str, tuple[float, float]],
    people: Mapping[int, np.random.SeedSequence],
    missing: str = "n/a",
    progress: Progress = None,
) -> None:
    """Write a table of volumes: in participants.tsv, or for each visit in the sessions.tsv of each patient.

    Raises:
        HostError: the disk is full or the folder cannot be written.
    """
    names = sorted(features)
    weights = np.random.default_rng([DOMAIN, 1]).choice([-1.0, 1.0], len(names))
    scanner = np.random.default_rng([DOMAIN, 2, site]).normal(0, 0.04, len(names))
    rows: list[str] = []
    with _writing(out):
        describe(out, what)
        for done, (number, seed) in enumerate(people.items(), start=1):
            rng, label = np.random.default_rng(seed), f"{number:03d}"
            own = rng.normal(0, 0.08, len(names))
            cells, tables = [], []
            for visit in range(max(asked.visits, 1)):
                cell, place = asked.answer(rng, number + visit // 2)
                noise = rng.normal(0, 0.06, len(names))
                share = 0.5 + 0.12 * place * weights - 0.02 * visit + own + scanner + noise
                cells.append(cell)
                tables.append(
                    [_cell(features[name], value, rng, missing) for name, value in zip(names, share, strict=True)]
                )
            _people(out, label, asked, cells, rows, tables, names)
            if progress is not None:
                progress(done, len(people))
        _lines(out / "participants.tsv", ["\t".join(["participant_id", *_head(asked, names)]), *rows])


def _cell(bounds: tuple[float, float], share: float, rng: np.random.Generator, missing: str) -> str:
    if rng.random() < 0.01:  # noqa: PLR2004  # one measure in a hundred failed
        return missing
    low, high = bounds
    return f"{low + float(np.clip(share, 0.0, 1.0)) * (high - low):.6g}"


def _head(asked: Asked, names: list[str]) -> list[str]:
    return ["age"] if asked.visits else ["age", asked.column, *names]


def _people(
    out: Path,
    label: str,
    asked: Asked,
    cells: list[str],
    rows: list[str],
    tables: list[list[str]],
    names: list[str] | None = None,
) -> None:
    age = str(40 + 37 * int(label) % 45)
    (out / f"sub-{label}").mkdir(parents=True, exist_ok=True)
    if not asked.visits:
        rows.append("\t".join([f"sub-{label}", age, cells[0], *(tables[0] if tables else [])]))
        return
    rows.append(f"sub-{label}\t{age}")
    write_sessions(out, label, asked.column, cells)
    if tables:
        path = out / f"sub-{label}" / f"sub-{label}_sessions.tsv"
        lines = path.read_text(encoding="utf-8").splitlines()
        whole = ["\t".join([lines[0], *(names or [])])]
        _lines(path, [*whole, *("\t".join([line, *row]) for line, row in zip(lines[1:], tables, strict=True))])


def _series(rng: np.random.Generator, site: int, regions: int, place: float) -> NDArray[np.float64]:
    """Return series (volumes, regions): shared factors, two networks whose coupling the answer changes, the scanner."""
    common = np.random.default_rng([DOMAIN, regions])
    loadings = common.normal(size=(FACTORS, regions))
    groups = common.integers(0, 4, regions)
    scanner = np.random.default_rng([DOMAIN, 3, site]).normal(size=(1, regions))
    volumes = VOLUMES[site % len(VOLUMES)]
    own = rng.normal(size=(3, regions))
    drive = rng.standard_normal((volumes, FACTORS + 6))
    drive[1:] = 0.6 * drive[:-1] + 0.8 * drive[1:]  # slow, as the response of blood flow is
    values = drive[:, :FACTORS] @ loadings * 0.45 + drive[:, FACTORS : FACTORS + 3] @ own * 0.45
    values += drive[:, FACTORS + 3 : FACTORS + 4] * scanner * 0.5
    first, second = drive[:, FACTORS + 4], drive[:, FACTORS + 5]
    coupled = first * place * 0.8 + second * np.sqrt(1 - (0.8 * place) ** 2)
    values += np.outer(first, groups == 0) * 1.1 + np.outer(coupled, groups == 1) * 1.1
    found: NDArray[np.float64] = values + rng.standard_normal((volumes, regions)) * 0.8
    return found


def _table(path: Path, values: NDArray[np.float64]) -> None:
    head = "\t".join(f"region{number + 1:03d}" for number in range(values.shape[1]))
    _lines(path, [head, *("\t".join(f"{value:.4f}" for value in row) for row in values)])


def _lines(path: Path, lines: list[str]) -> None:
    write_atomic(path, ("\n".join(lines) + "\n").encode(), mode=SHARED_FILE)


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Turn faults of the disk into one error."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise HostError(
            f"cannot write the data to {out}: {error.strerror}", hint="Check free space and permissions."
        ) from error

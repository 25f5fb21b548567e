"""Plants defects in a data set that was simulated before: each in the files of another patient, by the seed alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dura_client.data.findings.kinds import KINDS
from dura_client.data.simulated.planting import of_content, of_files
from dura_client.data.simulated.planting.defect import Defect
from dura_client.data.simulated.planting.target import ENDINGS, Target
from dura_common.errors import HostError, InputError, StateError
from dura_common.runtime.files import SHARED_FILE, write_atomic

DEFECTS: tuple[Defect, ...] = (*of_files.DEFECTS, *of_content.DEFECTS)
DOMAIN = 0xDEFEC7


@dataclass(frozen=True, slots=True)
class Planted:
    """One defect that was planted."""

    name: str
    code: str
    """Of the finding that must name it."""
    title: str
    """Of that kind of finding."""
    patient: str
    place: str
    """File that the finding names, or that it is about."""


def wanted_of(text: str) -> int | tuple[str, ...]:
    """Return how many defects are asked for, or their codes.

    Raises:
        InputError: neither a number nor codes that can be planted.
    """
    if text.isdigit() and int(text) > 0:
        return int(text)
    codes = tuple(part.strip().upper() for part in text.split(",") if part.strip())
    known = {defect.code for defect in DEFECTS}
    unknown = [code for code in codes if code not in known]
    if unknown or not codes:
        raise InputError(
            f"--defects is a number, or codes of findings separated by commas; got {text!r}",
            hint=f"Codes that can be planted: {', '.join(sorted(known))}.",
        )
    return codes


def require_place(answers: Path, data: Path) -> None:
    """Refuse to write the answers where a trainee would find them, or over something else.

    Raises:
        InputError: they would lie in the data set's folder.
        StateError: the file is there.
    """
    if answers.resolve().is_relative_to(data.resolve()):
        raise InputError(
            "the answers must not lie in the folder of the data", hint="Give another place: --answers FILE."
        )
    if answers.exists():
        raise StateError(f"{answers} exists", hint="Give another place: --answers FILE.")


def plant(root: Path, wanted: int | Sequence[str], seed: int) -> tuple[Planted, ...]:
    """Plant defects; the same data, wish and seed plant the same.

    Args:
        root: of a simulated data set.
        wanted: how many, of as many kinds as there are; or the codes of the findings that must name them.
        seed: of the choice.

    Raises:
        InputError: there are too few patients, or a defect fits none of them.
        HostError: the folder cannot be written.
    """
    rng = np.random.default_rng([DOMAIN, seed])
    people = _people(root)
    free = [people[index] for index in rng.permutation(len(people))]
    chosen = _chosen(wanted, free, root, rng)
    planted = []
    try:
        for defect in chosen:
            target = next((one for one in _targets(free, root, rng) if defect.fits(one)), None)
            if target is None:
                raise InputError(
                    f"no patient is left for the defect: {defect.name}",
                    hint="Simulate more patients (--patients), or ask for fewer defects.",
                )
            defect.plant(target)
            used = {
                target.subject,
                *([_owner(target.other)] if target.other and defect.code.startswith("COPY") else []),
            }
            free = [one for one in free if one[0] not in used]
            place = target.place if not defect.place else defect.place
            if defect.place.startswith("_") and target.recording is not None:
                place = str(target.described.relative_to(root))
            planted.append(Planted(defect.name, defect.code, KINDS[defect.code].title, target.subject, place))
    except OSError as error:
        raise HostError(
            f"cannot write to {root}: {error.strerror}", hint="Check free space and permissions."
        ) from error
    return tuple(planted)


def write_answers(path: Path, planted: Sequence[Planted], seed: int) -> None:
    """Write which defects were planted, for the one who trains."""
    content = {"seed": seed, "defects": [asdict(item) for item in planted]}
    write_atomic(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode(), mode=SHARED_FILE)


def _people(root: Path) -> list[tuple[str, Path | None]]:
    """Return each patient with the first recording, if there is one."""
    folders = sorted(path.name for path in root.glob("sub-*") if path.is_dir())
    found: list[tuple[str, Path | None]] = []
    for name in folders:
        recordings = sorted(path for path in (root / name).rglob("*") if path.suffix in ENDINGS)
        found.append((name, recordings[0] if recordings else None))
    if not found and (root / "participants.tsv").exists():
        rows = (root / "participants.tsv").read_text(encoding="utf-8").splitlines()[1:]
        found = [(row.split("\t")[0], None) for row in rows]
    return found


def _owner(path: Path | None) -> str:
    return next((part for part in path.parts if part.startswith("sub-")), "") if path else ""


def _targets(free: Sequence[tuple[str, Path | None]], root: Path, rng: np.random.Generator) -> list[Target]:
    """Return a target for each patient that is left, the next one lending a recording for copies."""
    after = [*free[1:], *free[:1]]
    return [
        Target(root, subject, recording, other if len(free) > 1 else None, rng)
        for (subject, recording), (_, other) in zip(free, after, strict=True)
    ]


def _chosen(
    wanted: int | Sequence[str], free: Sequence[tuple[str, Path | None]], root: Path, rng: np.random.Generator
) -> list[Defect]:
    targets = _targets(free, root, rng)
    fitting = [defect for defect in DEFECTS if any(defect.fits(target) for target in targets)]
    order = [fitting[index] for index in rng.permutation(len(fitting))]
    if isinstance(wanted, int):
        if wanted > len(order):
            raise InputError(
                f"{len(order)} defects can be planted in these data, and {wanted} are asked for",
                hint="Ask for fewer; another hospital or --kind has others.",
            )
        return order[:wanted]
    chosen = []
    for code in wanted:
        one = next((defect for defect in order if defect.code == code and defect not in chosen), None)
        if one is None:
            known = ", ".join(sorted({defect.code for defect in order}))
            raise InputError(f"no defect of the kind {code} fits these data", hint=f"These fit: {known}.")
        chosen.append(one)
    return chosen

"""Accuracy of the demo's study over seeds: federated, each site alone, all pooled, always at the same epsilon.

Calls the functions behind the demo's commands in one process, so that settings can be compared in minutes:

    python tests/bench/demo_accuracy.py --work FOLDER --seed 1 --seed 2 --set privacy.participation=0.3

Each line of the output is one seed and one setting; the last is mean and spread over seeds. A rerun reuses
simulated and prepared recordings. Seconds are of the processor (one thread), so a busy machine does not matter.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import prepare
from dura_client.data.simulated.simulate import HOSPITALS, simulate
from dura_client.training.engine import train_round
from dura_client.training.evaluation import score
from dura_client.training.patient import TrainingPatient
from dura_client.training.split import held_out
from dura_common.models import build_model, load_vector, to_vector
from dura_common.privacy.plan import plan_of
from dura_common.study import Study, parse_study
from dura_server.demo.demo import CODES, WRONG_UNITS
from dura_server.studies.template import study_toml

PATIENTS = 40
TRIALS = 40


@dataclass(frozen=True)
class Side:
    """Training and held-out patients of one hospital."""

    training: tuple[TrainingPatient, ...]
    held_out: tuple[TrainingPatient, ...]


def study(seed: int, changes: Mapping[str, Any]) -> Study:
    """Return the demo's study with some of its settings changed, each named ``section.key``."""
    sites = dict.fromkeys(HOSPITALS, PATIENTS)
    text = study_toml(name="bench", question="?", sites=sites, epsilon=8, delta=1e-3, seed=seed)
    data = parse_study(text.encode()).model_dump()
    for path, value in changes.items():
        section, key = path.split(".")
        data[section][key] = value
    return Study.model_validate(data)


def hospital(work: Path, name: str, seed: int) -> Side:
    """Simulate (unless there), prepare and split one hospital as its site would."""
    root = work / f"seed-{seed}" / name
    if not (root / "participants.tsv").exists():
        simulate(root, name, patients=PATIENTS, trials=TRIALS, seed=seed)
    dataset = DataSet(
        name="bench",
        root=str(root),
        task="motorimagery",
        labels=dict(code.split("=") for code in CODES.get(name, ())),
        scale=float(WRONG_UNITS.get(name, 1)),
    )
    key = f"{seed} {name}".encode().ljust(32, b"\0")
    prepared = prepare(dataset, study(seed, {}).data, cache=work / f"cache-{seed}", pseudonym_key=key).patients
    sides: dict[bool, list[TrainingPatient]] = {False: [], True: []}
    for patient in prepared:
        sides[held_out(patient.key, 0.25)].append(TrainingPatient(np.array(patient.windows), patient.labels))
    return Side(tuple(sides[False]), tuple(sides[True]))


def trained(plan: Study, cohorts: Sequence[Sequence[TrainingPatient]], declared: float) -> torch.nn.Module:
    """Train by federated averaging over cohorts of ``declared`` patients; one cohort is ordinary training."""
    model = build_model(plan)
    common = to_vector(model)
    for _ in range(plan.training.rounds):
        updates = []
        for cohort in cohorts:
            load_vector(model, common)
            train_round(model, cohort, plan, plan_of(plan), declared_patients=declared, preparation=())
            updates.append(to_vector(model))
        common = np.mean(updates, axis=0).astype(np.float32)
    load_vector(model, common)
    return model


def accuracy(model: torch.nn.Module, sides: Sequence[Side]) -> float:
    """Return the mean over all held-out patients."""
    return float(np.mean([score(model, patient) for side in sides for patient in side.held_out]))


def compare(sides: Sequence[Side], plan: Study) -> Iterator[tuple[str, float]]:
    """Yield the accuracies and the processor seconds of the federated training."""
    declared = plan.training_patients(next(iter(HOSPITALS)))
    begin = time.process_time()
    model = trained(plan, [side.training for side in sides], declared)
    yield "seconds", time.process_time() - begin
    yield "federated", accuracy(model, sides)
    alone = [accuracy(trained(plan, [side.training], declared), [side]) for side in sides]
    yield "alone", float(np.average(alone, weights=[len(side.held_out) for side in sides]))
    pooled = [patient for side in sides for patient in side.training]
    yield "pooled", accuracy(trained(plan, [pooled], declared * len(sides)), sides)


def _one(arguments: tuple[Path, int, dict[str, Any]]) -> dict[str, float]:
    work, seed, changes = arguments
    torch.set_num_threads(1)
    plan = study(seed, changes)
    figures = dict(compare([hospital(work, name, seed) for name in HOSPITALS], plan))
    print(json.dumps({"seed": seed, **{name: round(value, 4) for name, value in figures.items()}}), flush=True)  # noqa: T201  # a script's answer
    return figures


def main() -> None:
    """Read the options and print one line per seed, then mean and standard deviation over seeds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where recordings are simulated and prepared")
    parser.add_argument("--seed", type=int, action="append", help="of recordings and first parameters")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="a changed setting")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    changes = {path: json.loads(value) for path, _, value in (item.partition("=") for item in options.set)}
    jobs = [(options.work, seed, changes) for seed in options.seed or [1, 2, 3]]
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        results = pool.map(_one, jobs, chunksize=1)
    table = {name: [result[name] for result in results] for name in results[0]}
    spread = {name: [round(float(np.mean(v)), 4), round(float(np.std(v)), 4)] for name, v in table.items()}
    print(json.dumps({"set": changes, "mean and standard deviation": spread}))  # noqa: T201  # idem


if __name__ == "__main__":
    main()

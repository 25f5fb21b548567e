"""The ledger at the size that it must carry: 100 studies, 10,000 patients, draws that begin one by one."""

from __future__ import annotations

import json
import os
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from tests.bench.line import Line

from dura_client.ledger.ledger import Caps, Identity, Ledger
from dura_client.ledger.rows import content
from dura_common.privacy import Gaussian, SampledGaussian, epsilon_of
from dura_common.privacy.accounting import _epsilon
from dura_common.privacy.blocks import Block
from dura_common.privacy.composition import _side_of

STUDIES = 100
PATIENTS = 10_000
ROUNDS = 20
EVALUATIONS = 4
DELTA = 1e-5
BEGINS = 300
CAP = 1e3


def events(study: int) -> tuple[SampledGaussian, Gaussian]:
    """Return what a round and an evaluation of a study cost; every study has noise of its own."""
    rng = np.random.default_rng(study)
    participation = float(rng.choice([0.05, 0.1, 0.2]))
    noise = max(0.8, participation * (10 * ROUNDS) ** 0.5 * float(rng.uniform(2.5, 5)))
    train = SampledGaussian(participation=participation, noise_multiplier=noise, steps=10)
    return train, Gaussian(noise_multiplier=float(rng.uniform(15, 30)))


def cohorts(study: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return who trains and who is held out: patients keep coming, and every study sees all who are there by then."""
    here = range(PATIENTS - (STUDIES - study - 1) * PATIENTS // (2 * STUDIES))
    keys = [f"{number:064x}" for number in here]
    return tuple(key for number, key in enumerate(keys) if number % 4), tuple(keys[::4])


def blocks(study: int) -> tuple[Block, ...]:
    """Return the blocks of a study: training, a tenth of it spare, and each evaluation."""
    train, score = events(study)
    whole = train.model_copy(update={"steps": train.steps * ROUNDS})
    spare = train.model_copy(update={"steps": train.steps * ROUNDS // 10})
    return (
        Block("train", 0, ROUNDS, whole, whole),
        Block("spare", 0, ROUNDS // 10, spare, spare),
        *(Block("evaluate", number, 1, score, score) for number in range(1, EVALUATIONS + 1)),
    )


def build(path: Path) -> tuple[int, list[float]]:
    """Write a full ledger; return its rows, and the seconds that each allocation took."""
    ledger = Ledger(path)
    times = []
    for study in range(STUDIES):
        training, held_out = cohorts(study)
        begin = time.perf_counter()
        ledger.allocate(
            study=f"{study:064x}",
            blocks=blocks(study),
            cohorts={"train": training, "evaluate": held_out},
            manifest="9" * 64,
            caps=Caps(CAP, CAP, DELTA),
            expires=date(2100, 1, 1),
            identity=Identity("c" * 64, 0.25),
        )
        times.append(time.perf_counter() - begin)
        if study < STUDIES - 1:
            _begin_all(ledger, f"{study:064x}")
    return len(ledger.entries()), times


def _begin_all(ledger: Ledger, study: str) -> None:
    """Write the draws of a study that has run, in one transaction, as no running site can."""
    with ledger._store.writing() as writer:
        found = writer.book.open_allocation(study)
        assert found is not None
        for (name, place), block in found.blocks.items():
            for number in range(1, (block.draws if name != "spare" else 0) + 1):
                told = json.dumps({"epoch": 0, "round": place or number, "step": 1})
                values = {"round": place, "purpose": name, "repeat": number, "attempt": 1, "event": told}
                writer.add(content("begin", block.cohort, "2026-01-01T00:00:00+00:00", study=study, **values))
        values = {"round": 0, "purpose": "", "repeat": 0, "attempt": 1}
        writer.add(content("close", writer.add_cohort(), "2026-01-01T00:00:00+00:00", study=study, **values))


def synchronising(folder: Path) -> float:
    """Return the median milliseconds of one small write and fsync on this disk, for comparison."""
    times = []
    with (folder / "probe").open("wb") as stream:
        for _ in range(50):
            begin = time.perf_counter()
            stream.write(b"x" * 4096)
            stream.flush()
            os.fsync(stream.fileno())
            times.append(time.perf_counter() - begin)
    return float(np.median(times)) * 1e3


def reserve_p99() -> Line:
    """Begin draws of a study on a full ledger in one process, as a node does before each vector."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ledger.db"
        rows, allocations = build(path)
        ledger = Ledger(path)
        study = "d" * 64
        event = SampledGaussian(participation=0.1, noise_multiplier=20, steps=BEGINS)
        ledger.allocate(
            study=study,
            blocks=(Block("train", 0, BEGINS, event, event),),
            cohorts={"train": cohorts(STUDIES - 1)[0]},
            manifest="9" * 64,
            caps=Caps(CAP, CAP, DELTA),
            expires=date(2100, 1, 1),
            identity=Identity("c" * 64, 0.25),
        )
        epoch = ledger.serve("e" * 64)
        times: list[float] = []
        worked = time.process_time()
        for number in range(1, BEGINS + 1):
            begin = time.perf_counter()
            ledger.begin(study, "train", number, manifest="9" * 64, epoch=epoch, round_number=1, step=number)
            times.append(time.perf_counter() - begin)
        processor = round((time.process_time() - worked) / BEGINS * 1e3, 2)
        begin = time.perf_counter()
        ledger.verify()
        verified = time.perf_counter() - begin
        begin = time.perf_counter()
        ledger.spent(DELTA)
        asked = time.perf_counter() - begin
        quantiles = {f"p{q}": round(float(np.percentile(times, q)) * 1e3, 2) for q in (50, 99, 100)}
        detail = {
            "rows": rows,
            "studies": STUDIES,
            "patients": PATIENTS,
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "begins": BEGINS,
            "milliseconds": quantiles,
            "processor_milliseconds": processor,
            "allocation_seconds": {
                "median": round(float(np.median(allocations)), 3),
                "largest": round(max(allocations), 3),
            },
            "fsync_milliseconds": round(synchronising(Path(name)), 2),
            "verify_everything_seconds": round(verified, 2),
            "spent_over_all_studies_seconds": round(asked, 3),
            "load": round(os.getloadavg()[0], 1),
        }
        return Line("ledger_reserve_p99", quantiles["p99"], "ms", detail)


def epsilon_100_studies() -> Line:
    """Compose the events of a patient who was in a hundred different studies, with empty caches and with full ones."""
    rounds = [events(study)[0] for study in range(STUDIES)]
    patient = [event.model_copy(update={"steps": event.steps * ROUNDS}) for event in rounds]
    cold, cached, processor = [], [], []
    for _ in range(5):
        _side_of.cache_clear()
        _epsilon.cache_clear()
        begin, worked = time.perf_counter(), time.process_time()
        epsilon = epsilon_of(patient, DELTA)
        cold.append(time.perf_counter() - begin)
        processor.append(time.process_time() - worked)
        begin = time.perf_counter()
        epsilon_of(patient, DELTA)
        cached.append(time.perf_counter() - begin)
    detail = {
        "epsilon": round(epsilon, 3),
        "delta": DELTA,
        "processor_seconds": round(float(np.median(processor)), 3),
        "cached_seconds": round(float(np.median(cached)), 6),
        "repeats": len(cold),
        "load": round(os.getloadavg()[0], 1),
    }
    return Line("ledger_epsilon_100_studies", round(float(np.median(cold)), 3), "s", detail)


BENCHES = {"ledger_reserve_p99": reserve_p99, "ledger_epsilon_100_studies": epsilon_100_studies}

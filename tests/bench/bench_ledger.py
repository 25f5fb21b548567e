"""The ledger at the size that it must carry: 100 studies, 10,000 patients, rounds reserved and settled one by one."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.bench.line import Line

from dura_client.ledger import store as ledger_store
from dura_client.ledger.ledger import Ledger
from dura_client.ledger.rows import COHORTS, ENTRIES, Content, cohort_digest, cohort_text, row_hash
from dura_common.privacy import Gaussian, SampledGaussian, epsilon_of, event_to_json
from dura_common.privacy.accounting import _epsilon
from dura_common.privacy.loss import _side_of

STUDIES = 100
PATIENTS = 10_000
ROUNDS = 20
EVALUATIONS = 4
DELTA = 1e-5
RESERVATIONS = 300
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


def build(path: Path) -> int:
    """Write a full ledger in one transaction, hashes and all, and return its rows."""
    ledger = Ledger(path)
    ledger._store._backend.create()
    contents: list[Content] = []
    texts: dict[str, str] = {}
    for study in range(STUDIES):
        round_event, score_event = events(study)
        for purpose, who, event, rounds in (
            ("train", cohorts(study)[0], round_event, ROUNDS),
            ("evaluate", cohorts(study)[1], score_event, EVALUATIONS),
        ):
            text = cohort_text(who)
            digest = cohort_digest(text)
            texts[digest] = text
            for number in range(1, rounds + 1):
                release = (f"{study:064x}", number, purpose, 0, 1, digest, event_to_json(event), DELTA, CAP, CAP)
                contents += [Content(kind, *release, "2026-01-01T00:00:00+00:00") for kind in ("reserve", "settle")]
    rows: list[dict[str, Any]] = []
    head = ledger_store.Book().head
    for number, content in enumerate(contents, start=1):
        digest = row_hash(number, head, content)
        values = {name: getattr(content, name) for name in Content.__dataclass_fields__}
        rows.append({"id": number, "previous": head, "hash": digest, **values})
        head = digest
    with ledger._store._backend.writing() as connection:
        connection.execute(COHORTS.insert(), [{"digest": d, "patients": t} for d, t in texts.items()])
        connection.execute(ENTRIES.insert(), rows)
    return len(rows)


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
    """Reserve rounds of a study on a full ledger in one process, as a node does, far from the cap and close to it."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "ledger.db"
        rows = build(path)
        ledger, train = Ledger(path), cohorts(STUDIES - 1)[0]
        begin = time.perf_counter()
        spent = ledger.spent(DELTA)
        first = time.perf_counter() - begin
        figures: dict[str, list[float]] = {}
        processor: dict[str, float] = {}
        event = SampledGaussian(participation=0.1, noise_multiplier=20, steps=1)
        # 2 per cent of room: Rényi's bound, a tenth above the truth, says no, so that every round is composed.
        for label, cap in (("far", CAP), ("close", spent * 1.02)):
            times = figures.setdefault(label, [])
            worked = time.process_time()
            for number in range(1, RESERVATIONS + 1):
                begin = time.perf_counter()
                ledger.reserve(
                    study=label * 16,
                    round=number,
                    purpose="train",
                    patients=train,
                    event=event,
                    epsilon_per_study=CAP,
                    epsilon_total=cap,
                    delta=DELTA,
                )
                times.append(time.perf_counter() - begin)
            processor[label] = round((time.process_time() - worked) / RESERVATIONS * 1e3, 2)
        quantiles = {
            label: {f"p{q}": round(float(np.percentile(times, q)) * 1e3, 2) for q in (50, 99, 100)}
            for label, times in figures.items()
        }
        detail = {
            "rows": rows,
            "studies": STUDIES,
            "patients": PATIENTS,
            "megabytes": round(path.stat().st_size / 1e6, 1),
            "reservations": {label: len(times) for label, times in figures.items()},
            "milliseconds": quantiles,
            "processor_milliseconds": processor,
            "fsync_milliseconds": round(synchronising(Path(name)), 2),
            "verify_everything_and_spent_seconds": round(first, 2),
            "load": round(os.getloadavg()[0], 1),
        }
        worst = max(value["p99"] for value in quantiles.values())
        return Line("ledger_reserve_p99", worst, "ms", detail)


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

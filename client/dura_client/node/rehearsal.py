"""The site's side of a rehearsal: simulated patients, prepared, trained on and scored by the code of real studies.

Real recordings are out of reach by construction: nothing here reads a site's home, a registration or a BIDS folder
that it has not just written; patients come from :class:`~dura_common.messages.rehearsal.Simulate` jobs alone. Hence
there is no ledger and no gate, and nothing to charge. The node of a hospital never serves this app.
"""

from __future__ import annotations

import hashlib
import hmac
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from dura_client.data.prepare import PatientData, load_prepared, prepare, steps_of
from dura_client.data.simulated.kinds import dataset_for, simulate_for
from dura_client.training.engine import train_round
from dura_client.training.evaluation import score
from dura_client.training.patient import TrainingPatient
from dura_client.training.split import held_out
from dura_common.errors import DuraError, StateError
from dura_common.messages.records import from_records, to_records
from dura_common.messages.rehearsal import Done, Fault, Score, Simulate, Train, decode_job
from dura_common.models import build_model, load_vector, to_vector
from dura_common.privacy.plan import plan_of
from dura_common.runtime.files import private_folder

MAX_PARAMETERS = 50_000_000
Vector = NDArray[np.float32]

app = ClientApp()


def answer(body: bytes, vector: Vector | None) -> tuple[bytes, Vector | None]:
    """Do one job; a dura error becomes a :class:`Fault`."""
    torch.set_num_threads(1)  # one simulated site a core
    try:
        job = decode_job(body)
        result: Vector | None = None
        if isinstance(job, Simulate):
            _simulate(job)
        elif vector is None:
            raise StateError("the job has no parameters")
        elif isinstance(job, Train):
            result = _train(job, vector)
        else:
            result = _score(job, vector)
    except DuraError as error:
        return Fault(code=error.code, message=error.message, hint=error.hint).model_dump_json().encode(), None
    return Done().model_dump_json().encode(), result


def _handle(message: Message, _context: Context) -> Message:
    body, vector = from_records(message.content, max_parameters=MAX_PARAMETERS)
    return Message(to_records(*answer(body, vector)), reply_to=message)


app.query()(_handle)
app.train()(_handle)
app.evaluate()(_handle)


def _simulate(job: Simulate) -> None:
    """Write, prepare and forget some recordings; the prepared patients appear together or not at all."""
    folder = private_folder(Path(job.folder))
    target = folder / f"{job.site}.{job.first:07d}"
    if target.exists():
        return
    with tempfile.TemporaryDirectory(dir=folder, prefix=".new-") as name:
        recordings, cache = Path(name) / "bids", Path(name) / "cache"
        simulate_for(
            recordings,
            job.contract,
            job.index,
            first=job.first,
            patients=job.patients,
            trials=job.trials,
            seed=job.seed,
        )
        dataset = dataset_for(job.site, recordings, job.contract)
        contract = job.contract.model_copy(update={"minimum_patients": 1})  # these are some of the site's patients
        secret = hashlib.sha256(job.site.encode()).digest()
        prepared = prepare(dataset, contract, cache=cache, pseudonym_key=secret)
        shutil.move(cache / prepared.folder, target)


def _train(job: Train, parameters: Vector) -> Vector:
    study = job.study
    training, _ = _cohort(job)
    plan = plan_of(study)
    model = build_model(study)
    load_vector(model, parameters)
    train_round(
        model,
        training,
        study,
        replace(plan, noise_multiplier=plan.noise_multiplier * job.noise_factor),
        preparation=steps_of(study.data),
        declared_patients=sum(study.training_patients(site) for site in job.sites),
    )
    return to_vector(model)


def _score(job: Score, parameters: Vector) -> Vector:
    _, testing = _cohort(job)
    model = build_model(job.study)
    load_vector(model, parameters)
    return np.array([score(model, patient) for patient in testing], dtype=np.float32)


def _cohort(job: Train | Score) -> tuple[list[TrainingPatient], list[TrainingPatient]]:
    """Return the training and the held-out patients, by the rule of real sites with a key of this job."""
    patients = [patient for site in job.sites for patient in _patients(Path(job.folder), site, job.study.sites[site])]
    secret = job.split.to_bytes(8, "big")
    keys = [hmac.new(secret, patient.key.encode(), hashlib.sha256).hexdigest() for patient in patients]
    sides = [held_out(key, job.study.evaluation.held_out) for key in keys]
    return _side(patients, sides, apart=False), _side(patients, sides, apart=True)


def _side(patients: Sequence[PatientData], sides: Sequence[bool], *, apart: bool) -> list[TrainingPatient]:
    chosen = [patient for patient, side in zip(patients, sides, strict=True) if side == apart]
    return [TrainingPatient(patient.windows, patient.labels) for patient in chosen]


def _patients(folder: Path, site: str, declared: int) -> list[PatientData]:
    found = [patient for part in sorted(folder.glob(f"{site}.*")) for patient in load_prepared(part)]
    if len(found) != declared:
        raise StateError(f"{site} declares {declared} patients, and {len(found)} were simulated")
    return found

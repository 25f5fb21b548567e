"""The study.toml that `dura study new` writes: complete, commented, and valid as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

VALID_DAYS = 90

TEMPLATE = """\
# A dura study: everything that the training will do. Sites approve exactly this.
name = "{name}"
question = "{question}"
expires = {expires}

# Declared, public number of patients of each site; live counts are never sent.
[sites]
{sites}

# What each site brings its recordings to.
[data]
modality = "eeg"
task = "motorimagery"
channels = ["F3", "F4", "C3", "Cz", "C4", "T7", "T8", "P3", "Pz", "P4", "Oz"]
sampling_rate = 128.0     # Hz
band = [4.0, 38.0]        # Hz
window_start = 0.5        # seconds after the cue
window_length = 2.0       # seconds
classes = ["left_hand", "right_hand"]
alignment = "euclidean"   # per patient, without labels
minimum_patients = {minimum_patients}

[model]
name = "eegnet"
kernel_seconds = 0.5

# The unit is the patient. epsilon counts all training steps of the study, add/remove one patient.
[privacy]
noise = "local"
epsilon = {epsilon}
delta = {delta}
participation = 0.5       # probability that a patient enters a step
windows_per_patient = 8
clipping_norm = 1.0

[training]
rounds = 8
steps_per_round = 10
optimiser = "adam"
learning_rate = 0.01
seed = {seed}                  # of the first parameters; noise and sampling have no seed

# Held-out patients never train; they alone pay for the evaluation.
[evaluation]
held_out = 0.25
every = 2
epsilon = {epsilon}

[aggregation]
minimum_sites = {minimum_sites}
# UNSAFE: until secure aggregation is there, the coordinator sees the noised updates one by one.
unsafe_plain_updates = {unsafe}
"""


def study_toml(
    *,
    name: str,
    question: str,
    sites: Mapping[str, int],
    epsilon: float,
    delta: float,
    seed: int,
    unsafe: bool,
) -> str:
    """Return the text of a study.toml for these sites (name to declared patients)."""
    return TEMPLATE.format(
        name=name,
        question=question.replace("\\", " ").replace('"', "'"),
        expires=(datetime.now(UTC) + timedelta(days=VALID_DAYS)).date().isoformat(),
        sites="\n".join(f"{site} = {patients}" for site, patients in sites.items()),
        minimum_patients=min(10, *sites.values()),
        minimum_sites=len(sites),
        epsilon=float(epsilon),
        delta=float(delta),
        seed=seed,
        unsafe=str(unsafe).lower(),
    )

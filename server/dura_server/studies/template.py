"""The study.toml that `dura study new` writes: complete, commented, and valid as it stands."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

from dura_common.study import MINIMUM_HONEST_SITES

VALID_DAYS = 90
NOISE_MEANS = {
    "shared": "each site adds a share of the noise; every step is one secure sum",
    "local": "each site adds all of the noise; every round is one secure sum",
}

TEMPLATE = """\
# A dura study: everything that the training will do. Sites approve exactly this file.
name = "{name}"
question = "{question}"
expires = {expires}

# Declared, public number of patients of each site; live counts are never sent.
[sites]
{sites}

# The form to which each site brings its recordings.
[data]
source = "eeg"
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
kernel_seconds = 0.25

# The unit is the patient. epsilon counts all training steps of the study, add/remove one patient.
[privacy]
noise = "{noise}"          # {noise_means}
epsilon = {epsilon}
delta = {delta}
participation = 0.5       # probability that a patient enters a step
windows_per_patient = 16
clipping_norm = 0.5

[training]
rounds = 4
steps_per_round = 10
optimiser = "adam"
learning_rate = 0.01
seed = {seed}                  # of the first parameters; noise and sampling have no seed

# Held-out patients never train. Only they pay for the evaluation.
[evaluation]
held_out = 0.25
every = 1
epsilon = {epsilon}

[aggregation]
minimum_sites = {minimum_sites}
tolerated_dropouts = 0
tolerated_colluders = {colluders}   # shared noise is enough without the colluders' shares
spare_steps = 2           # steps that may be drawn again after a loss; paid for from the start
"""


def study_toml(
    *,
    name: str,
    question: str,
    sites: Mapping[str, int],
    epsilon: float,
    delta: float,
    seed: int,
    noise: Literal["shared", "local"] = "shared",
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
        noise=noise,
        noise_means=NOISE_MEANS[noise],
        colluders=1 if noise == "shared" and len(sites) > MINIMUM_HONEST_SITES else 0,
    )

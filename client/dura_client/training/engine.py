"""Patient-level private training, in pieces that work with one site's noise and with noise shared by many sites.

A step, with ``engine = PatientEngine(...)``:

    drawn = engine.draw(patients)                  # a  every patient with the public probability q
    total = engine.clipped_sum(drawn)              # b  int64 (parameters,): clipped, cut to the grid, summed
    noised = add_noise(total, noise_multiplier)    # c  integer noise in units of the sensitivity
    engine.apply(noised, divisor)                  # d  public divisor, optimiser, constraints

With noise shared between sites, (c) adds the site's share, and what goes into (d) is the secure sum of all sites'
vectors, with the divisor q times the patients of all sites. Either way (d) is the step of
:mod:`dura_common.models.steps`, which every site and the coordinator make alike.

(b) takes at most K windows of each patient, chosen by the generator of (a), and the gradient of their mean loss
(:mod:`dura_client.training.gradients`). An empty draw is a step of pure noise: leaving it out would reveal that nobody
was drawn. A patient without windows counts zero but is drawn like everybody else.

The study chooses the loss: cross-entropy for DP-SGD on any model, or, on a linear model of unit vectors, a linear loss
for one step (the one-sum estimator) or a squared loss for a few steps (clipped-residual descent). Drawing, clipping,
noise and accounting are the same code for all.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dura_client.data.privacy_class import Step, refuse_unpaid
from dura_client.training.clipping import PatientClipper, add_noise
from dura_client.training.gradients import Batch, patient_gradients
from dura_client.training.losses import loss_of
from dura_client.training.patient import TrainingPatient
from dura_client.training.places import Places
from dura_client.training.secure_random import bernoulli, choose
from dura_common.errors import HostError, InputError
from dura_common.models import TrainingState, advance, first_state, load_vector, rule_of
from dura_common.privacy.grid import WHOLE
from dura_common.privacy.plan import PrivacyPlan
from dura_common.study import Study
from dura_common.study.training import ResidualDescentTraining

log = logging.getLogger(__name__)


class PatientEngine:
    """The pieces of a private step over one model, which changes in place.

    Args:
        network: the model with the first parameters.
        study: the approved study; all limits come from it.
        preparation: the steps that the patients' data went through before training.
        state: the state at which training continues; by default it begins with the parameters of ``network``.
        places: the number of patients that every step computes, with dummies for missing ones
            (:mod:`dura_client.training.places`); 0 computes only the drawn patients.
        device: where to compute; the noise always comes from the operating system.

    Raises:
        InputError: the model keeps running batch statistics, for which no budget has paid.
        PolicyError: a preparation step uses a statistic over patients, for which no budget has paid.
        HostError: there is no such device.
    """

    def __init__(
        self,
        network: nn.Module,
        study: Study,
        *,
        preparation: Sequence[Step],
        state: TrainingState | None = None,
        places: int = 0,
        device: str = "cpu",
    ) -> None:
        refuse_unpaid(preparation)
        require_device(device)
        _refuse_batch_statistics(network)
        self._network = network.to(device).train()
        self._privacy = study.privacy
        self._device = device
        self._places = Places.of(study, places, device=device) if places else None
        self._loss = loss_of(study.training)
        averages = isinstance(study.training, ResidualDescentTraining) and study.training.average
        self._iterates: list[NDArray[np.float32]] | None = [] if averages else None
        self._clipper = PatientClipper(network, study.privacy.clipping_norm)
        self._rule = rule_of(study.training)
        self.state = first_state(network, self._rule) if state is None else state
        """After the last step."""

    def draw(self, patients: Sequence[TrainingPatient]) -> list[TrainingPatient]:
        """Return the patients of one step: each with probability q, independently, by a cryptographic generator."""
        enters = bernoulli(len(patients), self._privacy.participation)
        return [patient for patient, drawn in zip(patients, enters, strict=True) if drawn]

    def clipped_sum(self, drawn: Sequence[TrainingPatient]) -> NDArray[np.int64]:
        """Return the sum of the patients' clipped gradients, int64 (parameters,), in steps of 2^-16 C.

        One patient moves the sum by at most 2^16 in L2 norm, whatever the recordings hold.
        """
        found = (self._batch(patient) for patient in drawn)
        batches = (batch for batch in found if batch is not None) if self._places is None else self._places.fill(found)
        for stacks in patient_gradients(self._network, self._loss, batches):
            for parameter, stack in zip(self._network.parameters(), stacks, strict=True):
                parameter.grad_sample = stack  # type: ignore[attr-defined]  # the attribute is Opacus's protocol
            self._clipper.clip_and_accumulate()
        return self._clipper.take_sum()

    def apply(self, total: NDArray[np.int64], divisor: float) -> None:
        """Make one step with a noised sum, then project the model's constraints (post-processing).

        Args:
            total: int64 (parameters,), in steps of the grid: the sum of this site or of many.
            divisor: public constant: q times the declared patients of the sum.

        Raises:
            ValueError: the sum has another length or type; nothing was changed.
        """
        scale = self._privacy.clipping_norm / WHOLE / divisor
        self.state = advance(self._network, self.state, total, self._rule, scale=scale)
        if self._iterates is not None:
            self._iterates.append(self.state.parameters)

    def finish(self) -> nn.Module:
        """Return the model on the CPU, ready to score; the mean of its iterates where the study asks for that."""
        network = self._network.to("cpu").eval()
        if self._iterates:
            mean: NDArray[np.float64] = np.mean(self._iterates, axis=0, dtype=np.float64)
            load_vector(network, mean.astype(np.float32))
        return network

    def _batch(self, patient: TrainingPatient) -> Batch | None:
        """Return at most K windows of one patient without those that are not finite; None if no window is left.

        Any fault in one patient's data makes this patient count zero: a step that ended with an error would reveal that
        the patient was drawn.
        """
        try:
            return self._windows(patient)
        except Exception as error:  # noqa: BLE001  # one patient must not end a step
            log.warning("a drawn patient's windows cannot be read (%s); the patient counts zero", type(error).__name__)
            return None

    def _windows(self, patient: TrainingPatient) -> Batch | None:
        index = choose(len(patient.labels), self._privacy.windows_per_patient)
        windows = np.ascontiguousarray(patient.windows[index])
        finite = np.isfinite(windows).all(axis=tuple(range(1, windows.ndim)))
        if not finite.any():
            return None
        labels = patient.labels[index]
        if not finite.all():
            windows, labels = windows[finite], labels[finite]
        return Batch.of(torch.from_numpy(windows).to(self._device), torch.from_numpy(labels).to(self._device))


def train_round(
    network: nn.Module,
    patients: Sequence[TrainingPatient],
    study: Study,
    plan: PrivacyPlan,
    *,
    declared_patients: float,
    preparation: Sequence[Step],
    places: int = 0,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make the steps of one round with this site's noise alone, changing ``network`` in place.

    Afterwards, the network is on the CPU and in evaluation mode.

    Args:
        network: the model with the round's first parameters.
        patients: the site's training patients.
        study: the approved study; all limits come from it.
        plan: the study's plan, whose noise multiplier is used.
        declared_patients: public number of training patients; the divisor is q times this.
        preparation: the steps that the patients' data went through before training.
        places: as for :class:`PatientEngine`.
        device: where to compute.
        progress: called with (steps done, steps).

    Raises:
        InputError: the model keeps running batch statistics, for which no budget has paid.
        PolicyError: a preparation step uses a statistic over patients, for which no budget has paid.
    """
    divisor = study.privacy.participation * declared_patients
    engine = PatientEngine(network, study, preparation=preparation, places=places, device=device)
    make_steps(engine, patients, study.training.steps_per_round, plan.noise_multiplier, divisor, progress=progress)
    engine.finish()


def make_steps(
    engine: PatientEngine,
    patients: Sequence[TrainingPatient],
    steps: int,
    noise_multiplier: float,
    divisor: float,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make steps with this site's noise alone; ``progress`` is called with (steps done, steps)."""
    for step in range(steps):
        total = engine.clipped_sum(engine.draw(patients))
        engine.apply(add_noise(total, noise_multiplier), divisor)
        if progress is not None:
            progress(step + 1, steps)


def require_device(device: str) -> None:
    """Check that this machine has the device that the site's settings name.

    Raises:
        HostError: it does not. Callers check this before the ledger is charged.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise HostError(
            "the site's settings ask for CUDA, and this machine offers no CUDA device",
            hint='Set device = "cpu" in site.toml, or install a driver and a CUDA build of torch.',
        )


def _refuse_batch_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:  # noqa: SLF001  # torch has no public base
            raise InputError(
                "the model keeps running batch statistics, an unpaid release", hint="Use GroupNorm instead."
            )

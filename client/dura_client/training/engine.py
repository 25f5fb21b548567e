"""One round of training at a site.

Each step:

1. every patient enters with the public probability q, independently, by a cryptographic generator;
2. at most K windows of each, chosen by the same generator;
3. one ordinary backward pass of the patient's mean loss: every layer works, and only one patient's
   activations are in memory;
4. :class:`PatientOptimizer` clips per patient, adds noise, divides by the public q * N;
5. the model's constraints are projected (post-processing).

An empty draw is a step of pure noise: leaving it out would tell that nobody was drawn. A patient without
windows counts zero but is drawn like everybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from dura_client.training.optimiser import PatientOptimizer
from dura_client.training.patient import TrainingPatient
from dura_client.training.secure_random import bernoulli, choose
from dura_common.errors import InputError
from dura_common.models import project_constraints
from dura_common.privacy.plan import PrivacyPlan
from dura_common.study import Study, Training


def train_round(
    network: nn.Module,
    patients: Sequence[TrainingPatient],
    study: Study,
    plan: PrivacyPlan,
    *,
    declared_patients: float,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Make the steps of one round, changing ``network`` in place; it ends on the CPU, in training mode off.

    Args:
        network: the model with the round's first parameters.
        patients: the site's training patients.
        study: the approved study; all limits come from it.
        plan: the study's plan, whose noise multiplier is used.
        declared_patients: public number of training patients; the divisor is q times this.
        device: where to compute.
        progress: called with (steps done, steps).

    Raises:
        InputError: the model keeps running batch statistics, which nobody would have paid for.
    """
    _refuse_batch_statistics(network)
    network.to(device).train()
    optimiser = _optimiser(network, study, plan, declared_patients)
    steps = study.training.steps_per_round
    for step in range(steps):
        drawn = bernoulli(len(patients), study.privacy.participation)  # 1
        chosen = [patient for patient, enters in zip(patients, drawn, strict=True) if enters]
        gradients = [_gradient(network, patient, study.privacy.windows_per_patient, device) for patient in chosen]
        _hand_over(network, gradients)
        optimiser.step()  # 4
        optimiser.zero_grad(set_to_none=True)
        project_constraints(network)  # 5
        if progress is not None:
            progress(step + 1, steps)
    network.to("cpu").eval()


def _optimiser(network: nn.Module, study: Study, plan: PrivacyPlan, declared: float) -> PatientOptimizer:
    training = study.training
    return PatientOptimizer(
        _inner(network, training),
        noise_multiplier=plan.noise_multiplier,
        clipping_norm=study.privacy.clipping_norm,
        divisor=study.privacy.participation * declared,
    )


def _inner(network: nn.Module, training: Training) -> Optimizer:
    if training.optimiser == "adam":
        return Adam(network.parameters(), lr=training.learning_rate)
    return SGD(network.parameters(), lr=training.learning_rate, momentum=training.momentum)


def _gradient(network: nn.Module, patient: TrainingPatient, most: int, device: str) -> list[torch.Tensor]:
    """Return the gradient of the mean loss over at most ``most`` windows of one patient."""
    usable = np.flatnonzero(np.isfinite(patient.windows).all(axis=(1, 2)))
    index = usable[choose(usable.size, most)]  # 2
    if index.size == 0:
        return [torch.zeros_like(parameter) for parameter in network.parameters()]
    windows = torch.from_numpy(np.ascontiguousarray(patient.windows[index])).to(device)
    labels = torch.from_numpy(patient.labels[index]).to(device)
    loss = nn.functional.cross_entropy(network(windows), labels)
    return list(torch.autograd.grad(loss, list(network.parameters())))  # 3


def _hand_over(network: nn.Module, gradients: list[list[torch.Tensor]]) -> None:
    """Give Opacus the patients' gradients as its per-sample gradients; no patient gives an empty stack."""
    for position, parameter in enumerate(network.parameters()):
        stack = [gradient[position] for gradient in gradients]
        parameter.grad_sample = (  # type: ignore[attr-defined]  # the attribute is Opacus's protocol
            torch.stack(stack) if stack else parameter.new_zeros((0, *parameter.shape))
        )


def _refuse_batch_statistics(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats:  # noqa: SLF001  # torch has no public base
            raise InputError(
                "the model keeps running batch statistics, an unpaid release", hint="Use GroupNorm instead."
            )

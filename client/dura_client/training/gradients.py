"""One gradient per patient, in one of two ways that give the same numbers.

- One ordinary backward pass per patient: every layer works, and only the activations of as many patients as there are
  threads are in memory. For convolutions on several windows this is also the fastest way.
- ``torch.func.vmap`` over many patients at once, where a single patient is too little work for a pass: patients with
  one window (a connectome), and recurrent networks, whose time is spent on stepping.

docs/decisions/0008-patient-gradients.md has the measurements behind the choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from dura_client.training.losses import Loss
from dura_common.models.recurrent import UnrollableGRU


class Batch(NamedTuple):
    """What one patient has in a step: at least one window."""

    windows: Tensor
    """(windows, channels, samples)."""
    labels: Tensor
    """(windows,)."""
    weights: Tensor
    """(windows,); they add up to one, or to zero for a dummy."""

    @classmethod
    def of(cls, windows: Tensor, labels: Tensor) -> Batch:
        """Return windows that weigh alike."""
        return cls(windows, labels, torch.full((len(labels),), 1 / max(1, len(labels)), device=windows.device))


MOST_PATIENTS = 64
"""Patients whose gradients are in memory together; more was not faster."""
MOST_VALUES = 1 << 20
"""Values of all gradients in memory together (4 MiB, and twice that while they are clipped)."""
MOST_WINDOWS = 256
"""Windows that go through one vectorised pass: bounds the memory for their activations."""


def patients_at_once(network: nn.Module) -> int:
    """Return how many patients' gradients of this model are kept before they are clipped and added up."""
    size = sum(parameter.numel() for parameter in network.parameters())
    return max(1, min(MOST_PATIENTS, MOST_VALUES // max(1, size)))


def patient_gradients(network: nn.Module, loss: Loss, batches: Iterable[Batch]) -> Iterator[list[Tensor]]:
    """Yield stacks of patients' gradients, one tensor (patients, *parameter.shape) per parameter of the model.

    Every batch is in exactly one stack, in any order. At most :func:`patients_at_once` gradients are in memory at a
    time, however many batches there are.
    """
    at_once = patients_at_once(network)
    alone: list[Batch] = []
    together: dict[torch.Size, list[Batch]] = {}  # by shape: only equal windows can be stacked
    for batch in batches:
        shape = batch.windows.shape
        if not worth_vectorising(network, len(batch.labels)):
            alone.append(batch)
            if len(alone) == at_once or len(alone) * shape[0] >= MOST_WINDOWS:
                yield by_backward(network, loss, alone)
                alone = []
            continue
        group = together.setdefault(shape, [])
        group.append(batch)
        if len(group) == min(at_once, max(1, MOST_WINDOWS // shape[0])):
            yield by_vmap(network, loss, together.pop(shape))
    if alone:
        yield by_backward(network, loss, alone)
    for group in together.values():
        yield by_vmap(network, loss, group)


def worth_vectorising(network: nn.Module, windows: int) -> bool:
    """Tell whether a patient with this many windows should share a pass; torch's own recurrent kernels cannot."""
    recurrent = [module for module in network.modules() if isinstance(module, nn.RNNBase)]
    if not all(isinstance(module, UnrollableGRU) for module in recurrent):
        return False
    return bool(recurrent) or windows == 1


def by_backward(network: nn.Module, loss: Loss, batches: Sequence[Batch]) -> list[Tensor]:
    """Return the patients' gradients, by one ordinary backward pass for each patient.

    Each core of a CPU takes other patients: the pass of one patient is too little work for several cores.
    """
    threads = min(torch.get_num_threads(), len(batches))
    if threads == 1 or batches[0].windows.device.type != "cpu":
        return _stacked([_gradient(network, loss, batch) for batch in batches])
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # of this and of every new thread
    try:
        with ThreadPoolExecutor(threads) as pool:
            return _stacked(list(pool.map(lambda batch: _gradient(network, loss, batch), batches)))
    finally:
        torch.set_num_threads(before)


def _gradient(network: nn.Module, loss: Loss, batch: Batch) -> list[Tensor]:
    mean = loss(network(batch.windows), batch.labels, batch.weights)
    return list(torch.autograd.grad(mean, list(network.parameters()), materialize_grads=True))


def by_vmap(network: nn.Module, loss: Loss, batches: Sequence[Batch]) -> list[Tensor]:
    """Return the patients' gradients by one vectorised pass; each patient must have the same number of windows."""
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def one(values: dict[str, Tensor], windows: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
        return loss(functional_call(network, values, (windows,)), labels, weights)

    windows, labels, weights = (torch.stack(parts) for parts in zip(*batches, strict=True))
    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, UnrollableGRU):
                stack.enter_context(module.unrolled())
        stacks = vmap(grad(one), in_dims=(None, 0, 0, 0), randomness="different")(parameters, windows, labels, weights)
    return [stacks[name] for name in parameters]


def _stacked(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack(stack) for stack in zip(*gradients, strict=True)]

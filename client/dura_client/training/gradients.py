"""One gradient per patient, in one of two ways that give the same numbers.

- Patients with several windows: one ordinary backward pass each. Every layer works, and only one patient's
  activations are in memory.
- Patients with one window (a connectome): ``torch.func.vmap`` over many patients at once, where the layers allow it.

docs/decisions/0008-patient-gradients.md has the measurements behind the choice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from dura_client.training.losses import Loss

Batch = tuple[Tensor, Tensor]
"""One patient's windows (windows, channels, samples) and labels (windows,), at least one of each."""

MOST_AT_ONCE = 64
"""Patients whose gradients are in memory together; more was not faster."""
MOST_VALUES = 1 << 20
"""Values of all gradients in memory together (4 MiB, and twice that while they are clipped)."""


def patients_at_once(network: nn.Module) -> int:
    """Return how many patients' gradients of this model are kept before they are clipped and added up."""
    size = sum(parameter.numel() for parameter in network.parameters())
    return max(1, min(MOST_AT_ONCE, MOST_VALUES // max(1, size)))


def patient_gradients(network: nn.Module, loss: Loss, batches: Iterable[Batch]) -> Iterator[list[Tensor]]:
    """Yield stacks of patients' gradients, one tensor (patients, *parameter.shape) per parameter of the model.

    Every batch is in exactly one stack; their order means nothing. At most :func:`patients_at_once` patients are in
    memory, whatever comes in.
    """
    at_once = patients_at_once(network)
    vectorised = can_vectorise(network)
    single: list[Batch] = []
    several: list[list[Tensor]] = []
    for batch in batches:
        if vectorised and len(batch[1]) == 1:
            if single and single[0][0].shape != batch[0].shape:  # only equal windows can be stacked
                yield by_vmap(network, loss, single)
                single = []
            single.append(batch)
        else:
            several.append(by_backward(network, loss, batch))
        if len(single) == at_once:
            yield by_vmap(network, loss, single)
            single = []
        if len(several) == at_once:
            yield _stacked(several)
            several = []
    if single:
        yield by_vmap(network, loss, single)
    if several:
        yield _stacked(several)


def by_backward(network: nn.Module, loss: Loss, batch: Batch) -> list[Tensor]:
    """Return one patient's gradient, one tensor per parameter, by an ordinary backward pass."""
    windows, labels = batch
    mean = loss(network(windows), labels)
    return list(torch.autograd.grad(mean, list(network.parameters()), materialize_grads=True))


def by_vmap(network: nn.Module, loss: Loss, batches: Sequence[Batch]) -> list[Tensor]:
    """Return the patients' gradients by one vectorised pass; each patient must have the same number of windows."""
    parameters = {name: parameter.detach() for name, parameter in network.named_parameters()}

    def one(values: dict[str, Tensor], windows: Tensor, labels: Tensor) -> Tensor:
        return loss(functional_call(network, values, (windows,)), labels)

    windows = torch.stack([windows for windows, _ in batches])
    labels = torch.stack([labels for _, labels in batches])
    stacks = vmap(grad(one), in_dims=(None, 0, 0), randomness="different")(parameters, windows, labels)
    return [stacks[name] for name in parameters]


def can_vectorise(network: nn.Module) -> bool:
    """Tell whether vmap knows all layers; torch's recurrent kernels are beyond it."""
    return not any(isinstance(module, nn.RNNBase) for module in network.modules())


def _stacked(gradients: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack(stack) for stack in zip(*gradients, strict=True)]

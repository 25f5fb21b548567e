"""Parameters as one flat float32 vector, the form in which they are sent, averaged and stored."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from dura_common.errors import InputError


def parameter_total(network: nn.Module) -> int:
    """Return how many parameters a model has."""
    return sum(parameter.numel() for parameter in network.parameters())


def to_vector(network: nn.Module) -> NDArray[np.float32]:
    """Return all parameters as a 1-D float32 array, in the module's own order."""
    flat = torch.nn.utils.parameters_to_vector([p.detach().cpu() for p in network.parameters()])
    return np.asarray(flat.numpy(), dtype=np.float32).copy()


def load_vector(network: nn.Module, vector: NDArray[np.float32]) -> None:
    """Write a vector into the model's parameters.

    Raises:
        InputError: the length or type is wrong, or a value is not finite; the model is left unchanged.
    """
    expected = parameter_total(network)
    if vector.shape != (expected,) or vector.dtype != np.float32:
        raise InputError(
            f"the model has {expected} float32 parameters; got {vector.dtype} of shape {tuple(vector.shape)}"
        )
    if not np.isfinite(vector).all():
        raise InputError("the parameters hold a value that is not a finite number")
    parameters = list(network.parameters())
    flat = torch.from_numpy(vector.copy()).to(parameters[0].device)
    torch.nn.utils.vector_to_parameters(flat, parameters)

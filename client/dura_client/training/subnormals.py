"""Numbers nearer to zero than 1.2e-38: processors may compute with them up to a hundred times as slowly.

A recording with such values slowed a step of an earlier model thirty times, which told that its patient was drawn. No
recording means anything by them, so they are taken as zero.
"""

from __future__ import annotations

import logging

import torch

log = logging.getLogger(__name__)


def flush_subnormals() -> None:
    """Compute with zero in place of subnormal numbers, in this thread and in all threads that it starts from now on.

    To be called in a thread before it computes: threads that torch has made for it before keep their ways.
    """
    if not torch.set_flush_denormal(True):
        log.warning("this processor cannot take subnormal numbers as zero; recordings that hold some slow training")

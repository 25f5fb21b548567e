"""A site's part in the sums of one request: each vector is one draw, begun in the ledger before it is computed.

A vector leaves only once, and no copy of it is kept. A repeated request gets either a new draw, with other patients and
other noise and paid for like the first, or a refusal.
"""

from __future__ import annotations

import logging
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dura_client.ledger.answers import REPEATED
from dura_client.ledger.ledger import Ledger
from dura_client.release.pace import Pace
from dura_client.release.standing import Standing
from dura_client.sums.ports import Peers
from dura_common.privacy.blocks import Purpose
from dura_common.secagg import Opened

log = logging.getLogger(__name__)


class Work(Protocol):
    """The computation for a request, without its payment."""

    def compute(self, withdrawn: frozenset[str]) -> NDArray[np.signedinteger]:
        """Make a new draw: sample, compute, add noise. Patients who have withdrawn count as zero."""
        ...

    def opened(self, opened: Opened) -> None:
        """Continue from an opened sum."""
        ...


class PaidPart:
    """A part in which every draw first begins in the ledger.

    Args:
        work: the computation.
        standing: whether the request may go on.
        ledger: of the site.
        manifest: digest of the frozen cohort that ``work`` draws from.
        epoch: of this process in the ledger.
        study: digest of the study.
        purpose: ``train`` or ``evaluate``.
        round_number: of the study.
        draws_before: draws of the block before the first step of this round.
        members: who was asked for.
        first_step: the first step that was asked for.
        pace: when vectors leave; None for at once.
    """

    def __init__(
        self,
        work: Work,
        standing: Standing,
        ledger: Ledger,
        *,
        manifest: str,
        epoch: int,
        study: str,
        purpose: Purpose,
        round_number: int,
        draws_before: int,
        members: tuple[str, ...],
        first_step: int,
        pace: Pace | None,
    ) -> None:
        self._work = work
        self._standing = standing
        self._ledger = ledger
        self._manifest = manifest
        self._epoch = epoch
        self._study = study
        self._purpose: Purpose = purpose
        self._round = round_number
        self._before = draws_before
        self._pace = pace
        self.members = members
        """The sites that add to the next sum: first the requested sites, later the sites of the last sum."""
        self.next_step = first_step

    @property
    def peers(self) -> Peers:
        """This site's reports to the other members, and their reports to this site."""
        return self._standing

    def draw(self, step: int) -> NDArray[np.signedinteger]:
        """Begin a draw for a step in the ledger, and return its new vector.

        Raises:
            DuraError: the request may not go on, or the ledger refuses; nothing was computed.
        """
        self._standing.still()
        begun = self._ledger.begin(
            self._study,
            self._purpose,
            self._before + step,
            manifest=self._manifest,
            epoch=self._epoch,
            round_number=self._round,
            step=step,
        )
        if begun.block in REPEATED:
            log.warning(
                "study %s, %s round %d, step %d: drawn again after a loss, spare draw %d",
                *(self._study[:12], self._purpose, self._round, step, begun.number),
            )
        if self._pace is None:
            return self._work.compute(begun.withdrawn)
        since = self._pace.clock()
        try:
            return self._work.compute(begun.withdrawn)
        finally:  # a failure leaves at a tick, too
            self._pace.wait(since)

    def opened(self, opened: Opened) -> None:
        """Continue from an opened sum."""
        self._work.opened(opened)
        self.members = opened.contributors
        self.next_step = opened.step + 1

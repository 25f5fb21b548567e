"""Sessions in memory: every side real, the wire a loop. For tests, benches and to read how a session runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from dura_common.secagg.abort import Abort
from dura_common.secagg.coordinator import Progress
from dura_common.secagg.params import Kind, Member, SessionParameters, smallest_threshold
from dura_common.secagg.round_coordinator import RoundCoordinator
from dura_common.secagg.round_site import RoundSite
from dura_common.secagg.site import Opened, Site
from dura_common.secagg.step_coordinator import StepCoordinator
from dura_common.secagg.step_site import StepSite
from dura_common.secagg.wire import Type

Tamper = Callable[[str, bytes], bytes | None]
"""(site, frame on its way) to what arrives; None drops it."""


def honest(_site: str, frame: bytes) -> bytes:
    """Pass every frame on as it is."""
    return frame


def identities(count: int) -> dict[str, Ed25519PrivateKey]:
    """Return fresh identities by name, sorted."""
    return {f"site-{number:03d}": Ed25519PrivateKey.generate() for number in range(count)}


def parameters(
    members: Mapping[str, Ed25519PrivateKey], *, kind: Kind, length: int, steps: int = 1, **changes: object
) -> SessionParameters:
    """Return parameters for these members; every value may be changed."""
    count = len(members)
    values: dict[str, object] = {
        "study": "11" * 32,
        "roster": "22" * 32,
        "purpose": "train",
        "round": 1,
        "attempt": 1,
        "first_step": 1,
        "steps": steps,
        "state": "33" * 32,
        "length": length,
        "ring_bits": 32,
        "kind": kind,
        "members": tuple(Member(name, members[name].public_key().public_bytes_raw()) for name in sorted(members)),
        "threshold": count if kind is Kind.STEP else smallest_threshold(count, 0),
        "minimum": 2,
        "colluders": 0,
    }
    return SessionParameters(**{**values, **changes})  # type: ignore[arg-type]  # values by name


@dataclass
class Simulation:
    """One session with all its sites.

    Args:
        params: of the session.
        members: identities by name.
        vectors: (site, step) to the vector that it adds.
        drops: for a frame type, the sites that are lost before they send it.
        upward: what happens to frames on their way to the coordinator.
        downward: what happens to frames on their way to a site.
    """

    params: SessionParameters
    members: Mapping[str, Ed25519PrivateKey]
    vectors: Callable[[str, int], NDArray[np.int64]]
    drops: Mapping[Type, Collection[str]] = field(default_factory=dict)
    upward: Tamper = honest
    downward: Tamper = honest
    notes: Mapping[str, bytes] = field(default_factory=dict)
    """What sites say to the others with their keys; zeros if nothing is given."""
    aborted: dict[str, Abort] = field(default_factory=dict)
    """Sites whose side ended the session, and why."""
    seen: dict[str, list[bytes]] = field(default_factory=dict)
    """What the coordinator received, by site: its whole view apart from what it sent."""

    def run(self) -> list[Opened]:
        """Run to the end and return what was opened at the coordinator.

        Raises:
            Abort: the coordinator ended the session.
        """
        step = self.params.kind is Kind.STEP
        side = StepSite if step else RoundSite
        self.sites: dict[str, Site] = {
            name: side(self.params, name, self.members[name], self.notes.get(name)) for name in self.params.names
        }
        self.coordinator = StepCoordinator(self.params) if step else RoundCoordinator(self.params)
        self.opened_at: dict[str, list[Opened]] = {name: [] for name in self.params.names}
        self._steps = dict.fromkeys(self.params.names, self.params.first_step)
        self._queue: deque[tuple[str, bytes | None]] = deque()
        for name, site in self.sites.items():
            self._send(name, site.advertise())
        opened = []
        while not self.coordinator.ended:
            progress = self._progress()
            if progress.opened is not None:
                opened.append(progress.opened)
            for receiver, outgoing in progress.outgoing.items():
                self._deliver(receiver, bytes(outgoing))
        return opened

    def _progress(self) -> Progress:
        if not self._queue:
            return self.coordinator.close()  # nothing is on its way any more: the time of the stage is over
        name, frame = self._queue.popleft()
        return self.coordinator.lost(name) if frame is None else self.coordinator.receive(name, frame)

    def _send(self, name: str, frame: bytes) -> None:
        if name in self.drops.get(Type(frame[0]), ()):
            self._queue.append((name, None))
            return
        changed = self.upward(name, frame)
        if changed is not None:
            self.seen.setdefault(name, []).append(changed)
        self._queue.append((name, changed))

    def _deliver(self, name: str, frame: bytes) -> None:
        changed = self.downward(name, frame)
        site = self.sites[name]
        if changed is None or site.ended:
            return
        try:
            reaction = site.receive(changed)
            if reaction.opened is not None:
                self.opened_at[name].append(reaction.opened)
                self._steps[name] = reaction.opened.step + 1
            if reaction.reply is not None:
                self._send(name, reaction.reply)
            if reaction.ready:
                self._send(name, bytes(site.mask(self.vectors(name, self._steps[name]))))
        except Abort as abort:
            self.aborted[name] = abort
            self._queue.append((name, None))

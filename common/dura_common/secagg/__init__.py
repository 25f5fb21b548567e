"""Secure aggregation: the coordinator learns sums over sites and nothing about a single site, even if it lies.

Bonawitz et al. 2017 (CCS), the variant against an active adversary, on the complete graph. Everything here is bytes
in, bytes out: no network, no file, no clock. Two kinds of session on the same kind of keys:

- ``Kind.STEP``: keys once, then one message from each site for every step; it needs all sites;
- ``Kind.ROUND``: one sum that tolerates dropouts at every stage.

A site::

    site = open_site(params, "north", identity)    # params from the approved study, never from a message
    send(site.advertise())
    for frame in from_coordinator:
        reaction = site.receive(frame)              # raises Abort: the session is over, its secrets are erased
        if reaction.opened: use(reaction.opened.total)
        if reaction.reply: send(reaction.reply)
        if reaction.ready: send(site.mask(vector))  # int64 (length,), once each step

The coordinator::

    coordinator = open_coordinator(params)
    progress = coordinator.receive(sender, frame)   # or .lost(sender), or .close() at the end of a stage's time
    for name, frame in progress.outgoing.items(): send(name, frame)
    if progress.opened: use(progress.opened)

``tests/support/secagg/sim.py`` runs whole sessions in memory.
"""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from dura_common.secagg import wire
from dura_common.secagg.abort import Abort, Reason
from dura_common.secagg.coordinator import Coordinator, Progress
from dura_common.secagg.params import Kind, Member, SessionParameters, smallest_threshold
from dura_common.secagg.ring import FixedPoint, largest_value
from dura_common.secagg.round_coordinator import RoundCoordinator
from dura_common.secagg.round_site import RoundSite
from dura_common.secagg.site import Heard, Opened, Reaction, Site
from dura_common.secagg.step_coordinator import StepCoordinator
from dura_common.secagg.step_site import StepSite

__all__ = [
    "Abort",
    "Coordinator",
    "FixedPoint",
    "Heard",
    "Kind",
    "Member",
    "Opened",
    "Progress",
    "Reaction",
    "Reason",
    "SessionParameters",
    "Site",
    "largest_value",
    "max_frame",
    "open_coordinator",
    "open_site",
    "smallest_threshold",
]

FROM_SITE = wire.HEADER + 2 * wire.INDEX + wire.COMMITMENT + 2 * wire.KEY + wire.SIGNATURE
"""More than the fixed parts of any frame."""


def max_frame(params: SessionParameters) -> int:
    """Return the size of the largest frame of a session in either direction; a larger frame is refused unread."""
    vector = (params.length + wire.CHECK_WORDS) * params.ring_bits // 8
    item = wire.INDEX + max(wire.SEALED, 2 * wire.KEY + params.note_size + wire.SIGNATURE)
    return FROM_SITE + max(vector, len(params.members) * item)


def open_site(
    params: SessionParameters,
    name: str,
    identity: Ed25519PrivateKey,
    note: bytes | None = None,
    heard: Heard | None = None,
) -> Site:
    """Return a site's side of a session of either kind; see :class:`Site` for the arguments."""
    return (StepSite if params.kind is Kind.STEP else RoundSite)(params, name, identity, note, heard)


def open_coordinator(params: SessionParameters) -> Coordinator:
    """Return the coordinator's side of a session of either kind."""
    return (StepCoordinator if params.kind is Kind.STEP else RoundCoordinator)(params)

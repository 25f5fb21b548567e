"""Messages to nodes over Flower's grid. They are polled often; the grid's own call would sleep three seconds a turn."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from dura_common.runtime.bell import ring

log = logging.getLogger(__name__)

POLL_SECONDS = 0.2


def nodes_by_key(grid: Grid, keys: Mapping[str, str]) -> dict[str, int]:
    """Return the online nodes of the named sites. A node's authenticated public key tells which site it is.

    ``keys`` maps a site's name to its node key (OpenSSH text). Flower stores keys as PEM.
    """
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415  # only this function needs it
        Encoding,
        PublicFormat,
        load_pem_public_key,
        load_ssh_public_key,
    )

    def raw(key: object) -> bytes:
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined,no-any-return]  # a union of public-key types

    wanted = {raw(load_ssh_public_key(text.encode())): name for name, text in keys.items()}
    online = set(grid.get_node_ids())
    found: dict[str, int] = {}
    for node in grid.get_nodes():  # HttpGrid has it, the abstract Grid has not
        if node.node_id not in online or not node.public_key:
            continue
        name = wanted.get(raw(load_pem_public_key(node.public_key)))
        if name is not None:
            found[name] = node.node_id
    return found


class Pending:
    """Messages on their way to nodes, and the replies that have come back so far."""

    def __init__(
        self, grid: Grid, messages: Mapping[int, RecordDict], *, message_type: str, ttl: float, bell: Path | None = None
    ) -> None:
        self._grid = grid
        self.replies: dict[int, RecordDict | None] = {}
        """Replies by node; None for a node that failed."""
        outgoing = [
            Message(content, dst_node_id=node, message_type=message_type, ttl=ttl) for node, content in messages.items()
        ]
        identifiers = grid.push_messages(outgoing) if outgoing else []
        if bell is not None:
            ring(bell)
        self._waiting = dict(zip(identifiers, messages, strict=True))

    def poll(self) -> bool:
        """Fetch the replies that have arrived, and return whether all replies are complete."""
        if not self._waiting:
            return True
        for reply in self._grid.pull_messages(tuple(self._waiting)):
            node = self._waiting.pop(reply.metadata.reply_to_message_id, None)
            if node is None:
                log.warning("a reply to a message that was never sent")
            elif reply.has_error():
                log.warning("node %d: error code %d", node, reply.error.code)
                self.replies[node] = None
            else:
                self.replies[node] = reply.content
        return not self._waiting

    def wait(self, seconds: float, *, but: Collection[int] = ()) -> None:
        """Wait for missing replies, at most so long, and not at all for the nodes ``but``."""
        deadline = time.monotonic() + seconds
        while not self.poll() and not set(self._waiting.values()) <= set(but) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


def exchange(
    grid: Grid, messages: Mapping[int, RecordDict], *, message_type: str, timeout: float
) -> dict[int, RecordDict | None]:
    """Send one message to each node and wait for the replies; None for a node that failed or was too late."""
    pending = Pending(grid, messages, message_type=message_type, ttl=timeout)
    pending.wait(timeout)
    return {node: pending.replies.get(node) for node in messages}

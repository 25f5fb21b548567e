"""Nodes ask for messages again and again; who was told that there is none waits here for the next one to be sent."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from dura_common.runtime.bell import Bell

PULL = b"/v1/fleet/pull-messages"
HOLD_SECONDS = 10.0
"""A node waits 30 s for an answer; a ring may be lost with the process that hears it."""


class Pulls:
    """Holds the questions of members' nodes; ``bell`` rings after messages were sent."""

    def __init__(self, bell: Bell) -> None:
        self._bell = bell
        self._rings = 0
        self._rung = asyncio.Event()
        self._over = False
        self._told: dict[bytes, int] = {}
        """Maps a member's node key to the rings before it was told that there is no message."""

    def listen(self) -> None:
        """Hear the bell in the running loop."""
        asyncio.get_running_loop().add_reader(self._bell.fileno(), self._ring)

    async def hold(self, key: bytes) -> int:
        """Wait while there is nothing new for a node; return the rings before its question is passed on."""
        if self._told.get(key) == self._rings and not self._over:
            with suppress(TimeoutError):
                async with asyncio.timeout(HOLD_SECONDS):
                    await self._rung.wait()
        return self._rings

    def end(self) -> None:
        """Hold no question from now on: a service that ends waits for nobody."""
        self._over = True
        self._rung.set()

    def answered(self, key: bytes, rings: int, *, empty: bool) -> None:
        """Note whether a node was told that there is no message."""
        if empty:
            self._told[key] = rings
        else:
            self._told.pop(key, None)

    def _ring(self) -> None:
        self._bell.hush()
        self._rings += 1
        self._rung.set()
        self._rung = asyncio.Event()

"""A node that was told that there is no message is answered again when one was sent, or after a while."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from dura_common.runtime.bell import Bell, ring
from dura_server.services import pulls as module
from dura_server.services.pulls import Pulls

ONE, TWO = b"1" * 32, b"2" * 32


def play(tmp_path: Path, scene: Callable[[Pulls], Awaitable[None]]) -> None:
    """Run a scene with a bell."""

    async def main() -> None:
        pulls = Pulls(Bell(tmp_path / "bell"))
        pulls.listen()
        await scene(pulls)

    asyncio.run(main())


def test_a_ring_ends_the_wait_of_all(tmp_path: Path) -> None:
    """Both nodes wait after an empty answer; one ring lets both ask."""

    async def scene(pulls: Pulls) -> None:
        for key in (ONE, TWO):
            pulls.answered(key, await pulls.hold(key), empty=True)
        waiting = [asyncio.create_task(pulls.hold(key)) for key in (ONE, TWO)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)
        ring(tmp_path / "bell")
        assert await asyncio.wait_for(asyncio.gather(*waiting), 5) == [1, 1]

    play(tmp_path, scene)


def test_what_was_sent_while_a_node_was_busy_is_asked_for_at_once(tmp_path: Path) -> None:
    """A ring between an empty answer and the next question counts, and so does one while the question was passed on."""

    async def scene(pulls: Pulls) -> None:
        rings = await pulls.hold(ONE)
        ring(tmp_path / "bell")
        await asyncio.sleep(0.05)
        pulls.answered(ONE, rings, empty=True)
        assert await asyncio.wait_for(pulls.hold(ONE), 5) == 1

    play(tmp_path, scene)


def test_a_node_that_was_given_a_message_asks_for_the_next_at_once(tmp_path: Path) -> None:
    """Several messages may have been sent with one ring."""

    async def scene(pulls: Pulls) -> None:
        for _ in range(3):
            pulls.answered(ONE, await asyncio.wait_for(pulls.hold(ONE), 5), empty=False)

    play(tmp_path, scene)


def test_a_lost_ring_costs_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any ring the question is passed on all the same."""
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.05)

    async def scene(pulls: Pulls) -> None:
        pulls.answered(ONE, await pulls.hold(ONE), empty=True)
        assert await asyncio.wait_for(pulls.hold(ONE), 5) == 0

    play(tmp_path, scene)


def test_a_service_that_ends_keeps_nobody_waiting(tmp_path: Path) -> None:
    """Held questions are passed on at once, and later ones are not held; otherwise a stop would wait for them."""

    async def scene(pulls: Pulls) -> None:
        pulls.answered(ONE, await pulls.hold(ONE), empty=True)
        waiting = asyncio.create_task(pulls.hold(ONE))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        pulls.end()
        assert await asyncio.wait_for(waiting, 1) == 0
        pulls.answered(ONE, 0, empty=True)
        assert await asyncio.wait_for(pulls.hold(ONE), 1) == 0

    play(tmp_path, scene)

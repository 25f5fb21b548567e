"""Waiting for nodes: for all of them, for some of them, and no longer than told."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from flwr.app import Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from dura_server.rounds import exchange
from dura_server.rounds.exchange import Pending


class Line:
    """A grid of nodes that answer at their own turn of polling, or never."""

    def __init__(self, turns: dict[int, int]) -> None:
        self.turns = turns
        self.polls = 0
        self._asked: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Take messages and name them."""
        for message in messages:
            message.metadata._message_id = f"message-{message.metadata.dst_node_id}"  # as Flower's grid does
            self._asked[message.metadata.message_id] = message
        return list(self._asked)

    def pull_messages(self, identifiers: Iterable[str]) -> list[Message]:
        """Hand out the replies whose turn has come."""
        self.polls += 1
        due = [self._asked[one] for one in identifiers]
        return [
            Message(RecordDict(), reply_to=message)
            for message in due
            if self.turns.get(message.metadata.dst_node_id, self.polls + 1) <= self.polls
        ]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll without pauses, as a task of some run: Flower's messages name it."""
    monkeypatch.setattr(exchange, "POLL_SECONDS", 0.0)
    for name, value in {"_task_id": 1, "_run_id": 1, "_node_id": 0}.items():
        monkeypatch.setattr(TaskIdentity, name, value)


def asked(grid: Any, *nodes: int) -> Pending:
    """Ask the nodes something."""
    return Pending(grid, {node: RecordDict() for node in nodes}, message_type="query", ttl=60)


def test_all_answer() -> None:
    """The wait ends with the last answer."""
    line = Line({1: 1, 2: 3})
    pending = asked(line, 1, 2)
    pending.wait(60)
    assert set(pending.replies) == {1, 2}
    assert line.polls == 3


def test_a_lost_node_is_not_waited_for() -> None:
    """The wait ends when everybody else has answered; an answer of the lost one that came by then counts."""
    line = Line({1: 1, 3: 4})
    pending = asked(line, 1, 2, 3)
    pending.wait(60, but={2})
    assert set(pending.replies) == {1, 3}
    assert line.polls == 4
    line = Line({1: 3, 2: 1})
    pending = asked(line, 1, 2)
    pending.wait(60, but={2})
    assert set(pending.replies) == {1, 2}


def test_the_time_is_over() -> None:
    """A node that is needed and silent is waited for until the time is over, and has no answer."""
    line = Line({1: 1})
    pending = asked(line, 1, 2)
    pending.wait(0.05)
    assert set(pending.replies) == {1}
    assert line.polls > 1

"""Flower's SecAgg+ (1.41), its own workflow and client mod, over a grid in memory: what ours is measured against."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from flwr import common
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.compat.common import recorddict_compat as compat
from flwr.server.client_manager import SimpleClientManager
from flwr.server.compat import LegacyContext
from flwr.server.compat.grid_client_proxy import GridClientProxy
from flwr.server.strategy import FedAvg
from flwr.server.workflow import SecAggPlusWorkflow
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray


class Grid:
    """Hands messages to the clients' mods, notes their time, and hands back what they answer."""

    def __init__(self, vectors: Sequence[NDArray[np.float32]]) -> None:
        self.vectors = vectors
        self.seconds = 0.0
        self.contexts = {node: _context(node) for node in range(1, len(vectors) + 1)}

    def send_and_receive(self, messages: Iterable[Message], **_: object) -> list[Message]:
        """Run one stage at every client."""
        mine = [_own(one) for one in messages]
        begin = time.perf_counter()
        replies = [secaggplus_mod(one, self.contexts[one.metadata.dst_node_id], self._fit) for one in mine]
        self.seconds += time.perf_counter() - begin
        return replies

    def _fit(self, message: Message, context: Context) -> Message:
        result = common.FitRes(
            status=common.Status(common.Code.OK, ""),
            parameters=common.ndarrays_to_parameters([self.vectors[context.node_id - 1]]),
            num_examples=1,
            metrics={},
        )
        return Message(compat.fitres_to_recorddict(result, keep_input=False), reply_to=message)


def _own(message: Message) -> Message:
    """Give a message records of its own: the workflow sends one object to all, and the mod takes entries out of it."""
    content = RecordDict(dict(message.content))
    for name, record in content.config_records.items():
        content[name] = ConfigRecord(dict(record))
    message.content = content
    return message


def _context(node: int) -> Context:
    return Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})


def run_flower(vectors: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    """Return seconds of one client (mean over all) and of the server for one session; complete graph."""
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0
    grid: Any = Grid(vectors)
    manager = SimpleClientManager()
    for node in grid.contexts:
        manager.register(GridClientProxy(node, grid, 1))
    context = LegacyContext(
        _context(0),
        strategy=FedAvg(min_fit_clients=len(vectors), min_available_clients=len(vectors)),
        client_manager=manager,
    )
    start = [np.zeros(1, dtype=np.float32)]  # what the clients train from is no part of the comparison
    context.state["config"] = ConfigRecord({"current_round": 1})
    context.state["parameters"] = compat.parameters_to_arrayrecord(
        common.ndarrays_to_parameters(start), keep_input=True
    )
    begin = time.perf_counter()
    SecAggPlusWorkflow(num_shares=1.0, reconstruction_threshold=0.5, max_weight=1.0)(grid, context)
    whole = time.perf_counter() - begin
    record = context.state.array_records["parameters"]
    mean = common.parameters_to_ndarrays(compat.arrayrecord_to_parameters(record, keep_input=True))[0]
    if np.abs(mean - np.mean(vectors, axis=0)).max() > 1e-4:
        raise AssertionError("Flower's mean is wrong: the comparison would be void")
    return grid.seconds / len(vectors), whole - grid.seconds

"""The ServerApp: finds the study that the run is about and carries its messages over Flower."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from dura_common.errors import DuraError, InputError, PolicyError
from dura_common.messages import EvaluateRound, Reply, Request, TrainRound, decode_reply, encode
from dura_common.transport import from_records, to_records
from dura_server.exchange import exchange, nodes_by_key
from dura_server.home import CoordinatorHome
from dura_server.rounds import Rounds, Vector, first_parameters
from dura_server.study_store import StoredStudy, StudyStore

log = logging.getLogger(__name__)

app = ServerApp()

QUERY_SECONDS = 120.0
TRAIN_SECONDS = 3600.0


class FlowerSites:
    """The sites of a study, reached through Flower's grid; a node is a site by its authenticated public key."""

    def __init__(self, grid: Grid, stored: StoredStudy, *, max_parameters: int) -> None:
        self._grid = grid
        self._keys = {site.name: site.node_key for site in stored.roster.sites}
        self._max_parameters = max_parameters

    def exchange(
        self, names: tuple[str, ...], request: Request, vector: Vector | None
    ) -> Mapping[str, tuple[Reply, Vector | None] | None]:
        """Send one request to the named sites and return their replies by name."""
        nodes = nodes_by_key(self._grid, {name: self._keys[name] for name in names})
        training = isinstance(request, TrainRound)
        kind = "train" if training else "evaluate" if isinstance(request, EvaluateRound) else "query"
        replies = exchange(
            self._grid,
            {node: to_records(encode(request), vector) for node in nodes.values()},
            message_type=kind,
            timeout=TRAIN_SECONDS if vector is not None else QUERY_SECONDS,
        )
        return {name: self._decode(name, replies.get(nodes[name])) if name in nodes else None for name in names}

    def _decode(self, name: str, content: object) -> tuple[Reply, Vector | None] | None:
        if content is None:
            return None
        try:
            body, vector = from_records(content, max_parameters=self._max_parameters)
            return decode_reply(body), vector
        except InputError as error:
            log.warning("%s sent a reply of another form: %s", name, error.message)
            return None


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one job of one study: ``offer`` or ``train``; the outcome is in the coordinator's study folder."""
    home = CoordinatorHome(Path(os.environ["DURA_COORDINATOR_HOME"]))
    stored = StudyStore(home).load(str(context.run_config["study"]))
    sites = FlowerSites(grid, stored, max_parameters=max(first_parameters(stored.study).size, 2))
    rounds = Rounds(stored, sites)
    try:
        if context.run_config["job"] == "offer":
            rounds.offer()
        else:
            rounds.train()
    except PolicyError:
        raise  # the sites have not approved: the state says so, and the study may be run again
    except DuraError as error:
        stored.update(phase="failed", message=error.message)
        raise
    except Exception:
        stored.update(phase="failed", message="the run failed inside the coordinator; see its log")
        raise

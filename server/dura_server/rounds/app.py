"""The ServerApp: finds the study of the run and carries its messages over Flower."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from dura_common.consortium.roster import Roster
from dura_common.errors import DuraError, InputError, PolicyError
from dura_common.messages import EvaluateRound, Refusal, Reply, Request, TrainRound, decode_reply, encode
from dura_common.messages.records import from_records, to_records
from dura_common.runtime.flower.waits import shorten_pulls
from dura_common.runtime.running import Lock
from dura_server.consortium.enrolment import read_roster
from dura_server.home import CoordinatorHome
from dura_server.rounds.ending import Ended, ended_in_order, told_to
from dura_server.rounds.exchange import Pending, nodes_by_key
from dura_server.rounds.ports import Vector
from dura_server.rounds.roll import Roll
from dura_server.rounds.rosters import exchange_rosters
from dura_server.studies.store import StoredStudy, StudyStore
from dura_server.sums.plane import PlaneSessions

log = logging.getLogger(__name__)

app = ServerApp()

QUERY_TTL = 120.0
TRAIN_TTL = 7 * 86_400.0
"""Seconds after which Flower drops a message, or the answer to it. Training may take days; attempts only grow."""
REFUSAL_POLL_SECONDS = 1.0
REPLY_SECONDS = 5.0
"""Seconds after which a reply is given up that was announced and does not come: the connection of its node broke."""


class FlowerSites:
    """The sites of a study, reached through Flower's grid; a node is a site by its authenticated public key.

    ``bell`` wakes nodes that wait for messages.
    """

    def __init__(self, grid: Grid, roster: Roster, bell: Path | None = None) -> None:
        self._grid = grid
        self._bell = bell
        self._keys = {site.name: site.node_key for site in roster.sites}

    def ask(self, names: tuple[str, ...], request: Request, vector: Vector | None) -> FlowerReplies:
        """Send one request to the named sites."""
        nodes = nodes_by_key(self._grid, {name: self._keys[name] for name in names})
        kind = (
            "train"
            if isinstance(request, TrainRound)
            else "evaluate"
            if isinstance(request, EvaluateRound)
            else "query"
        )
        pending = Pending(
            self._grid,
            {node: to_records(encode(request), vector) for node in nodes.values()},
            message_type=kind,
            ttl=QUERY_TTL if vector is None else TRAIN_TTL,
            bell=self._bell,
        )
        return FlowerReplies(pending, names, nodes)


class FlowerReplies:
    """Replies by site; a reply of another form counts as missing."""

    def __init__(self, pending: Pending, names: tuple[str, ...], nodes: Mapping[str, int]) -> None:
        self._pending = pending
        self._names = names
        self._nodes = nodes
        self._polled = 0.0

    def refused(self) -> int:
        """Return how many sites have refused, failed, or were not online."""
        if time.monotonic() - self._polled > REFUSAL_POLL_SECONDS:
            self._pending.poll()
            self._polled = time.monotonic()
        failed = sum(
            reply is None or isinstance(_decode(name, reply), Refusal | None)
            for name, node in self._nodes.items()
            if (reply := self._pending.replies.get(node, _MISSING)) is not _MISSING
        )
        return failed + len(self._names) - len(self._nodes)

    def absent(self) -> frozenset[str]:
        """Return the sites that were not connected when they were asked."""
        return frozenset(self._names) - self._nodes.keys()

    def collect(self, seconds: float, *, but: Collection[str] = ()) -> Mapping[str, Reply | None]:
        """Wait for missing replies, at most so long, and not at all for replies of ``but``."""
        self._pending.wait(seconds, but={self._nodes[name] for name in but if name in self._nodes})
        return {name: _decode(name, self._pending.replies.get(self._nodes.get(name, -1))) for name in self._names}


_MISSING = object()


def _decode(name: str, content: object) -> Reply | None:
    if content is None:
        return None
    try:
        body, _ = from_records(content, max_parameters=1)  # if a vector came all the same, it is ignored
        return decode_reply(body)
    except InputError as error:
        log.warning("%s sent a reply of another form: %s", name, error.message)
        return None


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one job of one study: ``offer`` or ``train``; the outcome is in the coordinator's study folder."""
    shorten_pulls(longest=REPLY_SECONDS)
    home = CoordinatorHome(Path(os.environ["DURA_COORDINATOR_HOME"]))
    stored = StudyStore(home).load(str(context.run_config["study"]))
    with told_to(home.logs / "serverapp.log"), Lock(stored.run_folder), ended_in_order() as end:
        try:
            _work(home, stored, grid, str(context.run_config["job"]))
        except PolicyError:
            raise  # the sites have not approved: the state says so, and the study may be run again
        except Ended:
            end.accept()
            asked = stored.stop_file.exists()
            stored.update(
                phase="stopped" if asked else "interrupted",
                message="stopped by the operator"
                if asked
                else "its process was told to end, with the coordinator's services",
            )
        except DuraError as error:
            log.exception("the study failed")
            stored.update(phase="failed", message=error.message)
            raise
        except Exception:
            log.exception("the study failed inside the coordinator")
            stored.update(phase="failed", message="the run failed inside the coordinator; see its serverapp.log")
            raise


def _work(home: CoordinatorHome, stored: StoredStudy, grid: Grid, job: str) -> None:
    if stored.stop_file.exists():
        raise Ended  # it was stopped while Flower was starting this process
    sites = FlowerSites(grid, stored.roster, home.bell)
    if job == "offer":
        Roll(stored, sites).offer(exchange_rosters(home, FlowerSites(grid, read_roster(home)[0], home.bell)))
        return
    roll = Roll(stored, sites)
    roll.collect_approvals()
    from dura_server.rounds.rounds import Rounds  # noqa: PLC0415  # torch takes seconds; here it is needed, not before

    Rounds(stored, sites, PlaneSessions(home), roll).train()

"""Flower's SuperNode as dura runs it (flwr 1.41.0, pinned exactly): with short waits, and none that never ends.

Flower has no settings for the following, so names in its modules are replaced:

- idle sleeps of 3 s and 0.5 s become 0.2 s, and back-offs of 1 to 10 s become shorter than 0.5 s;
- objects that the coordinator announced and never sent (its process died) are given up after :data:`MISSING_SECONDS`
  without a new object; Flower tries 500 times, which takes 80 minutes, and the node answers nobody meanwhile;
- a coordinator that could not be reached is tried again after at most :data:`RETRY_SECONDS`, not after 20 s;
- a coordinator that fails at a request (its disk is full) is tried again too. Flower would end the thread that sends
  heartbeats, and the running node would count as gone for ever;
- a node that was killed signs off and on again; Flower would refuse it for a minute;
- a second signal does not end a node that is signing off.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.exit import flwr_exit, signal_handler
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError, pull_objects
from flwr.supercore.retry import http_retry
from flwr.supernode import start_client_internal
from flwr.supernode.fleet_http_client import FleetHttpClient

from dura_client.node.bounds import PULL, bound
from dura_client.node.flower_adapter import LEASE_INTERVAL, quicken
from dura_client.site.home import SiteHome
from dura_common.runtime.bell import ring
from dura_common.runtime.files import read_limited, write_atomic
from dura_common.runtime.flower.sockets import serve_at
from dura_common.runtime.flower.waits import override

SHORTEST_IDLE = 0.2
MISSING_SECONDS = 15.0
RETRY_SECONDS = 2
ACTIVATION_SECONDS = 90.0
"""An activation lapses after a minute without heartbeats; a new member is registered within seconds."""

Pull = Callable[[str], bytes]
Call = Callable[[FleetHttpClient, Any], Any]


def run_supernode(socket: Path) -> None:
    """Run Flower's SuperNode, which serves tasks at a socket; see the module."""
    command = import_module("flwr.supernode.cli.flower_supernode")
    serve_at(command, socket)
    quicken()
    shortened = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("__")})
    shortened.sleep = lambda seconds: time.sleep(min(seconds, SHORTEST_IDLE))
    override(start_client_internal, "time", shortened)
    override(start_client_internal, "pull_objects", _bounded(pull_objects))
    override(in_memory_corestate, "HEARTBEAT_DEFAULT_INTERVAL", LEASE_INTERVAL)
    override(http_retry, "MAX_RETRY_DELAY", RETRY_SECONDS)
    override(FleetHttpClient, "ActivateNode", _returning(FleetHttpClient.ActivateNode))
    override(FleetHttpClient, "PullMessages", _outlasting(FleetHttpClient.PullMessages))
    override(FleetHttpClient, "SendNodeHeartbeat", _outlasting(_known(FleetHttpClient.SendNodeHeartbeat)))
    override(signal_handler, "flwr_exit", _undisturbed(flwr_exit))
    bound(command)
    override(start_client_internal, PULL, _ringing(getattr(start_client_internal, PULL), socket.with_suffix(".bell")))
    command.flower_supernode()


def _undisturbed(leave: Callable[..., Any]) -> Callable[..., Any]:
    """Ignore signals from now on: Flower's handler resets them, and the next one would end the process at once."""

    def left(**words: Any) -> Any:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        return leave(**words)

    return left


def _ringing(pull: Callable[..., int | None], bell: Path) -> Callable[..., int | None]:
    """Wake the runner when there is a task."""

    def pulled(**parts: Any) -> int | None:
        run = pull(**parts)
        if run is not None:
            ring(bell)
        return run

    return pulled


def _bounded(pull_all: Callable[..., dict[str, bytes]]) -> Callable[..., dict[str, bytes]]:
    """Give up on objects when none has arrived for a while."""

    def pull(object_ids: list[str], pull_object_fn: Pull, **options: Any) -> dict[str, bytes]:
        last = time.monotonic()

        def one(object_id: str) -> bytes:
            nonlocal last
            try:
                content = pull_object_fn(object_id)
            except ObjectUnavailableError:
                if time.monotonic() - last > MISSING_SECONDS:
                    raise ObjectPullError(object_id, "the coordinator has announced it and does not send it") from None
                raise
            last = time.monotonic()
            return content

        return pull_all(object_ids, one, **options)

    return pull


def _returning(activate: Call) -> Call:
    """Sign off a node that was killed but still counts as active, then sign it on; wait where that is not possible.

    The gateway refuses a node that is not on the roster. Its answer has a detail, and waiting does not help.
    """
    home = SiteHome(Path(os.environ["DURA_SITE_HOME"]))
    note = home.run / "node-id"

    def returned(client: FleetHttpClient, request: Any) -> Any:
        deadline = time.monotonic() + ACTIVATION_SECONDS
        while True:
            try:
                response = activate(client, request)
            except httpx.HTTPStatusError as error:
                said = FlowerError.from_json(error.response.text)
                if said is None or said.code != ApiErrorCode.FLEET_NODE_ACTIVATION_FAILED:
                    raise
                if said.public_details is not None or time.monotonic() > deadline:
                    home.refused.touch()
                    raise
                if note.exists():
                    _sign_off(client, int(read_limited(note, what="the node's number")))
                    note.unlink(missing_ok=True)
                else:
                    time.sleep(RETRY_SECONDS)
                continue
            home.refused.unlink(missing_ok=True)
            write_atomic(note, str(response.node_id).encode())
            home.signed_on.touch()
            return response

    return returned


def _outlasting(call: Call) -> Call:
    """Treat a failure inside the coordinator like a failed connection, which is tried again."""

    def outlasted(client: FleetHttpClient, request: Any) -> Any:
        try:
            return call(client, request)
        except httpx.HTTPStatusError as error:
            if error.response.is_server_error:
                raise httpx.ReadError(f"the coordinator failed at a request: {error.response.status_code}") from error
            raise

    return outlasted


def _known(beat: Call) -> Call:
    """End the process if the coordinator no longer knows this node: its supervisor starts it, and it signs on again."""

    def beaten(client: FleetHttpClient, request: Any) -> Any:
        response = beat(client, request)
        if not response.success:
            os.kill(os.getpid(), signal.SIGTERM)
        return response

    return beaten


def _sign_off(client: FleetHttpClient, node: int) -> None:
    with suppress(httpx.HTTPError, RuntimeError):  # it was not active after all
        client.DeactivateNode(DeactivateNodeRequest(node_id=node))

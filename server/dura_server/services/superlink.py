"""The only module at the coordinator that touches Flower's internals (flwr 1.41.0, pinned exactly).

It talks to the SuperLink's Control API over a socket. It registers and unregisters the nodes of the roster, starts a
run and asks how a run ended. The app bundle holds a few lines of configuration and no code: the ServerApp comes from
the installed package, and sites never unpack a bundle at all.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
    load_ssh_public_key,
)
from flwr.cli.build import build_fab_from_disk
from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor
from flwr.common.constant import HEARTBEAT_PATIENCE
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from dura_common.consortium.roster import Roster
from dura_common.errors import HostError
from dura_common.runtime.bell import ring
from dura_common.runtime.files import private_folder, write_atomic
from dura_common.runtime.flower.sockets import client_at
from dura_server.home import CoordinatorHome

APP = """\
[project]
name = "dura"
version = "1.0.0"
license = "Apache-2.0"
dependencies = ["flwr>=1.41.0"]
[tool.flwr.app]
publisher = "dura"
[tool.flwr.app.components]
serverapp = "dura_server.rounds.app:app"
clientapp = "dura_client.node.app:app"
[tool.flwr.app.config]
study = ""
job = ""
"""
GONE, ONLINE = "unregistered", "online"


@contextmanager
def control(home: CoordinatorHome) -> Iterator[ControlHttpClient]:
    """Open the Control API of the running SuperLink.

    Raises:
        HostError: the SuperLink cannot be reached, or refuses.
    """
    client = client_at(
        ControlHttpClient,
        home.superlink_socket,
        interceptors=[CliClientHttpInterceptor(), RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
    )
    try:
        yield client
    except httpx.HTTPError as error:
        raise HostError(
            "the coordinator's SuperLink does not answer",
            hint="Is it running? `dura coordinator status`, `dura coordinator start`.",
        ) from error
    finally:
        client.close()


def reconcile_nodes(home: CoordinatorHome, roster: Roster) -> None:
    """Make the SuperLink's list of nodes equal to the roster: admit new keys, drop removed ones."""
    wanted = {_pem_of_ssh(site.node_key): site.name for site in roster.sites}
    with control(home) as client:
        known = {
            bytes(node.public_key): node.node_id
            for node in client.ListNodes(ListNodesRequest()).nodes_info
            if node.status != GONE
        }
        known = {_normal(key): node for key, node in known.items()}
        for key, name in wanted.items():
            if key not in known:
                client.RegisterNode(RegisterNodeRequest(public_key=key, name=name))
        for key, node in known.items():
            if key not in wanted:
                client.UnregisterNode(UnregisterNodeRequest(node_id=node))


def submit_run(home: CoordinatorHome, run_config: Mapping[str, str]) -> int:
    """Start a run of the installed ServerApp and return its id.

    Raises:
        HostError: the SuperLink cannot be reached, or refuses.
    """
    content = _bundle(home)
    bundle = Fab(sha256(content).hexdigest(), content, {})
    request = StartRunRequest(fab=fab_to_proto(bundle), override_config=user_config_to_proto(dict(run_config)))
    with control(home) as client:
        run = int(client.StartRun(request).run_id)
    ring(home.runs_bell)
    return run


def run_status(home: CoordinatorHome, run_id: int) -> str:
    """Return Flower's status of a run, such as ``running`` or ``finished:completed``."""
    with control(home) as client:
        run = client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id]
    return ":".join(part for part in (run.status.status, run.status.sub_status) if part)


def stop_run(home: CoordinatorHome, run_id: int) -> None:
    """Tell Flower that a run is over, so that nodes drop what they still hold of it. A second call changes nothing.

    Raises:
        HostError: the SuperLink cannot be reached.
    """
    with control(home) as client, suppress(httpx.HTTPStatusError):
        client.StopRun(StopRunRequest(run_id=run_id))


@dataclass(frozen=True, slots=True)
class Contact:
    """What Flower knows of the node of a site."""

    connected: bool
    last: datetime | None
    """Its last sign of life, at most a minute too late; None if it was never connected."""


def contacts(home: CoordinatorHome, roster: Roster) -> dict[str, Contact]:
    """Return what is known of the node of each site of a roster.

    Raises:
        HostError: the SuperLink is out of reach.
    """
    with control(home) as client:
        found = client.ListNodes(ListNodesRequest()).nodes_info
    nodes = {_normal(bytes(node.public_key)): node for node in found if node.status != GONE}
    known = {}
    for site in roster.sites:
        node = nodes.get(_pem_of_ssh(site.node_key))
        online, last = node is not None and node.status == ONLINE, None
        if node is not None and node.online_until:
            ahead = HEARTBEAT_PATIENCE * node.heartbeat_interval if online else 0.0
            last = datetime.fromtimestamp(min(node.online_until - ahead, time.time()), UTC)
        known[site.name] = Contact(online, last)
    return known


def connected(home: CoordinatorHome, roster: Roster) -> dict[str, bool]:
    """Return whether the node of each site of a roster is connected.

    Raises:
        HostError: the SuperLink is out of reach.
    """
    return {name: contact.connected for name, contact in contacts(home, roster).items()}


def _bundle(home: CoordinatorHome) -> bytes:
    folder = private_folder(private_folder(home.flower) / "app")
    write_atomic(folder / "pyproject.toml", APP.encode())
    return bytes(build_fab_from_disk(Path(folder)))


def _pem_of_ssh(text: str) -> bytes:
    return load_ssh_public_key(text.encode()).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _normal(pem: bytes) -> bytes:
    return load_pem_public_key(pem).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

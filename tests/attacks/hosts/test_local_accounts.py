"""Another account on the coordinator's or a hospital's machine: which doors it finds, and what it can read.

The processes are real, and so is the other account: a process that has given up the rights of root for ``nobody``'s.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flwr.proto.control_pb2 import ListNodesRequest
from tests.attacks.hosts.probes import ProbedConsortium
from tests.support.consortium import root_key
from tests.support.processes import listening, processes_of

from dura_common.runtime.sockets import listens
from dura_server.services.superlink import control

pytestmark = [
    pytest.mark.federation,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another account"),
]

NOBODY = 65534
STRANGER = """
import encodings.idna, http.client, json, os, socket, ssl, sys  # all now: the interpreter may be root's alone
asked = json.load(sys.stdin)
os.setgroups([])
os.setgid(asked["account"])
os.setuid(asked["account"])

def post(port, path):
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=context)
    try:
        connection.request("POST", path, b"", {"content-type": "application/protobuf"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__

def knock(path):
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.connect(path)
            return "open"
        except OSError as error:
            return type(error).__name__

def read(path):
    try:
        with open(path, "rb") as stream:
            return len(stream.read())
    except OSError as error:
        return type(error).__name__

print(json.dumps({
    "posts": {path: post(port, path) for port in asked["ports"] for path in asked["paths"]},
    "knocks": {path: knock(path) for path in asked["sockets"]},
    "reads": {path: read(path) for path in asked["files"]},
}))
"""
PATHS = (
    "/v1/control/start-run",
    "/v1/control/list-runs",
    "/v1/control/list-nodes",
    "/v1/runtime/acquire-task",
    "/v1/runtime/pull-task-input",
    "/v1/fleet/../control/list-runs",
    "/docs",
    "/openapi.json",
)


@pytest.fixture(scope="module")
def running() -> Iterator[ProbedConsortium]:
    """Return a coordinator and one hospital that run, in folders whose parents are open to everybody."""
    root = Path(tempfile.mkdtemp(prefix="dura-"))
    root.chmod(0o755)
    made = ProbedConsortium(root, ("north",))
    try:
        made.make_all()
        made.start_coordinator()
        made.start_site("north")
        yield made
    finally:
        made.stop()
        shutil.rmtree(root)


def ask(made: ProbedConsortium, ports: list[int], *, account: int) -> dict[str, Any]:
    """Let an account knock at every door and open every file of coordinator, authority and hospital."""
    homes = (made.coordinator.path, made.authority.path, made.site("north").path)
    inside = [path for home in homes for path in home.rglob("*")]
    asked = {
        "account": account,
        "ports": ports,
        "paths": PATHS,
        "sockets": [str(path) for path in inside if path.is_socket()],
        "files": [str(path) for path in inside if path.is_file()],
    }
    done = subprocess.run(
        [sys.executable, "-I", "-c", STRANGER], input=json.dumps(asked), capture_output=True, text=True, check=True
    )
    answer = json.loads(done.stdout)
    assert len(answer["knocks"]) == 3
    assert len(answer["reads"]) > 20
    return dict(answer)


def private(made: ProbedConsortium) -> set[str]:
    """Return the files that nobody else may ever read."""
    keys = (made.coordinator.keys, made.site("north").keys)
    found = {str(path) for folder in keys for path in folder.iterdir() if path.suffix != ".pem" or folder != keys[0]}
    return found | {str(made.authority.root), str(made.authority.clients_key)}


def test_no_other_account_gets_in(running: ProbedConsortium) -> None:
    """No port but the two public ones listens, no socket opens, no file is read; for the own account all do."""
    doors = listening(processes_of(running.root))
    assert {port for _, port in doors} == {running.settings.port, running.settings.aggregation_port}
    stranger = ask(running, [running.settings.port], account=NOBODY)
    assert set(stranger["posts"].values()) == {404}
    assert set(stranger["knocks"].values()) == {"PermissionError"}
    assert set(stranger["reads"].values()) == {"PermissionError"}
    with control(running.coordinator) as client:
        assert [node.name for node in client.ListNodes(ListNodesRequest()).nodes_info] == ["north"]
    own = ask(running, [running.settings.port], account=0)
    assert set(own["knocks"].values()) == {"open"}
    assert all(isinstance(size, int) for size in own["reads"].values())


def test_folders_that_somebody_opened_give_nothing_away(running: ProbedConsortium) -> None:
    """With every folder open to everybody, sockets and private keys are still closed: each has a mode of its own."""
    homes = (running.coordinator.path, running.authority.path, running.site("north").path)
    folders = [folder for home in homes for folder in (home, *home.rglob("*")) if folder.is_dir()]
    before = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o755)
    try:
        stranger = ask(running, [running.settings.port], account=NOBODY)
    finally:
        for folder, mode in before.items():
            folder.chmod(mode)
    assert set(stranger["knocks"].values()) == {"PermissionError"}
    keys = private(running)
    assert len(keys) >= 9
    assert {path: stranger["reads"][path] for path in keys} == dict.fromkeys(keys, "PermissionError")
    assert any(isinstance(size, int) for size in stranger["reads"].values())  # so the folders were open


def test_the_root_key_is_not_on_the_serving_host(running: ProbedConsortium) -> None:
    """No file of the coordinator holds it, and no process of its services knows where the authority's home is."""
    root = running.authority.root
    assert root.stat().st_mode & 0o777 == 0o600
    assert root.parent.stat().st_mode & 0o777 == 0o700
    secrets = (root.read_bytes().splitlines()[1], root_key(running.coordinator).private_bytes_raw())
    files = [path for path in running.coordinator.path.rglob("*") if path.is_file()]
    assert len(files) > 10
    for path in files:
        content = path.read_bytes()
        assert not any(secret in content for secret in secrets), path
    for process in processes_of(running.coordinator.path):
        environment = Path(f"/proc/{process}/environ").read_bytes()
        assert str(running.authority.path).encode() not in environment


def test_the_list_of_processes_shows_no_token(running: ProbedConsortium) -> None:
    """A ServerApp at work has its task's token, which its command line, that everybody can read, does not show."""
    seen = running.run(SEES_ITSELF)
    assert "serverapp" in seen["line"]
    assert "--token" not in seen["line"]
    assert len(seen["token"]) >= 32
    assert seen["token"] not in seen["line"]
    assert listens(running.coordinator.superlink_socket)


SEES_ITSELF = """
def probe(grid):
    return {"line": Path("/proc/self/cmdline").read_text(), "token": grid._token}
"""

"""What attacks on the control plane send into a consortium: ServerApps of their own, and a site that echoes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.processes import REPOSITORY, interpreter, wait_until
from tests.support.running import RunningConsortium

from dura_common.runtime.running import status

ECHO_APP = "tests.attacks.hosts.echo_app:app"
RUN_SECONDS = 90.0

PYPROJECT = """\
[project]
name = "probe"
version = "1.0.0"
license = "Apache-2.0"
dependencies = ["flwr>=1.41.0"]
[tool.flwr.app]
publisher = "test"
[tool.flwr.app.components]
serverapp = "probe.server:app"
clientapp = "{client_app}"
"""

SERVER = """\
import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, RecordDict
from flwr.serverapp import ServerApp

from dura_common.messages.records import from_records, to_records
from dura_server.rounds.exchange import exchange, nodes_by_key

KEYS = {keys!r}
app = ServerApp()


def wait_for(grid, names, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        nodes = nodes_by_key(grid, {{name: KEYS[name] for name in names}})
        if len(nodes) == len(names):
            return nodes
        time.sleep(0.2)
    raise RuntimeError("not all nodes are online")


{probe}


@app.main()
def main(grid, context):
    Path({out!r}).write_text(json.dumps(probe(grid)))
"""


@dataclass
class ProbedConsortium(RunningConsortium):
    """Coordinator and sites whose bundles and ClientApps the tests choose."""

    echoes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    runs: int = 0

    def start_echo(self, name: str, env: Mapping[str, str] | None = None) -> None:
        """Start a site whose runner serves the echo app of the tests."""
        home = self.site(name)
        script = (
            "from pathlib import Path; from dura_client.site.home import SiteHome; "
            "from dura_client.node.process import run_node; "
            f"run_node(SiteHome(Path({str(home.path)!r})), app={ECHO_APP!r})"
        )
        self.echoes[name] = subprocess.Popen(
            [interpreter(self.root / "python", REPOSITORY), "-c", script],
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
        wait_until(lambda: status(home.run)["ready"], f"{name} is ready", RUN_SECONDS)

    def run(
        self,
        probe: str,
        *,
        client_app: str = "dura_client.node.app:app",
        files: Mapping[str, str] | None = None,
        pyproject: str = PYPROJECT,
    ) -> Any:
        """Run a ServerApp whose function ``probe(grid)`` returns JSON, from a bundle with any extra files."""
        from flwr.cli.build import build_fab_from_disk
        from flwr.common.serde import fab_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        from dura_server.services.superlink import control, run_status

        self.runs += 1
        folder, out = self.root / f"bundle-{self.runs}", self.root / f"result-{self.runs}.json"
        roster, _ = self.roster()
        keys = {site.name: site.node_key for site in roster.sites}
        server = SERVER.format(keys=keys, probe=textwrap.dedent(probe), out=str(out))
        content = {"probe/__init__.py": "", "probe/server.py": server, **(files or {})}
        content["pyproject.toml"] = pyproject.format(client_app=client_app)
        for name, text in content.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
        fab = build_fab_from_disk(folder)
        bundle = Fab(hashlib.sha256(fab).hexdigest(), fab, {})
        with control(self.coordinator) as client:
            run_id = int(client.StartRun(StartRunRequest(fab=fab_to_proto(bundle))).run_id)
        wait_until(
            lambda: run_status(self.coordinator, run_id).startswith("finished"), "the run has finished", RUN_SECONDS
        )
        assert out.exists(), (self.coordinator.logs / "serverapp.log").read_text()[-3000:]
        return json.loads(out.read_text())

    def stop(self) -> None:
        """Stop everything that runs."""
        for process in self.echoes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        super().stop()

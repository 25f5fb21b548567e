"""A consortium without recordings, as real processes: what attacks on the two planes need and no more."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.federation.world import dura, free_port
from tests.support.members import Card, admit, authority_of, gather, make_consortium

from dura_client.consortium import enrolment as at_site
from dura_client.site.home import SiteHome
from dura_client.site.policy import write_policy
from dura_common.consortium.chain import Link
from dura_common.policy import Policy
from dura_common.runtime.running import status
from dura_server.consortium import authority as at_authority
from dura_server.consortium import enrolment as at_coordinator
from dura_server.home import CoordinatorHome

REPOSITORY = Path(__file__).resolve().parents[2]
ECHO_APP = "tests.attacks.echo_app:app"
PATIENCE = 90.0

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


def wait_until(done: Callable[[], object], what: str, seconds: float = PATIENCE) -> None:
    """Wait until ``done`` is true, or fail naming what was awaited."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.1)


def now() -> datetime:
    """Return the present time."""
    return datetime.now(UTC)


def alive(process: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(home: SiteHome | CoordinatorHome) -> dict[str, dict[str, Any]]:
    """Return the supervised children of a home by name."""
    return {child["name"]: child for child in status(home.run)["children"]}


def processes_of(root: Path) -> set[int]:
    """Return every process whose command line or environment names a folder: nothing may be left of it."""
    mark, found = str(root).encode(), set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark in text and alive(int(entry.name)):
            found.add(int(entry.name))
    return found


@dataclass
class Planes:
    """Coordinator and sites in one folder."""

    root: Path
    port: int = field(default_factory=free_port)
    internal: int = field(default_factory=free_port)
    aggregation: int = field(default_factory=free_port)
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    runs: int = 0

    @property
    def coordinator(self) -> CoordinatorHome:
        """The coordinator's home."""
        return CoordinatorHome(self.root / "coordinator")

    def site(self, name: str) -> SiteHome:
        """A site's home."""
        return SiteHome(self.root / name)

    def init(self) -> None:
        """Make the consortium."""
        settings = at_coordinator.CoordinatorSettings(
            consortium="test",
            host="127.0.0.1",
            bind="127.0.0.1",
            port=self.port,
            internal_port=self.internal,
            aggregation_port=self.aggregation,
        )
        make_consortium(self.coordinator, settings, now())

    def enrol(self, names: Iterable[str], others: Iterable[Path] = ()) -> None:
        """Make sites with the real enrolment and let them join; ``others`` are cards of researchers."""
        names = tuple(names)
        cards: list[Card] = [at_site.init(self.site(name), name, None, now()) for name in names]
        cards += [at_authority.check_card(authority_of(self.coordinator), path.read_bytes(), now()) for path in others]
        for admitted in admit(self.coordinator, cards, self.root / "post", now()):
            if admitted.path is None:
                continue
            home = self.site(admitted.name)
            at_site.join(home, at_site.check_admission(home, admitted.path.read_bytes(), now()))
            write_policy(home, STRICT)

    def links(self) -> tuple[Link, ...]:
        """Return the rosters with what all sites that have joined say of them."""
        homes = [SiteHome(path) for path in sorted(self.root.iterdir()) if at_site.has_joined(SiteHome(path))]
        return gather(self.coordinator, homes)

    def start_coordinator(self) -> None:
        """Start the coordinator with the public command."""
        dura("coordinator", "start", "--detach", "--home", self.coordinator.path)

    def start_echo(self, name: str) -> None:
        """Start a site whose runner serves the echo app of the tests."""
        home = self.site(name)
        script = (
            "from pathlib import Path; from dura_client.site.home import SiteHome; "
            "from dura_client.node.process import run_node; "
            f"run_node(SiteHome(Path({str(home.path)!r})), app={ECHO_APP!r})"
        )
        self.started[name] = subprocess.Popen(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdin=subprocess.DEVNULL,
        )
        wait_until(lambda: status(home.run)["ready"], f"{name} is ready")

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
        roster, _ = at_coordinator.read_roster(self.coordinator)
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
        wait_until(lambda: run_status(self.coordinator, run_id).startswith("finished"), "the run has finished")
        assert out.exists(), (self.coordinator.logs / "serverapp.log").read_text()[-3000:]
        return json.loads(out.read_text())

    def stop(self) -> None:
        """Stop everything that runs."""
        for process in self.started.values():
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(60)
        for home in sorted(self.root.iterdir()):
            if (home / "site.toml").exists():
                dura("site", "stop", "--home", home)
        dura("coordinator", "stop", "--home", self.coordinator.path)


STRICT = Policy(
    epsilon_per_study=1.0,
    epsilon_total=1.0,
    delta=1e-4,
    minimum_patients=10,
    minimum_sites=2,
    public_data_without_noise=False,
)

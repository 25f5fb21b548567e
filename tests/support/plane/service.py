"""A real aggregation service with real certificates in a folder, and sites as threads or as processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tests.support.consortium import Consortium, local_settings
from tests.support.processes import REPOSITORY, wait_until

from dura_common.secagg import Kind, Member, SessionParameters, smallest_threshold
from dura_server.home import CoordinatorHome
from dura_server.services.aggregator import healthy
from dura_server.settings import CoordinatorSettings
from dura_server.sums.client import OpenedSum, open_session
from dura_server.sums.events import Timing

SITES = ("east", "north", "south")
QUICK = Timing(join=20.0, step=20.0, rejoin=5.0)


def vector_of(name: str, step: int, length: int, draw: int = 0) -> NDArray[np.int64]:
    """Return the vector that a site sends in tests; every site, step and draw has its own."""
    seed = [*name.encode(), step, draw]
    return np.random.default_rng(seed).integers(-1000, 1000, length).astype(np.int64)


def expected(names: Iterable[str], step: int, length: int, draw: int = 0) -> NDArray[np.int64]:
    """Return the sum over those sites."""
    total: NDArray[np.int64] = np.sum([vector_of(name, step, length, draw) for name in names], axis=0)
    return total


@dataclass
class Plane(Consortium):
    """Coordinator and sites in one folder."""

    names: tuple[str, ...] = SITES
    settings: CoordinatorSettings = field(default_factory=local_settings)
    moment: datetime | None = None
    process: subprocess.Popen[bytes] = field(init=False)
    sites: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def port(self) -> int:
        """Where the service listens."""
        return self.settings.aggregation_port

    @property
    def coordinator(self) -> CoordinatorHome:
        """The coordinator's folder; its name is short, since the path of a socket in it must be."""
        return CoordinatorHome(self.root / "c")

    @property
    def log(self) -> str:
        """What the service has written."""
        return (self.root / "aggregator.log").read_text()

    def start(self) -> None:
        """Start the service and wait until it answers."""
        with (self.root / "aggregator.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dura_server.services.aggregator", str(self.coordinator.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_until(lambda: self._alive() and healthy(self.coordinator), "the service answers")

    def _alive(self) -> bool:
        assert self.process.poll() is None, self.log[-2000:]
        return True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop the service and whatever sites still run."""
        for process in self.sites.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(20)
        self.process.send_signal(number)
        self.process.wait(20)

    def params(
        self, *, kind: Kind = Kind.STEP, length: int = 8, steps: int = 1, number: int = 1, **changes: Any
    ) -> SessionParameters:
        """Return the parameters of one session of all sites; ``number`` is its round."""
        roster, _ = self.roster()
        members = tuple(
            Member(site.name, site.identity_key().public_bytes_raw())
            for site in sorted(roster.sites, key=lambda site: site.name)
            if site.name in self.names
        )
        values: dict[str, Any] = {
            "study": "11" * 32,
            "roster": "22" * 32,
            "purpose": "train",
            "round": number,
            "attempt": 1,
            "first_step": 1,
            "steps": steps,
            "state": "33" * 32,
            "length": length,
            "ring_bits": 32,
            "kind": kind,
            "members": members,
            "threshold": len(members) if kind is Kind.STEP else smallest_threshold(len(members), 0),
            "minimum": 2,
            "colluders": 0,
        }
        return SessionParameters(**{**values, **changes})

    def run(self, params: SessionParameters, timing: Timing = QUICK) -> list[OpenedSum]:
        """Run one session as the ServerApp does and return its sums."""
        with open_session(self.coordinator, params, timing) as session:
            return list(session)

    def start_site(
        self, name: str, params: SessionParameters, *, env: Mapping[str, str] | None = None, **options: Any
    ) -> subprocess.Popen[bytes]:
        """Start a site as a process of its own; see tests/support/plane/site.py for the options."""
        (self.root / "params").write_bytes(params.encode())
        words = [f"{key}={value}" for key, value in options.items()]
        with (self.root / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.support.plane.site"),
                    *(str(self.site(name).path), str(self.root / "params"), *words),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                cwd=REPOSITORY,
            )
        self.sites[name] = process
        return process

    def progress(self, name: str) -> int:
        """Return how many sums a site's process has seen."""
        path = self.root / f"{name}.log"
        return path.read_text().count("opened ") if path.exists() else 0

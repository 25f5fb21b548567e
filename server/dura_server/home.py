"""The folders of the coordinator and of the authority. They differ: the serving host must not hold the root key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dura_common.runtime.sockets import socket_path


@dataclass(frozen=True, slots=True)
class CoordinatorHome:
    """Names of the files and folders of one coordinator."""

    path: Path

    @property
    def settings(self) -> Path:
        """The coordinator's settings (TOML)."""
        return self.path / "coordinator.toml"

    @property
    def keys(self) -> Path:
        """Private keys of the service: its TLS key, its own certificate authority, the process secret."""
        return self.path / "keys"

    @property
    def roster(self) -> Path:
        """The signed roster that a quorum of the sites has countersigned. Researchers need it."""
        return self.path / "roster.json"

    @property
    def rosters(self) -> Path:
        """Every roster with its countersignatures, one file each."""
        return self.path / "rosters"

    @property
    def service(self) -> Path:
        """The description of this service for the roster. It contains no secret."""
        return self.path / "service.json"

    @property
    def studies(self) -> Path:
        """One folder per study, named by its digest."""
        return self.path / "studies"

    @property
    def logs(self) -> Path:
        """Logs of the services."""
        return self.path / "log"

    @property
    def run(self) -> Path:
        """State of the running services."""
        return self.path / "run"

    @property
    def bell(self) -> Path:
        """Rings in the gateway when messages for nodes were sent."""
        return self.run / "messages.bell"

    @property
    def runs_bell(self) -> Path:
        """Rings in the SuperExec when a run was asked for."""
        return self.run / "runs.bell"

    @property
    def approved(self) -> Path:
        """Is touched whenever a site has said that it approved a study."""
        return self.run / "approved"

    @property
    def superlink_socket(self) -> Path:
        """Where Flower's SuperLink listens; a StateError where the path is too long."""
        return socket_path(self.run, "link.sock")

    @property
    def sums_socket(self) -> Path:
        """Where the aggregation service listens to the ServerApp; a StateError where the path is too long."""
        return socket_path(self.run, "sums.sock")

    @property
    def flower(self) -> Path:
        """Flower's own state: database, configuration, the thin app."""
        return self.path / "flower"

    @property
    def database(self) -> Path:
        """The SuperLink's database: nodes, runs and messages on their way. No study depends on it."""
        return self.flower / "state.db"


@dataclass(frozen=True, slots=True)
class AuthorityHome:
    """Names of the authority's files. They are on another machine or a stick, and no service reads them."""

    path: Path

    @property
    def root(self) -> Path:
        """The root key. It signs only rosters and admissions."""
        return self.path / "root.key"

    @property
    def clients_key(self) -> Path:
        """Private key of the certificate authority for the sites' client certificates."""
        return self.path / "clients.key"

    @property
    def clients(self) -> Path:
        """Its certificate."""
        return self.path / "clients.pem"

    @property
    def service(self) -> Path:
        """The serving host's names, addresses and certificate authority."""
        return self.path / "service.json"

    @property
    def rosters(self) -> Path:
        """Every roster that was issued."""
        return self.path / "rosters"

    @property
    def coordinator(self) -> Path:
        """The folder of a coordinator on the same machine, if any. New rosters are written to it."""
        return self.path / "coordinator.path"

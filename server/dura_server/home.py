"""The coordinator's folder: everything that the central service keeps, readable by its user alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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
        """Private keys: certificate authority, consortium, TLS, process secret."""
        return self.path / "keys"

    @property
    def roster(self) -> Path:
        """The present roster, signed."""
        return self.path / "roster.json"

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
    def flower(self) -> Path:
        """Flower's own state: database, configuration, the thin app."""
        return self.path / "flower"

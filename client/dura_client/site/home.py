"""The site's folder: one place for everything that a hospital keeps, readable by its user alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class SiteHome:
    """Names of the files and folders of one site."""

    path: Path

    @property
    def settings(self) -> Path:
        """The site's settings (TOML)."""
        return self.path / "site.toml"

    @property
    def keys(self) -> Path:
        """Private keys; nothing in here ever leaves the machine."""
        return self.path / "keys"

    @property
    def consortium(self) -> Path:
        """The roster that is followed, those before, those that wait; authorities and certificate."""
        return self.path / "consortium"

    @property
    def people(self) -> Path:
        """Whose fingerprint was compared here, and who is trusted no more."""
        return self.path / "members.json"

    @property
    def witnessed(self) -> Path:
        """What the other members have said of themselves, so that one that went back is noticed."""
        return self.path / "witnessed.json"

    @property
    def offers(self) -> Path:
        """Studies that the coordinator offered."""
        return self.path / "offers"

    @property
    def approvals(self) -> Path:
        """The site's decisions."""
        return self.path / "approvals"

    @property
    def data(self) -> Path:
        """Registrations of data sets (not the recordings)."""
        return self.path / "data"

    @property
    def cache(self) -> Path:
        """Prepared recordings; may be deleted at any time."""
        return self.path / "cache"

    @property
    def logs(self) -> Path:
        """Logs of the node."""
        return self.path / "log"

    @property
    def run(self) -> Path:
        """State of the running node."""
        return self.path / "run"

    @property
    def ledger(self) -> Path:
        """The privacy ledger."""
        return self.path / "ledger.db"

    @property
    def cohorts(self) -> Path:
        """Who takes part in which study, frozen by its approval."""
        return self.path / "cohorts"

    @property
    def ledger_location(self) -> Path:
        """Where the ledger lies, if that is not the file above; written once."""
        return self.path / "ledger.location"

    @property
    def policy(self) -> Path:
        """The privacy officer's rules."""
        return self.path / "policy.toml"

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
        """Private keys. They never leave the machine."""
        return self.path / "keys"

    @property
    def consortium(self) -> Path:
        """The followed roster, earlier rosters and waiting rosters; authorities and certificate."""
        return self.path / "consortium"

    @property
    def people(self) -> Path:
        """Members whose fingerprints were compared here, and members that are no longer trusted."""
        return self.path / "members.json"

    @property
    def witnessed(self) -> Path:
        """The other members' reports, so that a member in an older state is noticed."""
        return self.path / "witnessed.json"

    @property
    def members_lock(self) -> Path:
        """Held by whoever changes what this site knows of other members: rosters, decisions and reports."""
        return self.path / "members.lock"

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
    def bell(self) -> Path:
        """Rings in the runner when there is work, or will be soon."""
        return self.run / "node.bell"

    @property
    def refused(self) -> Path:
        """Exists if the coordinator has refused the node that started last."""
        return self.run / "refused"

    @property
    def signed_on(self) -> Path:
        """Exists if the coordinator has taken on the node that started last."""
        return self.run / "signed-on"

    @property
    def ledger(self) -> Path:
        """The privacy ledger."""
        return self.path / "ledger.db"

    @property
    def cohorts(self) -> Path:
        """The patients of each study, as fixed by its approval."""
        return self.path / "cohorts"

    @property
    def ledger_location(self) -> Path:
        """The place of the ledger, if it is not the file above; written once."""
        return self.path / "ledger.location"

    @property
    def policy(self) -> Path:
        """The privacy officer's rules."""
        return self.path / "policy.toml"

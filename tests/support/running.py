"""A consortium whose processes really run on this machine: TLS, node keys, supervisors, the public commands."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.commands import dura
from tests.support.consortium import Consortium, local_settings
from tests.support.policies import STRICT

from dura_client.data.dataset import DataSet
from dura_client.data.prepare import pseudonym
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import DEMO
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import write_policy
from dura_common.policy import Policy
from dura_common.runtime import running
from dura_server.settings import CoordinatorSettings

TASK = DEMO.task
"""What simulated hospitals recorded, if nothing else is said."""
CODES: dict[str, dict[str, str]] = {"west": {"1": "left_hand", "2": "right_hand"}}
"""What the event codes of simulated hospitals mean, where they do not say it themselves."""
SCALES = {"south": 1e-3}
"""Units that simulated hospitals have wrong."""


def fix_pseudonyms(home: SiteHome, key: bytes | None = None) -> None:
    """Give a site a pseudonym key that is always the same, since the key decides who is held out.

    With a random one, 16 patients leave fewer than two on the held-out side in 6 of 100 runs, and are refused.
    """
    (home.keys / "pseudonym.key").write_bytes(key or hashlib.sha256(home.path.name.encode()).digest())


def register_motor(
    home: SiteHome, folder: Path, *, labels: Mapping[str, str], scale: float = 1.0, name: str = "mi"
) -> None:
    """Register simulated recordings."""
    register(home, DataSet(name=name, root=str(folder), task=TASK, labels=dict(labels), scale=scale, simulated=True))


@dataclass
class RunningConsortium(Consortium):
    """Coordinator and sites that the public commands start and stop."""

    settings: CoordinatorSettings = field(default_factory=local_settings)
    moment: datetime | None = None
    policy: Policy = STRICT
    """What every hospital is given."""

    def make_all(self, now: datetime | None = None) -> None:
        """Create everybody, let every hospital join and give it its policy."""
        super().make_all(now)
        for name in self.names:
            write_policy(self.site(name), self.policy)

    def recordings(self, name: str) -> Path:
        """Return a hospital's BIDS folder."""
        return self.root / "bids" / name

    def labels(self, name: str) -> list[str]:
        """Return the BIDS labels of all patients of a hospital."""
        return sorted(path.name for path in self.recordings(name).glob("sub-*"))

    def pseudonyms(self, name: str) -> list[str]:
        """Return the ledger's keys of all patients of a hospital."""
        key = SiteKeys(self.site(name)).pseudonym_key()
        return [pseudonym(label.removeprefix("sub-"), key) for label in self.labels(name)]

    def start_coordinator(self, **options: Any) -> None:
        """Start the coordinator; options go to :func:`tests.support.commands.dura`."""
        dura("coordinator", "start", "--detach", "--home", self.coordinator, **options)

    def start_site(self, name: str, **options: Any) -> None:
        """Start a hospital."""
        dura("site", "start", "--detach", "--home", self.site(name), **options)

    def start(self) -> None:
        """Start everything; two sites at a time, since a start takes mostly processor time and is given a minute."""
        self.start_coordinator()
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self.start_site, self.names))

    def stop(self) -> None:
        """Stop everything that runs, side by side."""
        homes = (self.coordinator, *map(self.site, self.names))
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda home: running.stop(home.run), homes))

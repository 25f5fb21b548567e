"""Two or more hospitals whose recordings, policies and studies come about by the public commands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.support.commands import dura
from tests.support.running import CODES, RunningConsortium, fix_pseudonyms

SITES = ("north", "west")
PATIENTS = 16


@dataclass
class Commanded(RunningConsortium):
    """Hospitals that have joined and hold nothing yet; see the module."""

    names: tuple[str, ...] = SITES

    def make_coordinator(self, now: datetime | None = None) -> None:
        """Create coordinator and authority by their commands, with ports of their own."""
        assert now is None or self.moment is None, "a command takes the present time"
        given = self.settings
        ports = ("--port", given.port)
        where = ("--aggregation-port", given.aggregation_port, "--home", self.coordinator)
        dura("coordinator", "init", "--consortium", "test", "--host", "127.0.0.1", *ports, *where)
        dura("authority", "init", "--coordinator", self.coordinator, "--authority", self.authority)

    def make_all(self, now: datetime | None = None) -> None:
        """Create everybody; the policies are left to :meth:`prepare`, and the draw of held-out patients is fixed."""
        super().make_all(now)
        for name in self.names:
            self.site(name).policy.unlink()
            fix_pseudonyms(self.site(name))

    def prepare(self, name: str) -> None:
        """Simulate and register one site's recordings and write its policy."""
        folder, home = self.recordings(name), ("--home", self.site(name))
        dura("site", "data", "simulate", folder, "--hospital", name, "--patients", PATIENTS, "--trials", 12)
        labels = [word for code, label in CODES.get(name, {}).items() for word in ("--label", f"{code}={label}")]
        dura("site", "data", "add", "mi", folder, "--task", "motorimagery", *labels, *home)
        caps = ["--epsilon-per-study", 8, "--epsilon-total", 10, "--delta", 1e-3, "--minimum-sites", 2]
        dura("site", "policy", "init", *caps, *home)

    def study(self, name: str, *, rounds: int = 2) -> Path:
        """Write and sign a small study and return the signed file."""
        path = self.root / f"{name}.toml"
        sites = [word for site in SITES for word in ("--site", f"{site}={PATIENTS}")]
        dura("study", "new", path, *sites, "--name", name, "--noise", "local")
        text = path.read_text().replace("rounds = 4", f"rounds = {rounds}").replace("every = 1", "every = 2")
        path.write_text(text.replace("steps_per_round = 10", "steps_per_round = 2"))
        return Path(self.sign(path)["path"])

    def sign(self, path: Path) -> dict[str, Any]:
        """Sign a study.toml and return the digest and the path of the signed file."""
        roster = ("--roster", self.coordinator.roster, "--researcher", self.researcher)
        return dura("study", "sign", path, *roster)

    def join_researcher(self) -> tuple[object, ...]:
        """Let the researcher join by the answer of the authority; return the option that means the desk."""
        desk = ("--researcher", self.researcher)
        mark = dura("authority", "fingerprint", "--authority", self.authority)["fingerprint"]
        dura("study", "join", self.post / "ada.admission.json", "--fingerprint", mark, *desk)
        return desk

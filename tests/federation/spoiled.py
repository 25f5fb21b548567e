"""A consortium with recordings whose parts tests spoil on copies, and what one clear error is."""

from __future__ import annotations

import http.server
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from tests.attacks.world import Planes
from tests.federation.world import fix_pseudonyms
from tests.support.members import authority_of

from dura_client.consortium import enrolment as at_site
from dura_client.data.dataset import DataSet
from dura_client.data.prepare import TEMPORARY, pseudonym
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import TASK, simulate
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_common.consortium.identity import (
    certificate_pem,
    load_certificate,
    load_private,
    load_request,
    make_server_certificate,
    make_site_certificate,
)
from dura_common.messages import Offer
from dura_common.policy import Policy
from dura_common.study import Study, parse_study
from dura_server.consortium import enrolment as at_coordinator
from dura_server.home import CoordinatorHome
from dura_server.studies.researcher import ResearcherHome, create_identity, sign_study
from dura_server.studies.template import study_toml

SITES = ("north", "west")
PATIENTS = 12
CODES = {"west": {"1": "left_hand", "2": "right_hand"}}
MOVING = frozenset({"run", "log", "flower", "cache", "__pycache__"})
"""Folders that a start or a preparation may write into: locks, logs, and patients that are complete or absent."""
POLICY = Policy(
    epsilon_per_study=8.0,
    epsilon_total=10.0,
    delta=1e-3,
    minimum_patients=10,
    minimum_sites=2,
    public_data_without_noise=False,
)


@dataclass(frozen=True)
class Refused:
    """How a command failed."""

    code: int
    message: str
    hint: str
    output: str
    """Everything that it printed."""


def refused(*words: object) -> Refused:
    """Run a dura command that must fail, and check that what it printed is one error that a person can act on."""
    process = subprocess.run(
        [sys.executable, "-m", "dura_common", *map(str, words), "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    output = process.stdout + process.stderr
    assert process.returncode not in {0, 1, 2}, output
    answer = json.loads(process.stdout)  # one object, nothing beside it
    assert set(answer) == {"error"}, output
    error = answer["error"]
    assert set(error) == {"code", "message", "hint"}
    assert error["message"], output
    assert error["hint"], f"nothing says what to do: {error['message']}"
    assert "Traceback" not in output
    assert not re.search(r"sub-\d", error["message"]), "a message, which logs keep, names a patient"
    return Refused(process.returncode, error["message"], error["hint"], output)


def state_of(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder that must not change; nothing half-written may lie anywhere."""
    files = {path.relative_to(folder): path for path in sorted(folder.rglob("*")) if path.is_file()}
    drafts = [name for name in files if TEMPORARY in str(name) or name.name.startswith(".")]
    assert drafts == []
    return {str(name): path.read_bytes() for name, path in files.items() if not MOVING & set(name.parts)}


def secrets_of(home: Path) -> list[str]:
    """Return what no output may hold: the private keys' lines and the pseudonym key."""
    found = []
    for path in (home / "keys").iterdir():
        content = path.read_bytes()
        if b"PRIVATE KEY" in content:
            found += [line for line in content.decode().splitlines() if line and "-----" not in line]
        elif path.name == "pseudonym.key":
            found.append(content.hex())
    return found


class Clinics(Planes):
    """Two hospitals with recordings, a coordinator and a researcher, none of them running."""

    def make(self) -> None:
        """Enrol everybody; simulate and register recordings."""
        self.init()
        _, card = create_identity(self.researcher, "rita", datetime.now(UTC))
        self.enrol(SITES, [card])
        for name in SITES:
            home = self.site(name)
            fix_pseudonyms(home.path, name)
            write_policy(home, POLICY, replace=True)
            simulate(self.recordings(name), name, patients=PATIENTS, trials=12, seed=1)
            self.register(home, self.recordings(name), labels=CODES.get(name, {}))

    @property
    def researcher(self) -> ResearcherHome:
        """The researcher's folder."""
        return ResearcherHome(self.root / "rita")

    @cached_property
    def plan(self) -> Study:
        """A small valid study."""
        sites = dict.fromkeys(SITES, PATIENTS)
        text = study_toml(name="hands", question="?", sites=sites, epsilon=8, delta=1e-3, seed=1, noise="local")
        return parse_study(text.replace("rounds = 4", "rounds = 2").replace("every = 1", "every = 2").encode())

    def recordings(self, name: str) -> Path:
        """Return a hospital's BIDS folder."""
        return self.root / "bids" / name

    def register(self, home: SiteHome, folder: Path, *, labels: Mapping[str, str] | None = None) -> None:
        """Register recordings as ``mi``."""
        register(home, DataSet(name="mi", root=str(folder), task=TASK, labels=dict(labels or {}), simulated=True))

    def copy_of(self, name: str, target: Path) -> SiteHome:
        """Return a copy of a hospital's home and recordings, to spoil."""
        home = SiteHome(Path(shutil.copytree(self.site(name).path, target / "home")))
        folder = shutil.copytree(self.recordings(name), target / "bids")
        (home.data / "mi.json").unlink()
        self.register(home, Path(folder), labels=CODES.get(name, {}))
        return home

    def sign(self, **changes: Any) -> tuple[str, Offer]:
        """Sign the study with changed sections; return its digest and its offer."""
        data = self.plan.model_dump(mode="json")
        for section, values in changes.items():
            data[section] = {**data[section], **values} if isinstance(values, dict) else values
        _, roster = at_coordinator.read_roster(self.coordinator)
        envelope, digest = sign_study(self.researcher, Study.model_validate(data), roster)
        return digest, Offer(study=envelope, roster=roster, links=self.links())

    def offer(self, home: SiteHome, **changes: Any) -> str:
        """Let a signed study reach a hospital as its running node would take it; return the digest."""
        digest, offer = self.sign(**changes)
        receive_offer(home, offer, datetime.now(UTC))
        return digest

    def patients(self, name: str) -> list[str]:
        """Return the ledger's keys of all patients of a hospital."""
        key = SiteKeys(self.site(name)).pseudonym_key()
        return [pseudonym(path.name.removeprefix("sub-"), key) for path in self.recordings(name).glob("sub-*")]


def bare_planes(root: Path) -> Planes:
    """Return a coordinator and the site north, without recordings."""
    root.mkdir(exist_ok=True)
    made = Planes(root)
    made.init()
    made.enrol(["north", "east"])
    return made


def certify_site(planes: Planes, when: datetime) -> None:
    """Give north a certificate that the authority issued at another time."""
    home = planes.site("north")
    home_of_authority = authority_of(planes.coordinator)
    authority = load_certificate(home_of_authority.clients.read_bytes())
    key = load_private(home_of_authority.clients_key.read_bytes())
    request = load_request(at_site.load_card(home).request.encode())
    made = make_site_certificate(authority, key, request, "north", when)
    (home.consortium / "certificate.pem").write_bytes(certificate_pem(made))


def certify_server(home: CoordinatorHome, when: datetime) -> None:
    """Give a coordinator a certificate that its authority issued at another time."""
    keys = home.keys
    authority = load_certificate((keys / "authority.pem").read_bytes())
    key = load_private((keys / "authority.key").read_bytes())
    public = load_private((keys / "server.key").read_bytes()).public_key()
    made = make_server_certificate(authority, key, public, ("127.0.0.1",), when)
    (keys / "server.pem").write_bytes(certificate_pem(made))


@contextmanager
def answering(planes: Planes, certificate: Path, key: Path, date: datetime | None = None) -> Iterator[None]:
    """Answer at the coordinator's address over TLS, at a time of one's own choosing."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:  # the name is the protocol's
            self.send_response(404)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(timestamp) if date is None else format_datetime(date, usegmt=True)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", planes.port), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()

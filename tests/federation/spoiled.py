"""A consortium with recordings whose parts tests spoil on copies, and what one clear error is."""

from __future__ import annotations

import http.server
import re
import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import Failed, dura
from tests.support.running import CODES, RunningConsortium, fix_pseudonyms, register_motor
from tests.support.studies import changed

from dura_client.consortium import enrolment as at_site
from dura_client.data.simulated.simulate import simulate
from dura_client.data.store.entry import TEMPORARY
from dura_client.site.home import SiteHome
from dura_client.studies.approvals import receive_offer
from dura_common.consortium.identity import (
    certificate_pem,
    load_certificate,
    load_request,
    make_server_certificate,
    make_site_certificate,
)
from dura_common.consortium.keyfile import load_private
from dura_common.messages import Offer
from dura_common.policy import Policy
from dura_common.study import Study, parse_study
from dura_server.home import CoordinatorHome
from dura_server.studies.template import study_toml

SITES = ("north", "west")
PATIENTS = 12
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
    with pytest.raises(Failed, match=r"exit code \d+") as caught:
        dura(*words, timeout=120)
    failed = caught.value
    output, error = failed.output, failed.error
    assert failed.code not in {1, 2}, output
    assert set(failed.answer) == {"error"}, output  # one object, nothing beside it
    assert set(error) == {"code", "message", "hint"}
    assert error["message"], output
    assert error["hint"], f"nothing says what to do: {error['message']}"
    assert not re.search(r"sub-\d", error["message"]), "a message, which logs keep, names a patient"
    return Refused(failed.code, error["message"], error["hint"], output)


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


@dataclass
class Clinics(RunningConsortium):
    """Two hospitals with recordings, a coordinator and a researcher, none of them running."""

    names: tuple[str, ...] = SITES
    policy: Policy = POLICY

    def make_all(self, now: datetime | None = None) -> None:
        """Enrol everybody; simulate and register recordings."""
        super().make_all(now)
        for name in self.names:
            fix_pseudonyms(self.site(name))
            simulate(self.recordings(name), name, patients=PATIENTS, trials=12, seed=1)
            register_motor(self.site(name), self.recordings(name), labels=CODES.get(name, {}))

    @cached_property
    def plan(self) -> Study:
        """A small valid study."""
        sites = dict.fromkeys(SITES, PATIENTS)
        text = study_toml(name="hands", question="?", sites=sites, epsilon=8, delta=1e-3, seed=1, noise="local")
        return parse_study(text.replace("rounds = 4", "rounds = 2").replace("every = 1", "every = 2").encode())

    def copy_of(self, name: str, target: Path) -> SiteHome:
        """Return a copy of a hospital's home and recordings, to spoil."""
        home = SiteHome(Path(shutil.copytree(self.site(name).path, target / "home")))
        folder = shutil.copytree(self.recordings(name), target / "bids")
        (home.data / "mi.json").unlink()
        register_motor(home, Path(folder), labels=CODES.get(name, {}))
        return home

    def sign(self, **changes: Any) -> tuple[str, Offer]:
        """Sign the study with changed sections; return its digest and its offer."""
        offer, digest = self.offer(changed(self.plan, **changes))
        return digest, offer

    def offer_to(self, home: SiteHome, **changes: Any) -> str:
        """Let a signed study reach a hospital as its running node would take it; return the digest."""
        digest, offer = self.sign(**changes)
        receive_offer(home, offer, datetime.now(UTC))
        return digest


def bare_planes(root: Path) -> RunningConsortium:
    """Return a coordinator and the site north, without recordings."""
    root.mkdir(exist_ok=True)
    made = RunningConsortium(root, ("north", "east"))
    made.make_all()
    return made


def certify_site(planes: RunningConsortium, when: datetime) -> None:
    """Give north a certificate that the authority issued at another time."""
    home = planes.site("north")
    home_of_authority = planes.authority
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
def answering(planes: RunningConsortium, certificate: Path, key: Path, date: datetime | None = None) -> Iterator[None]:
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
    with http.server.ThreadingHTTPServer(("127.0.0.1", planes.settings.port), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()

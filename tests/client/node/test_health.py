"""`dura site status` says what runs and what needs a person, and monitors read it from the exit code."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import pytest
from tests.support.commands import Failed, dura, failed
from tests.support.consortium import Consortium
from tests.support.policies import policy
from tests.support.studies import study

from dura_client.consortium.membership import load_membership
from dura_client.consortium.witness import Seen, Witnessed
from dura_client.node.health import Health, health
from dura_client.site.home import SiteHome
from dura_client.site.policy import write_policy
from dura_client.studies.approvals import receive_offer
from dura_common.runtime import running
from dura_common.runtime.conditions import DISK_CRITICAL, DISK_WARNING, Grade

NOW = datetime.now(UTC)


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """Return a site that has joined a consortium of two and has a policy; nothing of it runs."""
    consortium = Consortium(tmp_path, ("east", "north"))
    consortium.make_all(NOW)
    site = consortium.site("north")
    write_policy(site, policy(minimum_sites=2))
    offer, _ = consortium.offer(study(sites={"north": 40, "east": 40}))
    receive_offer(site, offer, NOW)
    return site


def said(found: Health, what: str) -> tuple[Grade, str] | None:
    """Return the condition of a word."""
    return next(((one.grade, one.sentence) for one in found.conditions if one.what == what), None)


def looked(home: SiteHome, later: timedelta = timedelta(0)) -> Health:
    """Look at the site now or later."""
    return health(home, lambda: NOW + later)


def test_a_site_at_rest_says_what_waits_for_a_person(home: SiteHome) -> None:
    """The node does not run, nobody answers at the coordinator's address, and one study waits for a decision."""
    found = looked(home)
    assert found.grade is Grade.CRITICAL
    assert found.conditions[0].what == "node"
    assert said(found, "coordinator") is not None
    grade, sentence = said(found, "offers") or (None, "")
    assert grade is Grade.WARNING
    assert "wait for a decision" in sentence
    assert said(found, "policy") is None


def test_ends_are_told_before_they_come(home: SiteHome) -> None:
    """The roster warns two weeks before it expires and is critical afterwards; so is the certificate."""
    here = load_membership(home)
    left = here.roster.expires - NOW
    assert said(looked(home), "roster") is None
    assert said(looked(home, left - timedelta(days=3)), "roster") == (
        Grade.WARNING,
        f"roster {here.roster.serial} expires on {here.roster.expires:%Y-%m-%d}",
    )
    grade, _ = said(looked(home, left + timedelta(days=1)), "roster") or (None, "")
    assert grade is Grade.CRITICAL
    grade, _ = said(looked(home, timedelta(days=810)), "certificate") or (None, "")
    assert grade is Grade.WARNING
    grade, _ = said(looked(home, timedelta(days=900)), "certificate") or (None, "")
    assert grade is Grade.CRITICAL


def test_damage_is_a_condition_and_no_crash(home: SiteHome) -> None:
    """A ledger that is no ledger and a roster that was altered are said, each in one sentence."""
    home.ledger.write_bytes(b"this is no database" * 100)
    grade, _ = said(looked(home), "studies") or (None, "")
    assert grade is Grade.CRITICAL
    roster = home.consortium / "roster.json"
    roster.write_bytes(roster.read_bytes().replace(b"a", b"b", 1))
    grade, _ = said(looked(home), "members") or (None, "")
    assert grade is Grade.CRITICAL


@pytest.mark.parametrize(("free", "grade"), [(DISK_WARNING - 1, Grade.WARNING), (DISK_CRITICAL - 1, Grade.CRITICAL)])
def test_a_full_disk(home: SiteHome, monkeypatch: pytest.MonkeyPatch, free: int, grade: Grade) -> None:
    """Little space warns, next to none is critical: the ledger may fail to write."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(free, 0, free))  # type: ignore[attr-defined]  # the real type
    assert (said(looked(home), "disk") or (None, ""))[0] is grade


def test_a_member_that_is_ahead(home: SiteHome) -> None:
    """Somebody may be holding rosters back."""
    here = load_membership(home)
    seen = Seen(name="east", serial=here.roster.serial + 1, roster="ab" * 32, rows=1, mark="cd" * 32, when=NOW)
    home.witnessed.write_text(Witnessed(seen=(seen,)).model_dump_json())
    assert said(looked(home), "rosters") == (
        Grade.WARNING,
        "these members follow a newer roster than this site: east",
    )


def test_a_site_that_has_not_joined(tmp_path: Path) -> None:
    """It says so."""
    dura("site", "init", "--name", "north", "--home", tmp_path / "north", here=True)
    assert said(looked(SiteHome(tmp_path / "north")), "members") == (
        Grade.WARNING,
        "this site has not joined a consortium yet",
    )


@contextmanager
def coordinator(home: SiteHome, consortium: Path) -> Iterator[None]:
    """Answer at the coordinator's address with its real certificate."""

    class Answers(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:  # the name that the library looks for
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    host, _, port = load_membership(home).roster.fleet.rpartition(":")
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(consortium / "keys" / "server.pem", consortium / "keys" / "server.key")
    with HTTPServer((host, int(port)), Answers) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()


def test_monitors_read_the_exit_code(home: SiteHome) -> None:
    """Without --check the command succeeds whatever it says; with it, 2 is critical, 1 a warning, 0 is fine."""
    where = ("--home", home.path)
    assert dura("site", "status", *where, here=True)["grade"] == "critical"
    failed("site", "status", "--check", *where, code=2, here=True)
    with running.Lock(home.run):
        (home.run / "state.json").write_text(json.dumps({"pid": os.getpid(), "ready": True, "children": []}))
        answer = failed("site", "status", "--check", *where, code=1, here=True).answer
        assert {one["what"] for one in answer["conditions"]} <= {"offers", "coordinator", "disk"}
        with pytest.raises(Failed, match="exit code 1"), coordinator(home, home.path.parent / "coordinator"):
            dura("site", "status", "--check", *where, here=True)
        with coordinator(home, home.path.parent / "coordinator"):
            what = {one["what"] for one in dura("site", "status", *where, here=True)["conditions"]}
            assert "coordinator" not in what
            shutil.rmtree(home.offers)
            fine = dura("site", "status", *where, here=True)
            if not any(one["what"] == "disk" for one in fine["conditions"]):
                assert dura("site", "status", "--check", *where, here=True)["grade"] == "ok"

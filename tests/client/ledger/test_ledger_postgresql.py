"""The ledger in a real PostgreSQL server: exclusion, durability, protection, and no secret in any message.

What a ledger promises in any database stands in test_ledger.py, which runs against this one too.
"""

from __future__ import annotations

import json
import logging
import math
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.client.ledger.conftest import Server
from tests.support.ledger import DELTA, FORKER, allocate, block, keys, releases

from dura_client.ledger.ledger import Ledger
from dura_client.ledger.place import site_ledger
from dura_client.site.home import SiteHome
from dura_client.site.settings import load_settings
from dura_common.errors import BudgetError, HostError, InputError, StateError, TrustError
from dura_common.privacy.gdp import epsilon_of_mu

RIVAL = """
import json, sys
from datetime import date
from dura_client.ledger.ledger import Caps, Identity, Ledger
from dura_common.errors import BudgetError
from dura_common.privacy import Gaussian
from dura_common.privacy.blocks import Block
url, first, cap = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
accepted = []
for number in range(first, 15, 2):
    try:
        event = Gaussian(noise_multiplier=2)
        Ledger(url).allocate(
            study=f"{number:064x}", blocks=(Block("train", 0, 1, event, event),), manifest="9" * 64,
            cohorts={"train": [f"{n:064x}" for n in range(3)]}, expires=date(2100, 1, 1),
            caps=Caps(epsilon_total=cap, epsilon_if_broken=cap, delta=1e-3),
            identity=Identity(check="c" * 64, held_out=0.5),
        )
        accepted.append(number)
    except BudgetError:
        pass
print(json.dumps(accepted), flush=True)
"""


def database_of(url: str) -> str:
    """Return the name of the database in a URL."""
    return url.split("/")[3].split("?", maxsplit=1)[0]


@pytest.fixture
def url(postgresql: Server) -> str:
    """Return a database with three rows."""
    url = postgresql.database()
    ledger = Ledger(url)
    allocate(ledger)
    ledger.withdraw(keys(9)[0])
    return url


@pytest.mark.long
def test_two_processes_never_overdraw_together(postgresql: Server) -> None:
    """Two processes spend from one budget at once, in a database without tables yet: exactly the cap fits."""
    url, affordable = postgresql.database(), 6
    cap = epsilon_of_mu(math.sqrt(affordable * 0.25), DELTA * 0.875) * 1.001
    command = [sys.executable, "-c", RIVAL, url]
    rivals = [
        subprocess.Popen([*command, str(n), repr(cap)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for n in (1, 2)
    ]
    for rival in rivals:
        assert rival.stdout is not None
        assert rival.stdout.readline() == "ready\n"
    accepted: list[int] = []
    for rival in rivals:
        assert rival.stdin is not None
        rival.stdin.write("go\n")
        rival.stdin.flush()
    for rival in rivals:
        answer, _ = rival.communicate(timeout=100)
        accepted += json.loads(answer)
    ledger = Ledger(url)
    assert len(accepted) == affordable
    assert {entry.study for entry in ledger.entries() if entry.kind == "allocate"} == {f"{n:064x}" for n in accepted}
    assert ledger.verify().entries == affordable + 1
    with pytest.raises(BudgetError, match="over all studies"):
        allocate(ledger, keys(0), epsilon_total=cap)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET round = 7",
        "DELETE FROM entry WHERE id = 3",
        "TRUNCATE entry",
        "TRUNCATE entry, cohort",
        "UPDATE cohort SET patients = '[]'",
        "DELETE FROM cohort",
        "INSERT INTO cohort SELECT * FROM cohort ON CONFLICT (digest) DO UPDATE SET patients = '[]'",
    ],
)
def test_the_database_refuses_changes(postgresql: Server, url: str, statement: str) -> None:
    """Even the owner of the tables changes, deletes and truncates nothing by a plain statement."""
    with pytest.raises(AssertionError, match="append-only"):
        postgresql.sql(statement, database_of(url))
    assert Ledger(url).verify().entries == 3


ASSAULTS = {
    "altered row": "UPDATE entry SET event = NULL WHERE id = 2",
    "altered cohort": "UPDATE cohort SET patients = '[]'",
    "removed row": "DELETE FROM entry WHERE id = 2",
    "removed withdrawal": "DELETE FROM entry WHERE id = 3",
}


@pytest.mark.parametrize("assault", ASSAULTS)
def test_changes_behind_its_back_are_noticed(postgresql: Server, url: str, assault: str) -> None:
    """With the triggers away and back again, every question and every row more is refused by a fresh process' view."""
    quiet = "SET session_replication_role = replica; "
    postgresql.sql(quiet + ASSAULTS[assault], database_of(url))
    for question in (Ledger(url).verify, lambda: Ledger(url).verify()):
        with pytest.raises(TrustError, match="cannot be trusted"):
            question()
    with pytest.raises(TrustError, match="cannot be trusted"):
        allocate(Ledger(url), study="e" * 64)


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TRIGGER entry_change ON entry",
        "ALTER TABLE cohort DISABLE TRIGGER cohort_truncate",
        "CREATE OR REPLACE FUNCTION dura_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
    ],
)
def test_missing_protection_is_noticed(postgresql: Server, url: str, statement: str) -> None:
    """A dropped, disabled or hollowed trigger ends all trust at the next question, without a new verification."""
    ledger = Ledger(url)
    assert ledger.spent(DELTA) > 0
    postgresql.sql(statement, database_of(url))
    with pytest.raises(TrustError, match="protection"):
        ledger.spent(DELTA)
    with pytest.raises(TrustError, match="protection"):
        allocate(ledger, study="e" * 64)


def test_old_rows_are_verified_again_after_a_while(
    postgresql: Server, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server does not tell who wrote, so everything is verified again when the last time is too long ago."""
    ledger = Ledger(url)
    assert ledger.verify().entries == 3
    postgresql.sql(f"SET session_replication_role = replica; {ASSAULTS['altered row']}", database_of(url))
    monkeypatch.setattr("dura_client.ledger.store.RECHECK_SECONDS", 0.0)
    with pytest.raises(TrustError, match="entry 2"):
        ledger.spent(DELTA)


def test_another_database_is_not_a_ledger(postgresql: Server) -> None:
    """A table of the same name that dura did not make is refused and left alone; a newer format too."""
    url = postgresql.database()
    postgresql.sql("CREATE TABLE entry (id int)", database_of(url))
    with pytest.raises(TrustError, match="not a ledger"):
        Ledger(url).spent(DELTA)
    with pytest.raises(TrustError, match="not a ledger"):
        allocate(Ledger(url))
    postgresql.sql("COMMENT ON TABLE entry IS 'dura ledger 99'", database_of(url))
    with pytest.raises(InputError, match="format 99"):
        Ledger(url).verify()


KILLED = """
import json
url, results = sys.argv[1], []
for point in range(60):
    def work():
        strike_at(point)
        begin(url, point + 2)
    results.append(child(work))
    if results[-1] == 0:
        break
print(json.dumps(results))
"""


@pytest.mark.long
def test_kill_9_around_every_statement(postgresql: Server) -> None:
    """Killed around any statement, the row is there or not, the ledger verifies, and the lock is free again."""
    url = postgresql.database()
    allocate(Ledger(url), keys(*range(20)), study=f"{1:064x}", blocks=(block(draws=100, event=None),))
    done = subprocess.run(
        [sys.executable, "-c", FORKER + KILLED, url], capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert results[-1] == 0
    assert set(results[:-1]) == {-9}
    assert len(results) > 15
    Ledger(url).verify()
    kept = {row[3] for row in releases(Ledger(url)) if row[0] == "begin"}
    found = [point + 2 in kept for point in range(len(results))]
    assert found == sorted(found), "once written, a row stays at all later points"
    assert (found[0], found[-1]) == (False, True)


def test_no_secret_reaches_a_message_or_a_log(
    postgresql: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """A wrong password, a missing database and a stopped server are HostErrors without password and statements."""
    caplog.set_level(logging.DEBUG)
    url = postgresql.database()
    wrong = tmp_path / "pgpass"
    wrong.write_text("*:*:*:dura:open-sesame")
    wrong.chmod(0o600)
    missing = url.replace("ledger_", "absent_")
    nowhere = url.replace(str(postgresql.folder), str(tmp_path))
    for place, passwords in ((url, str(wrong)), (missing, None), (nowhere, None)):
        with monkeypatch.context() as patch:
            if passwords:
                patch.setenv("PGPASSFILE", passwords)
            with pytest.raises(HostError, match="cannot be used") as refusal:
                allocate(Ledger(place))
        said = f"{refusal.value} {refusal.value.hint} {caplog.text}"
        assert "open-sesame" not in said
        assert "INSERT" not in said
        assert keys(1)[0] not in said


def test_a_server_without_fsync_is_refused(postgresql: Server, url: str) -> None:
    """A server that would lose reservations in a crash is not written to."""
    postgresql.sql("ALTER SYSTEM SET fsync = off")
    postgresql.sql("SELECT pg_reload_conf()")
    try:
        while postgresql.sql("SHOW fsync") != "off":  # the server reads its configuration a moment later
            time.sleep(0.05)
        with pytest.raises(HostError, match="fsync"):
            allocate(Ledger(url), study="e" * 64)
    finally:
        postgresql.sql("ALTER SYSTEM RESET fsync")
        postgresql.sql("SELECT pg_reload_conf()")


def test_a_site_names_its_database_and_keeps_to_it(postgresql: Server, tmp_path: Path) -> None:
    """The setting is enough; taking it away, or changing it, is refused instead of beginning an empty ledger."""
    home = SiteHome(tmp_path)
    url = postgresql.database()
    home.settings.write_text(f'name = "north"\nledger_url = "{url}"\n')
    allocate(site_ledger(home))
    assert site_ledger(home).verify().entries == 2
    assert not home.ledger.exists()
    other = f'ledger_url = "{postgresql.database()}"\n'
    for settings in ("", other):
        home.settings.write_text('name = "north"\n' + settings)
        with pytest.raises(StateError, match="ledger of this site is in"):
            site_ledger(home)
    home.settings.write_text(f'name = "north"\nledger_url = "{url}"\n')
    assert site_ledger(home).spent(DELTA) > 0


def test_a_ledger_in_a_file_is_not_left_for_a_database(tmp_path: Path) -> None:
    """A site that has spent from its file cannot start again elsewhere by a setting."""
    home = SiteHome(tmp_path)
    home.settings.write_text('name = "north"\n')
    allocate(site_ledger(home))
    home.settings.write_text('name = "north"\nledger_url = "postgresql://dura@/dura"\n')
    with pytest.raises(StateError, match="ledger of this site is in"):
        site_ledger(home)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("postgresql://dura:secret@localhost/dura", "password"),
        ("postgresql://dura@localhost/dura?password=secret", "password"),
        ("mysql://dura@localhost/dura", "expected postgresql"),
        ("postgresql://dura@localhost", "expected postgresql"),
        ("postgresql://dura@db.hospital.example/dura", "verify-full"),
        ("postgresql://dura@db.hospital.example/dura?sslmode=require", "verify-full"),
        ("postgresql://dura@/dura?host=db.hospital.example", "verify-full"),
    ],
)
def test_unsafe_urls_are_refused_without_repeating_them(tmp_path: Path, url: str, reason: str) -> None:
    """Passwords in the settings, other databases, and connections that anybody could read are refused."""
    home = SiteHome(tmp_path)
    home.settings.write_text(f'name = "north"\nledger_url = "{url}"\n')
    with pytest.raises(InputError, match=reason) as refusal:
        load_settings(home)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://dura@localhost/dura",
        "postgresql://dura@/dura?host=/run/postgresql",
        "postgresql://dura@db.hospital.example:5433/dura?sslmode=verify-full&sslrootcert=/etc/ca.pem",
    ],
)
def test_safe_urls_are_accepted(tmp_path: Path, url: str) -> None:
    """A local socket, a local port, and a verified connection elsewhere."""
    home = SiteHome(tmp_path)
    home.settings.write_text(f'name = "north"\nledger_url = "{url}"\n')
    assert load_settings(home).ledger_url == url

"""`dura site ledger`: what a privacy officer and a script see of the ledger."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import answer, shown
from tests.support.ledger import DELTA, STEP, allocate, begin, block, key, keys

from dura_client.ledger.ledger import Ledger
from dura_client.site.home import SiteHome
from dura_client.site.policy import write_policy
from dura_common.errors import InputError, StateError, TrustError
from dura_common.policy import Policy
from dura_common.privacy import epsilon_of


@pytest.fixture
def home(tmp_path: Path) -> SiteHome:
    """Return an initialised site without policy and ledger."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\n')
    return site


def site_ledger(home: SiteHome, *words: object, code: int = 0) -> Any:
    """Run `dura site ledger ...` here; return its object, also that of a failure with the expected code."""
    return answer("site", "ledger", *words, "--home", home, code=code, here=True)


def rules(home: SiteHome) -> None:
    """Give the site a policy."""
    write_policy(
        home,
        Policy(
            epsilon_per_study=8,
            epsilon_total=20,
            delta=1e-4,
            minimum_patients=10,
            minimum_sites=3,
            public_data_without_noise=False,
        ),
    )


def test_show_of_a_new_site(home: SiteHome) -> None:
    """Nothing spent is said as zero, and looking makes no file."""
    shown = site_ledger(home, "show")
    assert (shown["spent"], shown["studies"], shown["delta"]) == (0.0, [], None)
    assert site_ledger(home, "verify")["entries"] == 0
    assert not home.ledger.exists()


def test_show_counts_studies_at_the_policys_delta(home: SiteHome) -> None:
    """Each study has its state, draws and price, all together theirs, the caps stand beside them."""
    rules(home)
    ledger = Ledger(home.ledger)
    allocate(ledger, blocks=(block(), block("spare", 2)), delta=1e-4)
    begin(ledger, 1)
    begin(ledger, 1)
    allocate(ledger, keys(1), study="b" * 64, delta=1e-4)
    ledger.close("b" * 64)
    allocate(ledger, study="c" * 64, blocks=(block(event=None),), delta=1e-4)
    begin(ledger, 1, study="c" * 64)
    shown = site_ledger(home, "show")
    assert (shown["delta"], shown["epsilon_per_study"], shown["epsilon_total"]) == (1e-4, 8, 20)
    assert shown["spent"] == ledger.spent(1e-4)
    first, second, public = shown["studies"]
    assert first == {
        "study": "a" * 64,
        "state": "open",
        "draws": 2,
        "redraws": 1,
        "without_noise": 0,
        "epsilon": pytest.approx(epsilon_of([STEP, STEP], 1e-4), rel=1e-9),
    }
    assert (second["state"], second["draws"], second["epsilon"]) == ("closed", 0, 0)
    assert (public["epsilon"], public["without_noise"]) == (None, 1)
    assert 0 < site_ledger(home, "show", "--delta", "0.001")["spent"] < shown["spent"]


def test_show_without_policy_uses_the_delta_of_the_last_allocation(home: SiteHome) -> None:
    """A site whose policy was taken away can still say what was spent."""
    ledger = Ledger(home.ledger)
    allocate(ledger)
    shown = site_ledger(home, "show")
    assert (shown["delta"], shown["spent"]) == (DELTA, ledger.spent(DELTA))
    assert shown["epsilon_total"] is None


def test_people_see_a_table_without_patients(home: SiteHome) -> None:
    """The table has studies, states and prices, and no key of a patient."""
    rules(home)
    ledger = Ledger(home.ledger)
    allocate(ledger, delta=1e-4)
    allocate(ledger, study="c" * 64, blocks=(block(event=None),), delta=1e-4)
    text = shown("site", "ledger", "show", "--home", home)
    for words in ("a" * 12, "open", "of 8", "of 20", "no noise"):
        assert words in text
    assert key(1) not in text


def test_verify_gives_a_hash_to_keep(home: SiteHome) -> None:
    """The printed hash is found again later, a foreign one is not."""
    ledger = Ledger(home.ledger)
    allocate(ledger)
    noted = site_ledger(home, "verify")
    assert noted == {"verified": True, "entries": 2, "hash": ledger.verify().hash}
    begin(ledger, 1)
    assert site_ledger(home, "verify", "--known", noted["hash"])["entries"] == 3
    assert site_ledger(home, "verify", "--known", "0" * 64, code=TrustError.exit_code)["error"]["code"] == "trust"


def test_a_tampered_ledger_fails_both_commands(home: SiteHome) -> None:
    """Neither command shows a number from a ledger whose protection is gone."""
    allocate(Ledger(home.ledger))
    connection = sqlite3.connect(home.ledger)
    with connection:
        connection.execute("DROP TRIGGER entry_update")
        connection.execute("UPDATE entry SET event = NULL")
    connection.close()
    for words in ("show", "verify"):
        assert site_ledger(home, words, code=TrustError.exit_code)["error"]["code"] == "trust"


def test_wrong_use_is_said(home: SiteHome, tmp_path: Path) -> None:
    """An impossible delta and a folder that is no site end with their own codes and make nothing."""
    assert site_ledger(home, "show", "--delta", "2", code=InputError.exit_code)["error"]["code"] == "input"
    assert site_ledger(home, "show", "--delta", "0", code=InputError.exit_code)["error"]["code"] == "input"
    nowhere = SiteHome(tmp_path / "nowhere")
    for words in ("show", "verify"):
        site_ledger(nowhere, words, code=StateError.exit_code)
    assert not nowhere.path.exists()

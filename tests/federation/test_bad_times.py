"""A running study meets a full disk: one clear error, nothing lost, and it goes on after."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.federation.spoiled import SITES, Clinics, refused
from tests.support.commands import dura
from tests.support.processes import children

from dura_client.ledger.ledger import Ledger
from dura_client.site.home import SiteHome

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(600)]

FULL_BYTES = 4096
"""Largest file that a process may still write: less than one page of SQLite's log with its header."""


@pytest.fixture(scope="module")
def clinics(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinics]:
    """Return two running hospitals and their coordinator; every process is gone afterwards."""
    made = Clinics(tmp_path_factory.mktemp("clinics"))
    made.make_all()
    try:
        made.start()
        yield made
    finally:
        made.stop()


def test_a_full_disk_ends_a_run_and_not_the_study(clinics: Clinics) -> None:
    """It charges, loses and half-writes nothing; with space back the same study runs to its end."""
    # 1. A study that everybody approved, so that all its cost is set aside.
    digest = _submit(clinics)
    _together("site", "approve", digest, "--data", "mi", "--yes", made=clinics)
    before = _ledgers(clinics)
    run = ("study", "run", digest, "--home", clinics.coordinator.path)

    # 2. The disk is full: both runners may write no file beyond a few bytes, as prlimit(2) sets for a live process.
    for name in SITES:
        _limit(clinics, name, FULL_BYTES)
    answer = refused(*run)
    assert answer.code == 15
    assert "0 of 2 needed sites are left" in answer.message
    assert "site-fault" in answer.message
    assert "Only the log of the site" in answer.hint
    assert _ledgers(clinics) == before

    # 3. There is space again, and the study that failed runs to its end.
    for name in SITES:
        _limit(clinics, name, resource.RLIM_INFINITY)
        log = (clinics.site(name).logs / "runner.log").read_text()
        assert "ledger.db cannot be used" in log
        assert not any(patient in log for patient in clinics.pseudonyms(name))
    outcome = dura(*run)
    assert (outcome["phase"], outcome["round"]) == ("finished", 2)
    for name in SITES:
        dura("site", "ledger", "verify", "--known", before[name][1], "--home", clinics.site(name).path)
        kinds = Counter(row.kind for row in Ledger(clinics.site(name).ledger).entries())
        assert kinds["begin"] == 3  # two rounds and one evaluation
        assert not list(clinics.site(name).path.glob(".ledger*"))


def _together(*words: object, made: Clinics) -> list[dict[str, Any]]:
    """Run one command at every site, side by side."""
    with ThreadPoolExecutor() as pool:
        return list(pool.map(lambda name: dura(*words, "--home", made.site(name).path), SITES))


def _submit(clinics: Clinics) -> str:
    path: Path = clinics.root / "hands.signed.json"
    digest, offer = clinics.sign()
    path.write_text(offer.study)
    assert dura("study", "submit", path, "--home", clinics.coordinator.path)["digest"] == digest
    return digest


def _ledgers(clinics: Clinics) -> dict[str, tuple[int, str, bytes]]:
    """Return entries, end of the chain and bytes of every ledger, verified."""
    found = {}
    for name in SITES:
        home: SiteHome = clinics.site(name)
        head = Ledger(home.ledger).verify()
        found[name] = (head.entries, head.hash, home.ledger.read_bytes())
    return found


def _limit(clinics: Clinics, name: str, size: int) -> None:
    runner = int(children(clinics.site(name).run)["runner"]["pid"])
    _, hard = resource.prlimit(runner, resource.RLIMIT_FSIZE)
    resource.prlimit(runner, resource.RLIMIT_FSIZE, (hard if size == resource.RLIM_INFINITY else size, hard))

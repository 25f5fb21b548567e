"""The ledger against changes behind its back: nothing is ever decided on rows that were altered or removed."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.ledger import DELTA, QUERY, allocate, begin, block, keys, rows

from dura_client.ledger.ledger import Caps, Ledger
from dura_client.ledger.sqlite import TRIGGERS
from dura_common.errors import BudgetError, InputError, TrustError

TAIL = "purpose, repeat, attempt, cohort, event, delta, epsilon_per_study, epsilon_total, time, hash, hash"
"""Columns of a forged row that continues the chain but for its own hash."""


STRANGER = json.dumps(keys(77))
"""A list of patients that belongs to no row."""
WITHDRAWAL = (
    "kind, study, round, purpose, repeat, attempt, cohort, event, delta, epsilon_per_study, epsilon_total, time, "
    "previous, hash FROM entry WHERE id = 6"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a ledger of five rows and three cohorts: the pseudonyms' check value, two blocks, two draws."""
    ledger = Ledger(tmp_path / "ledger.db")
    allocate(ledger, blocks=(block(), block("evaluate", 1, QUERY, 2)))
    begin(ledger, 1)
    begin(ledger, 2)
    return tmp_path / "ledger.db"


def assault(path: Path, *statements: str) -> None:
    """Change the file as somebody with its password could: triggers away, change, triggers back."""
    connection = sqlite3.connect(path)
    with connection:
        for name in TRIGGERS:
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            assert connection.execute(statement).rowcount != 0
        for trigger in TRIGGERS.values():
            connection.execute(trigger)
    connection.close()


def refuses_everything(path: Path) -> None:
    """Assert that no question is answered and no row is added."""
    before = rows(path)
    ledger = Ledger(path)
    questions: tuple[Callable[[], object], ...] = (
        lambda: allocate(ledger, study="d" * 64),
        lambda: begin(ledger, 3),
        lambda: ledger.close("a" * 64),
        lambda: ledger.spent(DELTA),
        lambda: ledger.studies(DELTA),
        lambda: ledger.room(keys(1), [block()], Caps(epsilon_total=50, epsilon_if_broken=50, delta=DELTA)),
        ledger.entries,
        ledger.last_delta,
        ledger.verify,
    )
    for question in questions:
        with pytest.raises(TrustError, match="cannot be trusted") as refusal:
            question()
        assert not any(patient in str(refusal.value) for patient in keys(1, 2, 3, 4))
    assert rows(path) == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entry SET round = 7 WHERE id = 1",
        "DELETE FROM entry WHERE id = 1",
        "UPDATE cohort SET patients = '[]'",
        "DELETE FROM cohort",
        "INSERT OR REPLACE INTO entry SELECT * FROM entry WHERE id = 1",
        f"REPLACE INTO entry SELECT 6, kind, study, round, {TAIL} FROM entry WHERE id = 4",  # noqa: S608
        "REPLACE INTO cohort SELECT digest, '[]' FROM cohort",
    ],
)
def test_the_database_refuses_changes(path: Path, statement: str) -> None:
    """Rows cannot be changed, deleted or replaced by a plain statement of SQLite."""
    before = rows(path)
    connection = sqlite3.connect(path)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), connection:
        connection.execute(statement)
    connection.close()
    assert rows(path) == before
    assert Ledger(path).verify().entries == 5


COLUMNS = {
    "kind": "'other'",
    "study": "'" + "f" * 64 + "'",
    "round": "7",
    "purpose": "'other'",
    "cohort": "(SELECT max(digest) FROM cohort WHERE digest != entry.cohort)",
    "event": "NULL",
    "delta": "0.01",
    "epsilon_per_study": "99",
    "epsilon_total": "x'ff00'",
    "time": "'2020-01-01T00:00:00+00:00'",
    "previous": "'" + "0" * 64 + "'",
    "hash": "'" + "0" * 64 + "'",
    "id": "77",
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", [1, 3, 5])
def test_an_altered_column_breaks_the_chain(path: Path, column: str, row: int) -> None:
    """Every column of every row is under the hash."""
    assault(path, f"UPDATE entry SET {column} = {COLUMNS[column]} WHERE id = {row}")  # noqa: S608
    refuses_everything(path)


@pytest.mark.parametrize("row", [1, 2, 3, 4, 5])
def test_a_removed_row_breaks_the_chain(path: Path, row: int) -> None:
    """Every row is missed, the last one too."""
    assault(path, f"DELETE FROM entry WHERE id = {row}")  # noqa: S608
    refuses_everything(path)


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM entry WHERE id > 2"],
        ["DELETE FROM entry", "DELETE FROM cohort"],
        ["DELETE FROM entry WHERE id = 4", "UPDATE entry SET id = 4 WHERE id = 5"],
        [f"INSERT INTO entry SELECT 6, kind, study, 3, {TAIL} FROM entry WHERE id = 5"],  # noqa: S608
        ["UPDATE cohort SET patients = '[]' WHERE rowid = 2"],
        ["UPDATE cohort SET patients = x'ff' WHERE rowid = 1"],
        ["UPDATE cohort SET digest = 'other' WHERE rowid = 1"],
        ["DELETE FROM cohort WHERE rowid = 1"],
        [f"INSERT INTO cohort VALUES ('{hashlib.sha256(STRANGER.encode()).hexdigest()}', '{STRANGER}')"],  # noqa: S608
        ["UPDATE sqlite_sequence SET seq = 9"],
        ["DELETE FROM sqlite_sequence"],
    ],
)
def test_cut_swapped_and_added_rows_are_noticed(path: Path, statements: list[str]) -> None:
    """A cut tail, moved, copied and foreign rows, and altered lists of patients are all refused."""
    assault(path, *statements)
    refuses_everything(path)


def test_missing_protection_is_noticed(path: Path) -> None:
    """A ledger without one of its triggers is not trusted even if no row was changed."""
    connection = sqlite3.connect(path)
    connection.execute("DROP TRIGGER entry_update")
    connection.close()
    refuses_everything(path)


@pytest.mark.parametrize("content", [b"", b"not a ledger at all" * 100, b"SQLite format 3\x00" + bytes(4096)])
def test_another_file_in_its_place_is_not_a_ledger(tmp_path: Path, content: bytes) -> None:
    """An empty or foreign file is refused and left as it is; it is never taken for an empty ledger."""
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    for question in (lambda: allocate(Ledger(path)), lambda: Ledger(path).spent(DELTA), Ledger(path).verify):
        with pytest.raises(TrustError, match=r"the file is damaged|not a ledger"):
            question()
    assert path.read_bytes() == content


def test_a_damaged_page_is_noticed(path: Path) -> None:
    """Overwritten pages end in TrustError, whichever they are."""
    whole = path.read_bytes()
    page = 4096
    for start in range(0, len(whole), page):
        path.write_bytes(whole[:start] + b"\xa5" * page + whole[start + page :])
        ledger = Ledger(path)
        try:
            entries = ledger.verify().entries
        except TrustError:
            continue
        assert entries == 5, "only pages without rows may go unnoticed"


@pytest.mark.parametrize("row", [1, 2, 5, 6])
def test_rows_that_were_verified_before_are_still_watched(path: Path, row: int) -> None:
    """A process that has verified everything notices a change of an old row, without reading anew at every question."""
    ledger = Ledger(path)
    begin(ledger, 3)
    assert ledger.verify().entries == 6
    assault(path, f"UPDATE entry SET event = NULL, delta = 0.5 WHERE id = {row}")  # noqa: S608
    refuses_everything(path)
    with pytest.raises(TrustError, match="was altered"):
        begin(ledger, 4)


def test_what_another_process_adds_is_seen(path: Path) -> None:
    """Rows of another process are verified and counted; nothing is decided on an old picture."""
    ledger = Ledger(path)
    cap = ledger.spent(DELTA)
    script = (
        "import sys; from pathlib import Path; from tests.support.ledger import *; "
        "allocate(Ledger(Path(sys.argv[1])), keys(*range(1, 5)), study='e' * 64)"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)
    assert ledger.entries()[-1].study == "e" * 64
    with pytest.raises(BudgetError, match="over all studies"):
        allocate(ledger, keys(4), study="f" * 64, epsilon_total=cap)


def test_a_removed_withdrawal_is_noticed(path: Path) -> None:
    """A withdrawal is a row like every other: neither changed nor taken out, and a second one is refused."""
    ledger = Ledger(path)
    ledger.withdraw(keys(3)[0])
    connection = sqlite3.connect(path)
    for statement in ("DELETE FROM entry WHERE id = 6", "INSERT INTO entry SELECT 7, " + WITHDRAWAL):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"), connection:
            connection.execute(statement)
    connection.close()
    assault(path, "DELETE FROM entry WHERE id = 6", "UPDATE sqlite_sequence SET seq = 5")
    with pytest.raises(TrustError, match="a cohort belongs to no entry"):  # its cohort of one is left behind
        ledger.withdrawn()


def test_a_chained_allocation_of_a_withdrawn_patient_is_noticed(path: Path) -> None:
    """Somebody who can compute hashes still cannot pass `verify` with a cohort that holds a withdrawn patient."""
    ledger = Ledger(path)
    ledger.withdraw(keys(3)[0])
    with ledger._store.writing() as writer:
        first = next(row for row in writer.book.rows if row.purpose == "evaluate")
        writer.add(replace(first, study="e" * 64))
    with pytest.raises(TrustError, match="withdrawn"):
        ledger.verify()


def test_a_ledger_of_a_newer_dura_is_not_touched(path: Path) -> None:
    """An unknown format is refused with both numbers, not guessed."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    before = rows(path)
    with pytest.raises(InputError, match="format 99"):
        allocate(Ledger(path), study="e" * 64)
    assert rows(path) == before


def test_an_older_copy_is_noticed_by_a_noted_hash(path: Path, tmp_path: Path) -> None:
    """A restored old copy is whole in itself; the hash noted since then tells it apart."""
    ledger = Ledger(path)
    shutil.copy(path, tmp_path / "old.db")
    old = ledger.verify()
    begin(ledger, 3)
    noted = ledger.verify(old.hash)
    assert noted.entries == old.entries + 1
    assert ledger.verify(noted.hash) == noted
    shutil.copy(tmp_path / "old.db", path)
    assert ledger.verify() == old
    with pytest.raises(TrustError, match="noted"):
        ledger.verify(noted.hash)


def test_deleting_the_ledger_is_noticed_by_a_noted_hash(path: Path) -> None:
    """An absent ledger is empty, which a noted hash contradicts."""
    noted = Ledger(path).verify().hash
    path.unlink()
    with pytest.raises(TrustError, match="does not contain the entry with the noted hash"):
        Ledger(path).verify(noted)

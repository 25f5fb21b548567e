"""The site's record of what was done to patients' data: append-only, hash-chained, written before it happens.

- An entry is reserved durably (SQLite, WAL, fsync on commit) before the first computation and settled after it.
  A crash between the two counts as spent.
- Entries name a cohort, the set of patients concerned by their keyed pseudonyms. A patient pays for the entries
  of every cohort that he or she is in, composed tightly; renaming or splitting a data set resets nobody.
- Checks and the write are one immediate transaction, so two processes cannot overdraw together.
- Each line holds the hash of the line before; database triggers forbid changes, :meth:`Ledger.verify` finds them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection, create_engine, event, text
from sqlalchemy.exc import DBAPIError

from dura_common.envelope import digest
from dura_common.errors import BudgetError, HostError, StateError, TrustError
from dura_common.privacy import Gaussian, SampledGaussian, epsilon_of, event_from_json, event_to_json

Purpose = Literal["train", "evaluate"]
PrivacyEvent = SampledGaussian | Gaussian
Charges = Sequence[tuple[Sequence[str], Sequence[PrivacyEvent | None]]]

GENESIS = "0" * 64
LOCK_SECONDS = 30.0

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS entries (
        seq INTEGER PRIMARY KEY, time TEXT NOT NULL, kind TEXT NOT NULL, study TEXT NOT NULL, round INTEGER NOT NULL,
        purpose TEXT NOT NULL, cohort TEXT NOT NULL, event TEXT, reserves INTEGER, previous TEXT NOT NULL,
        hash TEXT NOT NULL UNIQUE)""",
    "CREATE UNIQUE INDEX IF NOT EXISTS once ON entries (kind, study, round, purpose)",
    "CREATE TABLE IF NOT EXISTS members (cohort TEXT NOT NULL, patient TEXT NOT NULL, PRIMARY KEY (cohort, patient))",
    *(
        f"CREATE TRIGGER IF NOT EXISTS {table}_{verb} BEFORE {verb} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END"
        for table in ("entries", "members")
        for verb in ("UPDATE", "DELETE")
    ),
)
_HASHED = ("seq", "time", "kind", "study", "round", "purpose", "cohort", "event", "reserves", "previous")


class RepeatedRound(StateError):
    """This round of this study was answered (or begun) before; it is never answered twice."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the ledger."""

    seq: int
    time: str
    kind: Literal["reserve", "settle"]
    study: str
    round: int
    purpose: Purpose
    cohort: str
    event: PrivacyEvent | None
    """None for public data without noise: recorded, but without a price."""


class Ledger:
    """The ledger in one SQLite file, made when it is first opened."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": LOCK_SECONDS})
        event.listen(self._engine, "connect", _prepare_connection)
        event.listen(self._engine, "begin", _begin_immediate)
        with self._transaction() as connection:
            for statement in _SCHEMA:
                connection.execute(text(statement))

    def reserve(
        self,
        *,
        study: str,
        round: int,  # noqa: A002  # the field's own word
        purpose: Purpose,
        patients: Sequence[str],
        event: PrivacyEvent | None,
        epsilon_per_study: float,
        epsilon_total: float,
        delta: float,
    ) -> int:
        """Record durably what is about to happen and return the entry's number.

        Raises:
            RepeatedRound: this round was reserved before.
            BudgetError: a patient would exceed a cap; nothing was written.
            HostError: the ledger cannot be written (a full disk); nothing was written.
        """
        with self._transaction() as connection:
            known = connection.execute(
                text("SELECT 1 FROM entries WHERE study = :s AND round = :r AND purpose = :p"),
                {"s": study, "r": round, "p": purpose},
            ).first()
            if known is not None:
                raise RepeatedRound(f"{purpose} round {round} of this study was answered before")
            if event is not None:
                charges: Charges = [(patients, [event])]
                _check(connection, charges, study, epsilon_per_study, delta, "this study")
                _check(connection, charges, None, epsilon_total, delta, "all studies together")
            cohort = digest("\n".join(sorted(patients)).encode())
            connection.execute(
                text("INSERT OR IGNORE INTO members VALUES (:c, :p)"),
                [{"c": cohort, "p": patient} for patient in patients],
            )
            written = None if event is None else event_to_json(event)
            return _append(connection, "reserve", study, round, purpose, cohort, written, None)

    def settle(self, entry: int) -> None:
        """Record that a reserved entry was used.

        Raises:
            StateError: there is no such entry, or it was settled before.
        """
        with self._transaction() as connection:
            row = connection.execute(
                text("SELECT study, round, purpose, cohort FROM entries WHERE seq = :n AND kind = 'reserve'"),
                {"n": entry},
            ).first()
            done = connection.execute(text("SELECT 1 FROM entries WHERE reserves = :n"), {"n": entry}).first()
            if row is None or done is not None:
                raise StateError(f"entry {entry} of the ledger cannot be settled")
            _append(connection, "settle", row[0], row[1], row[2], row[3], None, entry)

    def fits(self, *, study: str, charges: Charges, epsilon_total: float, delta: float) -> bool:
        """Tell whether further charges would keep every patient below the total cap; entries of ``study`` itself
        are replaced by the charges, so that a plan is not counted twice."""
        with self._transaction() as connection:
            spent = _histories(connection, None, excluding=study)
            return _largest(spent, charges, delta) <= epsilon_total

    def spent(self, delta: float, study: str | None = None) -> float:
        """Return epsilon of the patient who spent most, in one study or in all."""
        with self._transaction() as connection:
            return _largest(_histories(connection, study), [], delta)

    def entries(self) -> list[Entry]:
        """Return all lines in order."""
        with self._transaction() as connection:
            return [_entry(row) for row in _rows(connection)]

    def verify(self) -> int:
        """Check the chain of hashes and return the number of lines.

        Raises:
            TrustError: a line was changed, removed or inserted.
        """
        with self._transaction() as connection:
            previous, number = GENESIS, 0
            for row in _rows(connection):
                number += 1
                if row["seq"] != number or row["previous"] != previous or row["hash"] != _hash(row):
                    raise TrustError(
                        f"the ledger was altered at line {number}",
                        hint="Stop the site, keep the file, and tell the privacy officer.",
                    )
                previous = row["hash"]
            for (cohort,) in connection.execute(text("SELECT DISTINCT cohort FROM entries")):
                members = connection.execute(text("SELECT patient FROM members WHERE cohort = :c"), {"c": cohort})
                if digest("\n".join(sorted(row[0] for row in members)).encode()) != cohort:
                    raise TrustError("the ledger's list of patients was altered")
            return number

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise HostError(
                f"the ledger cannot be used: {error.orig}",
                hint="Check free space and permissions of the site's folder. Nothing was released.",
            ) from error


def _prepare_connection(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_immediate, not by the driver
    for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _append(
    connection: Connection,
    kind: str,
    study: str,
    number: int,
    purpose: str,
    cohort: str,
    written: str | None,
    reserves: int | None,
) -> int:
    last = connection.execute(text("SELECT seq, hash FROM entries ORDER BY seq DESC LIMIT 1")).first()
    seq, previous = (last[0] + 1, last[1]) if last is not None else (1, GENESIS)
    row: dict[str, Any] = {
        "seq": seq,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": kind,
        "study": study,
        "round": number,
        "purpose": purpose,
        "cohort": cohort,
        "event": written,
        "reserves": reserves,
        "previous": previous,
    }
    row["hash"] = _hash(row)
    names = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO entries ({names}) VALUES ({values})"), row)  # noqa: S608  # names are ours
    return int(seq)


def _hash(row: Any) -> str:
    return digest(json.dumps([row[name] for name in _HASHED]).encode())


def _rows(connection: Connection) -> Iterable[Any]:
    return connection.execute(text("SELECT * FROM entries ORDER BY seq")).mappings()


def _entry(row: Any) -> Entry:
    written = None if row["event"] is None else event_from_json(row["event"])
    return Entry(
        row["seq"], row["time"], row["kind"], row["study"], row["round"], row["purpose"], row["cohort"], written
    )


Histories = dict[str, tuple[PrivacyEvent, ...]]


def _histories(connection: Connection, study: str | None, excluding: str | None = None) -> Histories:
    """Return each patient's priced events, in one study or in all."""
    cohorts: dict[str, list[PrivacyEvent]] = {}
    for row in _rows(connection):
        if row["kind"] != "reserve" or row["event"] is None or row["study"] == excluding:
            continue
        if study is None or row["study"] == study:
            cohorts.setdefault(row["cohort"], []).append(event_from_json(row["event"]))
    histories: dict[str, list[PrivacyEvent]] = {}
    for cohort, events in cohorts.items():
        for (patient,) in connection.execute(
            text("SELECT patient FROM members WHERE cohort = :c ORDER BY patient"), {"c": cohort}
        ):
            histories.setdefault(patient, []).extend(events)
    return {patient: tuple(events) for patient, events in histories.items()}


def _largest(histories: Histories, charges: Charges, delta: float) -> float:
    """Return the largest epsilon of any patient; patients with the same history are computed once."""
    combined = dict(histories)
    for patients, events in charges:
        priced = tuple(event for event in events if event is not None)
        for patient in patients:
            combined[patient] = combined.get(patient, ()) + priced
    return max((epsilon_of(events, delta) for events in set(combined.values())), default=0.0)


def _check(
    connection: Connection, charges: Charges, study: str | None, cap: float, delta: float, what: str
) -> None:
    histories = _histories(connection, study)
    concerned = {patient for patients, _ in charges for patient in patients}
    reached = _largest({p: e for p, e in histories.items() if p in concerned}, charges, delta)
    if reached > cap:
        raise BudgetError(
            f"{what} would cost a patient epsilon {reached:.3f} at delta {delta:g}; the policy allows {cap:g}",
            hint="Nothing was released. `dura site ledger show` shows what was spent.",
        )

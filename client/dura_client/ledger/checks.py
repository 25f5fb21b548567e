"""Checks of the ledger that no hash can show: on the order of its rows, and on the arguments of its callers."""

from __future__ import annotations

import re
from functools import lru_cache

from dura_client.ledger.book import Book, said
from dura_client.ledger.charges import Charge, pays
from dura_client.ledger.rows import Content, Release
from dura_common.errors import TrustError
from dura_common.privacy import event_from_json

KEY = re.compile(r"[0-9a-f]{64}")
"""A patient's key in the ledger: the keyed hash of the pseudonym."""


class _Order:
    """Goes through the rows, and keeps only the facts that the rules need, separately from the book."""

    def __init__(self, book: Book) -> None:
        self._book = book
        self._reserved: dict[Release, Content] = {}
        self._withdrawn: set[str] = set()
        self._blocks: dict[tuple[str, str, int], tuple[int, int, set[int]]] = {}
        """Maps study and block to the allocation's number, its declared draws, and the draws that began."""
        self._serial: dict[str, int] = {}
        self._ended: dict[str, int] = {}
        self._attempts: dict[tuple[str, str, int], int] = {}
        self._epoch = 0

    def check(self, row: Content) -> str | None:
        """Return the fault of the next row; None if it has none."""
        if row.kind == "withdraw":
            self._withdrawn.update(self._book.keys_of(row.cohort))
            return None
        if row.kind in {"reserve", "allocate"} and self._withdrawn.intersection(self._book.keys_of(row.cohort)):
            return "holds a withdrawn patient"
        if row.kind in {"reserve", "settle", "refund"}:
            return self._older(row)
        check = {
            "allocate": self._allocate,
            "begin": self._begin,
            "close": self._close,
            "attempt": self._attempt,
            "host": self._host,
        }.get(row.kind)
        if check is not None:
            return check(row)
        return None if row.kind == "identity" else "is of an unknown kind"

    def _older(self, row: Content) -> str | None:
        if row.event is not None:
            event_from_json(row.event)
        if row.kind == "reserve":
            self._reserved[row.release] = row
            return None
        begun = self._reserved.pop(row.release, None)
        return "follows no reservation" if begun is None or row != begun.followed_by(row.kind, row.time) else None

    def _allocate(self, row: Content) -> str | None:
        study, serial = row.study or "", row.attempt or 0
        before, ended, told = self._serial.get(study, 0), self._ended.get(study, 0), said(row)
        if serial not in {before, before + 1} or (serial == before + 1 and ended != before):
            return "sets aside what was set aside already"
        if not pays(Charge(*told["charge"]), told["event"], told["alone"], row.delta or 0.0):
            return "charges less than the price of its events"
        self._serial[study] = serial
        self._blocks[study, row.purpose or "", row.round or 0] = (serial, told["draws"], set())
        return None

    def _begin(self, row: Content) -> str | None:
        study, number = row.study or "", row.repeat or 0
        block = self._blocks.get((study, row.purpose or "", row.round or 0))
        if block is None or block[0] != row.attempt or self._ended.get(study) == row.attempt:
            return "begins a draw of a block that was not set aside"
        if number in block[2] or not 1 <= number <= block[1]:
            return "begins a draw that was not declared, or one a second time"
        if said(row)["epoch"] != self._epoch:
            return "was written by a process that another one had replaced"
        block[2].add(number)
        return None

    def _close(self, row: Content) -> str | None:
        if self._serial.get(row.study or "") != row.attempt or self._ended.get(row.study or "") == row.attempt:
            return "ends what was not set aside"
        self._ended[row.study or ""] = row.attempt or 0
        return None

    def _attempt(self, row: Content) -> str | None:
        key = (row.study or "", row.purpose or "", row.round or 0)
        if (row.attempt or 0) <= self._attempts.get(key, 0):
            return "goes back on the number of a request"
        self._attempts[key] = row.attempt or 0
        return None

    def _host(self, row: Content) -> str | None:
        if row.attempt != self._epoch + 1:
            return "skips an epoch"
        self._epoch += 1
        return None


def check_order(book: Book) -> None:
    """Check that every row follows from earlier rows, and that no patient takes part after withdrawing.

    Raises:
        TrustError: a row breaks a rule.
    """
    order = _Order(book)
    for number, row in enumerate(book.rows, start=1):
        wrong = order.check(row)
        if wrong is not None:
            raise TrustError(f"the privacy ledger cannot be trusted: entry {number} {wrong}")


@lru_cache(maxsize=16)  # each block has the same cohort
def check_cohort(patients: tuple[str, ...]) -> None:
    """Refuse a cohort that is empty, or names a patient twice or by a label (`ValueError`: the caller's fault)."""
    if not patients or len(set(patients)) != len(patients):
        raise ValueError("a cohort must have at least one patient, and no patient twice")
    if not all(KEY.fullmatch(patient) for patient in patients):
        raise ValueError("patients must be named by keys of 64 hexadecimal digits, never by their labels")

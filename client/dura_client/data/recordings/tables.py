"""Tables as BIDS writes them (TSV), read so that nothing disappears: each oddity of the file is told.

No quoting: with quoting one stray quote would swallow the rest of the file. A row of another length is left out and
counted, a column that comes twice is refused.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from dura_client.data.findings.finding import counted, listed
from dura_client.data.recordings.content import kind_of
from dura_client.data.recordings.source import Unreadable

MAX_BYTES = 256 << 20
"""No table of events is larger."""
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
MISSING = {"n/a"}
"""How BIDS writes a missing value."""
NO_NAME = {*MISSING, "", "nan", "null", "#n/a", "n.a."}
"""Cells that name nothing, in small letters: what programs write for a missing text."""
CODES = {*NO_NAME, "na", "none", ".", "missing", "unknown", "?", "-"} - MISSING
"""How others write a missing value, in small letters; ``N/A`` in capitals counts too, see :func:`is_code`."""
CODED_NUMBERS = {-9999.0, -999.0, -99.0, 9999.0}
UNSEEN = re.compile("[\u200b-\u200f\u2028-\u202e\u2060\ufeff\u00ad\0]")
"""Characters that no editor shows, and that make two names different that look the same."""
HARMLESS = {"blank", "trailing", "header", "cells", "ends", "bom"}
"""Kinds of problems by which nothing is lost."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about the file as a table."""

    kind: str
    """``separator``, ``ragged``, ``twice``, ``empty`` or ``encoding``, or one of :data:`HARMLESS`."""
    text: str

    @property
    def harmless(self) -> bool:
        """Whether nothing is lost by it."""
        return self.kind in HARMLESS


@dataclass(frozen=True, slots=True)
class Table:
    """A table of texts."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...] = ()

    def column(self, name: str) -> list[str]:
        """Return the cells of a column, blanks around them removed.

        Raises:
            KeyError: there is none of that name.
        """
        try:
            index = self.columns.index(name)
        except ValueError:
            raise KeyError(name) from None
        return [row[index] for row in self.rows]

    def __contains__(self, name: str) -> bool:
        return name in self.columns


def read_table(path: Path) -> Table:
    """Return a table with everything that is odd about its file.

    Raises:
        Unreadable: it is no file with content, too large, or has columns twice or of no use.
    """
    kind = kind_of(path)
    if kind:
        raise Unreadable("FILE-KIND", f"its content is {kind}, and its name says a table")
    if path.stat().st_size > MAX_BYTES:
        raise Unreadable("SIDE-TABLE", f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Unreadable("FILE-DENIED", f"the system says: {error.strerror}") from error
    problems: list[Problem] = []
    text = _decoded(content, problems)
    if "\r" in text:
        problems.append(Problem("ends", "its lines end as on Windows or an old Mac; they were read all the same"))
    lines = list(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        return Table((), (), (*problems, Problem("empty", "the table is empty")))
    columns = _columns(lines[0], problems)
    if len(columns) == 1 and re.search(r"[,;]|\S\s+\S", columns[0]):
        sign = "commas" if "," in columns[0] else "semicolons" if ";" in columns[0] else "blanks"
        return Table((), (), (*problems, Problem("separator", f"its columns are separated by {sign}, not by tabs")))
    twice = [name for name, count in Counter(columns).items() if count > 1 and name]
    if twice:
        return Table((), (), (*problems, Problem("twice", f"it has columns of the same name: {listed(twice)}")))
    return Table(columns, _rows(lines[1:], len(columns), problems), tuple(problems))


def _columns(line: str, problems: list[Problem]) -> tuple[str, ...]:
    cells = UNSEEN.sub("", line).split("\t")
    columns = tuple(cell.strip() for cell in cells)
    if any(cell != cell.strip() for cell in cells):
        problems.append(Problem("header", "names of columns have blanks around them"))
    if "" in columns:
        problems.append(Problem("header", f"{counted(columns.count(''), 'column')} without a name"))
    return columns


def _decoded(content: bytes, problems: list[Problem]) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.append(Problem("encoding", "it is in UTF-16"))
        return content.decode("utf-16", errors="replace")
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        if len(content) > 1 and not any(content[start:64:2]):  # every other byte is zero: letters of two bytes
            problems.append(Problem("encoding", "it is in UTF-16, without a mark that says so"))
            return content.decode(encoding, errors="replace")
    try:
        text = content.decode("utf-8")
        if text.startswith("\ufeff"):
            problems.append(Problem("bom", "it begins with a byte-order mark, which was left out"))
        return text.removeprefix("\ufeff")
    except UnicodeDecodeError:
        problems.append(Problem("encoding", "it is not in UTF-8 and was read as Latin-1"))
        return content.decode("latin-1")


def _rows(lines: list[str], width: int, problems: list[Problem]) -> tuple[tuple[str, ...], ...]:
    rows, ragged, blank, trailing, padded, unseen = [], [], 0, 0, 0, 0
    for number, line in enumerate(lines, start=2):
        plain = UNSEEN.sub("", line)
        unseen += plain != line
        cells = [cell.strip() for cell in plain.split("\t")]
        padded += any(cell != cell.strip() for cell in plain.split("\t") if cell.strip())
        if not line.strip():
            blank += 1
        elif len(cells) == width:
            rows.append(tuple(cells))
        elif len(cells) > width and not any(cells[width:]):
            trailing += 1
            rows.append(tuple(cells[:width]))
        else:
            ragged.append(number)
    if ragged:
        where = f"line{'s' if len(ragged) > 1 else ''} {listed(str(number) for number in ragged)}"
        problems.append(Problem("ragged", f"{where} not of {width} columns, left out"))
    if blank:
        problems.append(Problem("blank", f"{counted(blank, 'empty line')}"))
    if trailing:
        problems.append(Problem("trailing", f"{counted(trailing, 'line')} with a tab too many at the end"))
    if padded:
        problems.append(Problem("cells", f"{counted(padded, 'line')} with blanks around cells, which were left out"))
    if unseen:
        problems.append(
            Problem("encoding", f"{counted(unseen, 'line')} with characters that no editor shows; they were left out")
        )
    return tuple(rows)


def number_of(cell: str) -> float | None:
    """Return a cell as a number, or None: neither ``1_000`` nor ``inf`` nor ``1e999`` nor a decimal comma is one."""
    value = float(cell) if NUMBER.fullmatch(cell) else math.inf
    return value if math.isfinite(value) else None


def is_code(cell: str) -> bool:
    """Tell whether a cell looks like a code for a missing value that BIDS does not know."""
    return cell not in MISSING and (cell.lower() in {*CODES, *MISSING} or number_of(cell) in CODED_NUMBERS)

"""Tables as BIDS writes them (TSV), read so that nothing disappears: each oddity of the file is told.

No quoting: with quoting one stray quote would swallow the rest of the file. A row of another length is left out and
counted, a column that comes twice is refused.
"""

from __future__ import annotations

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
CODES = {"", "na", "n.a.", "nan", "null", "none", ".", "-9999", "-999", "-99", "9999", "missing", "?", "-"}
"""How others write it, in small letters."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something about the file as a table."""

    kind: str
    """``separator``, ``ragged``, ``twice``, ``header``, ``empty`` or ``encoding``."""
    text: str


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
    lines = list(_decoded(content, problems).replace("\r\n", "\n").replace("\r", "\n").split("\n"))
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        return Table((), (), (*problems, Problem("empty", "the table is empty")))
    columns = tuple(cell.strip() for cell in lines[0].split("\t"))
    if any(cell != cell.strip() for cell in lines[0].split("\t")):
        problems.append(Problem("header", "names of columns have blanks around them"))
    if len(columns) == 1 and re.search(r"[,;]|\S\s+\S", columns[0]):
        sign = "commas" if "," in columns[0] else "semicolons" if ";" in columns[0] else "blanks"
        return Table((), (), (*problems, Problem("separator", f"its columns are separated by {sign}, not by tabs")))
    twice = [name for name, count in Counter(columns).items() if count > 1]
    if twice:
        return Table((), (), (*problems, Problem("twice", f"it has columns of the same name: {listed(twice)}")))
    return Table(columns, _rows(lines[1:], len(columns), problems), tuple(problems))


def _decoded(content: bytes, problems: list[Problem]) -> str:
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        problems.append(Problem("encoding", "it is in UTF-16"))
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        problems.append(Problem("encoding", "it is not in UTF-8 and was read as Latin-1"))
        return content.decode("latin-1")


def _rows(lines: list[str], width: int, problems: list[Problem]) -> tuple[tuple[str, ...], ...]:
    rows, ragged, blank, trailing = [], [], 0, 0
    for number, line in enumerate(lines, start=2):
        cells = [cell.strip() for cell in line.split("\t")]
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
    return tuple(rows)


def number_of(cell: str) -> float | None:
    """Return a cell as a number, or None: neither ``1_000`` nor ``inf`` nor a decimal comma is one."""
    return float(cell) if NUMBER.fullmatch(cell) else None

"""The tutorial is true: its commands are run as they stand, and they answer what the page shows.

Blocks marked ``sh`` are run in order, each in the shell that the one before it left; a block marked ``text`` shows
lines of the answer of the block above it. A page may leave lines out, and lines may come in another order where
commands run side by side, so every line that is shown must be among the answers, as often as it is shown. They are
compared in a stable form:

- the rules of tables are left out, and several spaces count as one;
- fingerprints, digests, and accuracies with their errors (numbers below two with three decimals) may be any others.

Everything else, epsilons and counts among it, is compared as it stands.

What the page says of this run's digests and fingerprints, and of ports, is put in the place of the page's own: a
reader does the same by hand.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.processes import free_port

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(2700)]

PAGE = Path(__file__).parents[2] / "docs" / "tutorial" / "first-study.md"
BLOCK = re.compile(r"^```(sh|text)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
FINGERPRINT = re.compile(r"\b[0-9a-f]{4}(?: [0-9a-f]{4}){9}\b")
DIGEST = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,64}\b")
FRACTION = re.compile(r"(?<![\d.])-?[01]\.\d{3}\b")
PORTS = ("8443", "8444", "8000")
SECONDS = 900
"""For one block. The rehearsal takes one minute on two free cores, and many times as long beside other work."""
BASH = shutil.which("bash") or "bash"


def stable(text: str) -> list[str]:
    """Return the lines of an answer in the form in which they are compared."""
    for pattern, word in ((FINGERPRINT, "FINGERPRINT"), (DIGEST, "DIGEST"), (FRACTION, "FRACTION")):
        text = pattern.sub(word, text)
    lines = [" ".join(re.sub(r"[│┃]", "|", line).split()) for line in text.splitlines()]
    return [line for line in lines if line and not set(line) <= set("┏━┳┓┡╇┩└┴┘┌─┬┐├┼┤")]


@dataclass
class Reader:
    """Somebody who types a page into a shell; a command that names no home must not find the tester's own."""

    folder: Path
    state: Path
    """Where the shell's variables and folder lie between two blocks."""
    instead: dict[str, str] = field(default_factory=dict)
    """What stands in this run in the place of a word of the page."""

    def type(self, block: str) -> str:
        """Run a block and return what it answers; any command that fails fails the test."""
        for theirs, mine in self.instead.items():
            block = block.replace(theirs, mine)
        script = f'. "{self.state}"\n{block}\n{{ export -p; echo "cd \'$PWD\'"; }} > "{self.state}"\n'
        homes = {f"DURA_{side}_HOME": str(self.folder / "none") for side in ("SITE", "RESEARCHER")}
        homes["HOME"] = str(self.folder)
        inherited = {name: value for name, value in os.environ.items() if name != "DURA_COORDINATOR_HOME"}
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        answer = subprocess.run(
            [BASH, "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env={**inherited, **homes, "PATH": path, "COLUMNS": "80", "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert answer.returncode == 0, f"{block}\n{answer.stdout}"
        return answer.stdout

    def learn(self, shown: str, answered: str) -> None:
        """Note which fingerprints and digests this run has where the page has its own."""
        for pattern in (FINGERPRINT, DIGEST):
            for line in shown.splitlines():
                here = re.escape(line)
                for word in pattern.findall(line):
                    here = here.replace(re.escape(word), f"({pattern.pattern})")
                found = re.search(f"^{here}", answered, flags=re.MULTILINE)
                if found:
                    for theirs, mine in zip(pattern.findall(line), found.groups(), strict=True):
                        self.instead.setdefault(theirs[:12] if pattern is DIGEST else theirs, mine[: len(theirs)])


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder with a short path, since sockets lie in the homes below it."""
    with tempfile.TemporaryDirectory(prefix="dura-") as made:
        yield Path(made)


def test_the_tutorial_does_what_it_says(folder: Path) -> None:
    """Every command of the page works in an empty folder, and the lines that the page shows are among the answers."""
    state = folder / "shell"
    state.write_text("")
    home = folder / "reader"
    home.mkdir()
    reader = Reader(home, state, {port: str(free_port()) for port in PORTS})
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert [kind for kind, _ in blocks].count("sh") > 20
    answered = ""
    try:
        for kind, content in blocks:
            if kind == "sh":
                answered = reader.type(content)
                continue
            missing = Counter(stable(content)) - Counter(stable(answered))
            assert not missing, f"not answered: {list(missing)}\nbut:\n{answered}"
            reader.learn(content, answered)
    finally:
        reader.type(
            "for site in north east south west; do dura site stop --home $site & done; wait; "
            "dura coordinator stop --home coordinator"
        )

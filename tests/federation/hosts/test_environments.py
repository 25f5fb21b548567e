"""A whole study by public commands where a shell, an account, a path and an output are not as a developer has them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.commands import DURA
from tests.support.processes import free_port, processes_of, wait_until
from tests.support.running import fix_pseudonyms

from dura_client.site.home import SiteHome

pytestmark = [pytest.mark.federation, pytest.mark.timeout(1200)]

NOWHERE = "http://127.0.0.1:9"
"""A proxy that answers nobody."""
ODD = {
    **{
        name: NOWHERE
        for word in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy")
        for name in (word, word.upper())
    },
    "no_proxy": "127.0.0.1,localhost",
    "HOME": "/proc/self/nowhere",  # nobody can write there, not even root
    "PGPASSFILE": "/proc/1/root/pgpass",  # an account without root's rights may not even look there
    "LC_ALL": "C",
    "TERM": "dumb",
}
SITES = ("north", "west")
PATIENTS = 16
ACCOUNT = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "sleep", "3600")
"""Another account without root's rights, to which the interpreter is readable all the same."""


@dataclass(frozen=True)
class Shell:
    """Runs commands in an environment; see the module."""

    folder: Path
    prefix: tuple[str, ...]
    env: dict[str, str]

    def __call__(self, *words: object) -> dict[str, Any]:
        """Run a command with ``--json`` and return its object."""
        line = [*self.prefix, *DURA, *map(str, words), "--json"]
        done = subprocess.run(
            line, stdin=subprocess.DEVNULL, capture_output=True, env=self.env, timeout=400, check=False, cwd=self.folder
        )
        said = done.stdout + done.stderr
        assert done.returncode == 0, (words, said.decode(errors="replace"))
        assert b"Traceback" not in said
        return dict(json.loads(done.stdout))


@contextmanager
def not_root() -> Iterator[tuple[str, ...]]:
    """Return what comes before a command so that it has no root's rights; empty where this account has none."""
    if os.getuid() != 0:
        yield ()
        return
    if not shutil.which("unshare") or not shutil.which("nsenter"):
        pytest.skip("root cannot become another account here")
    with subprocess.Popen(ACCOUNT, stdin=subprocess.DEVNULL) as account:
        space = Path(f"/proc/{account.pid}/ns/user")
        mine = Path("/proc/self/ns/user").readlink()
        try:
            wait_until(lambda: account.poll() is not None or space.readlink() != mine, "another account")
            if account.poll() is not None:
                pytest.skip("root cannot become another account here")
            yield ("nsenter", f"--user={space}", "--preserve-credentials")
        finally:
            account.kill()


@pytest.fixture
def shell() -> Iterator[Shell]:
    """Return a shell of another account in a folder with spaces and umlauts; no process is left afterwards.

    The path is short, since sockets lie in the homes below it.
    """
    with tempfile.TemporaryDirectory(prefix="dura-") as made_in, not_root() as prefix:
        folder = Path(made_in) / "Übung für Ärzte"
        folder.mkdir()
        made = Shell(folder, prefix, {**os.environ, **ODD, "OMP_NUM_THREADS": "1"})
        try:
            yield made
        finally:
            for group, name in (*(("site", name) for name in SITES), ("coordinator", "coordinator")):
                if (folder / name / "run").exists():
                    made(group, "stop", "--home", folder / name)
        wait_until(lambda: not processes_of(folder), "no process is left", 60)


@pytest.mark.long
def test_a_study_where_nothing_is_as_usual(shell: Shell) -> None:
    """Proxies that answer nobody, no home, LC_ALL=C, spaces and umlauts, no terminal, no root: the study finishes."""
    coordinator, authority, researcher, post = (Path(name) for name in ("coordinator", "authority", "ada", "post"))
    at = ("--home", coordinator)
    ports = ("--port", free_port(), "--aggregation-port", free_port())
    shell("coordinator", "init", "--consortium", "test", "--host", "127.0.0.1", *ports, *at)
    shell("authority", "init", "--coordinator", coordinator, "--authority", authority)
    told = [shell("study", "identity", "--name", "ada", "--researcher", researcher)]
    for name in SITES:
        shell("site", "init", "--name", name, "--home", name)
        fix_pseudonyms(SiteHome(shell.folder / name))
        told.append(shell("site", "fingerprint", "--home", name))
    cards = [word for one in told for word in (one["card"], "--fingerprint", one["fingerprint"])]
    mark = shell("authority", "admit", *cards, "--out", post, "--authority", authority)["fingerprint"]
    caps = ("--epsilon-per-study", 8, "--epsilon-total", 10, "--delta", 1e-3, "--minimum-sites", 2)
    for name in SITES:
        home = ("--home", name)
        shell("site", "join", post / f"{name}.admission.json", "--fingerprint", mark, *home)
        folder = f"Aufnahmen {name}"
        shell("site", "data", "simulate", folder, "--hospital", name, "--patients", PATIENTS, "--trials", 8)
        codes = ("--label", "1=left_hand", "--label", "2=right_hand") if name == "west" else ()
        shell("site", "data", "add", "hands", folder, "--task", "motorimagery", *codes, *home)
        shell("site", "policy", "init", *caps, *home)
    shell("coordinator", "start", "--detach", *at)
    for name in SITES:
        shell("site", "start", "--detach", "--home", name)
    sites = [word for name in SITES for word in ("--site", f"{name}={PATIENTS}")]
    plan = shell.folder / "Studie Ö.toml"
    shell("study", "new", plan, *sites, "--name", "odd", "--noise", "local")
    text = (
        plan.read_text(encoding="utf-8")
        .replace("rounds = 4", "rounds = 1")
        .replace("steps_per_round = 10", "steps_per_round = 2")
    )
    plan.write_text(text, encoding="utf-8")
    signed = shell("study", "sign", plan, "--roster", coordinator / "roster.json", "--researcher", researcher)
    shell("study", "submit", signed["path"], *at)
    for name in SITES:
        shell("site", "approve", signed["digest"], "--data", "hands", "--yes", "--home", name)
    assert shell("study", "run", "odd", *at)["phase"] == "finished"
    shell("study", "report", "odd", "--out", "Bericht Ä.html", *at)
    assert "odd" in (shell.folder / "Bericht Ä.html").read_text(encoding="utf-8")
    for name in SITES:
        found = shell("site", "status", "--home", name)
        assert "coordinator" not in {one["what"] for one in found["conditions"]}
    assert all(site["connected"] for site in shell("coordinator", "status", *at)["sites"])


COMMANDS = (
    ("--version",),
    ("--help",),
    ("study", "list", "--json"),
    ("study", "list"),
    ("site", "fingerprint", "--help"),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_an_output_that_is_full_is_said_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    """The command has not succeeded, since nobody has its answer; no traceback comes instead."""
    env = {**os.environ, "DURA_COORDINATOR_HOME": str(tmp_path)}
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*DURA, *words], stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE, env=env, check=False
        )
    assert done.returncode == 15
    assert done.stderr.decode().strip() == "error: the output could not be written: No space left on device"


def test_a_reader_who_leaves_is_no_crash(tmp_path: Path) -> None:
    """As when the output goes to a command that reads one line."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*DURA, "--help"], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
    )
    os.close(writing)
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr

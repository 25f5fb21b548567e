"""`dura study rehearse` with Flower's simulation engine, from a real subprocess: result, page, Ctrl-C, no strays."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from tests.server.rehearsal.conftest import small
from tests.server.report.test_report import Page
from tests.support.commands import DURA
from tests.support.processes import listening, processes_of, wait_until

from dura_common.messages.rehearsal import GROUP, POINT
from dura_server.rehearsal import simulation

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]


PREPARED = {f"{name}.npy" for name in ("windows", "labels", "recordings", "fingerprints", "contents", "broken")} | {
    "entry.json"
}
"""What is cached of one patient."""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1, the same mapped into IPv6, and ::1."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Return a folder with study.toml, whose path is in the environment of every process started for it."""
    values = small().model_dump(mode="json", exclude_none=True)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(values))
    (tmp_path / "tmp").mkdir()
    yield tmp_path
    wait_until(lambda: not processes_of(tmp_path), "every process has ended", 20)


def start(folder: Path, *words: object) -> subprocess.Popen[str]:
    """Start a rehearsal."""
    return subprocess.Popen(
        [*DURA, "study", "rehearse", *map(str, words), "--json"],
        cwd=folder,
        env={**os.environ, "DURA_TEST_MARK": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_rehearsal_writes_its_figures_and_leaves_nothing_else(folder: Path) -> None:
    """One JSON object on standard output, the same figures in the file and on the page; no process and no data stay."""
    hostile = {"numpy", "torch", "mne", "colorsys"}
    for name in hostile:  # whatever lies in the folder, no process imports it
        (folder / f"{name}.py").write_text("raise SystemExit('the folder is on the import path')")
    process = start(
        folder, "study.toml", "--epsilon", 1, "--epsilon", 8, "--seeds", 1, "--trials", 6, "--page", "p.html"
    )
    output, errors = process.communicate(timeout=500)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    answer: dict[str, Any] = json.loads(output)
    written = json.loads((folder / "study.rehearsal.json").read_text())
    assert set(written) == {"study", "points", "chance", "seconds"}
    assert written == {key: answer[key] for key in written}
    assert (written["study"], written["chance"]) == ("hands", 0.5)
    assert [(point["epsilon"], point["seeds"]) for point in written["points"]] == [(1.0, 1), (8.0, 1)]
    assert all(set(point) == {"epsilon", "mean", "low", "high", "seeds"} for point in written["points"])
    page = Page((folder / "p.html").read_text())
    assert (page.faults, page.open) == ([], [])
    assert "Simulated patients" in page.text
    for point in written["points"]:
        assert f"{point['mean']:.3f}" in page.text
    expected = {"study.toml", "study.rehearsal.json", "p.html", "tmp", *(f"{name}.py" for name in hostile)}
    assert {path.name for path in folder.iterdir()} == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_in_the_middle_it_stops_at_once_and_leaves_no_process(folder: Path, number: int) -> None:
    """Exit code 130, no Ray process, no half-written patient, no result; what was prepared before is kept whole."""
    process = start(folder, "study.toml", "--trials", 60, "--work", "work")
    wait_until(lambda: list(folder.glob("work/simulated-*/north.*")), "the first patients are simulated", 300)
    running = processes_of(folder)
    assert len(running) > 3
    doors = {address for address, _ in listening(running)}
    assert doors  # whoever speaks to Ray can run code as its user
    assert doors <= LOOPBACK
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert json.loads(output)["error"]["code"] == "interrupted"
    assert errors.strip() == ""
    wait_until(lambda: not processes_of(folder), "every process has ended", 20)
    assert not list(folder.glob("*.json"))
    assert not list(folder.glob("work/*/.new-*"))
    parts = list(folder.glob("work/simulated-*/*"))
    assert parts
    for part in parts:
        assert all({file.name for file in entry.iterdir()} == PREPARED for entry in part.glob("*/*"))


def test_without_the_sites_package_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """A researcher's desk without the simulator learns the name of the extra."""
    monkeypatch.setattr(simulation, "entry_points", lambda **_: [])
    with pytest.raises(simulation.StateError, match="not installed here") as caught:
        simulation.site_app()
    assert ".whl[rehearsal]" in caught.value.hint


def test_the_sites_package_offers_its_side() -> None:
    """The entry point is declared under the name that the coordinator's side looks for, and loads."""
    declared = (Path(__file__).parents[3] / "pyproject.toml").read_text()
    section = re.search(rf'\[project.entry-points."{re.escape(GROUP)}"\]\n{POINT} = "([^"]+)"', declared)
    assert section
    assert section[1] == "dura_client.node.rehearsal:app"
    from dura_client.node.rehearsal import app

    assert simulation.site_app() is app

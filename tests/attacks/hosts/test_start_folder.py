"""A hostile folder to start from: modules that shadow everything installed, and variables that point at them."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import tomli_w
from tests.attacks.hosts.probes import ProbedConsortium
from tests.support.processes import processes_of, wait_until
from tests.support.running import TASK
from tests.support.studies import study

from dura_client.data.dataset import DataSet
from dura_client.data.registry import register
from dura_client.data.simulated.simulate import simulate
from dura_client.site.home import SiteHome
from dura_client.site.keys import SiteKeys
from dura_common.runtime.running import status

pytestmark = [pytest.mark.federation, pytest.mark.long, pytest.mark.timeout(300)]

MARK = "import os, sys\nopen({marks!r} + f'/{{os.getpid()}}', 'a').write(__name__ + ' in ' + ' '.join(sys.argv))\n"
OWN = ("dura_common", "dura_client", "dura_server", "sitecustomize", "usercustomize")
INTERPRETER = subprocess.run(
    [sys.executable, "-I", "-c", "import os, sys; print(*sys.modules)"], capture_output=True, text=True, check=True
).stdout.split()
"""Without these Python does not even begin, so they could leave no mark."""
NAMES = {*filter(str.isidentifier, packages_distributions()), *sys.stdlib_module_names, *OWN} - set(INTERPRETER)

ONLINE = """
def probe(grid):
    wait_for(grid, ["north"])
    import os
    return [os.getcwd(), dict(os.environ)]
"""
START = """
import os
from pathlib import Path
from dura_server.home import CoordinatorHome
from dura_server.services.coordinator import run_services
os.environ.update({environment!r})
run_services(CoordinatorHome(Path({path!r})))
"""
"""The supervisor's own imports are done when the hostile variables come."""
DURA = Path(sys.executable).with_name("dura")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a module of every name that a process might import; each writes a mark when it runs."""
    made = tmp_path / "hostile"
    (made / "marks").mkdir(parents=True)
    for name in NAMES:
        (made / f"{name}.py").write_text(MARK.format(marks=str(made / "marks")))
    return made


def marks(folder: Path) -> list[str]:
    """Return what modules of the folder have said."""
    return [path.read_text() for path in (folder / "marks").iterdir()]


def variables(folder: Path) -> dict[str, str]:
    """Return what a hostile or careless profile may set: paths into the folder, and a proxy that does not answer."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PYTHONPATH": f"{folder}:.:",
        "PYTHONSTARTUP": str(folder / "os.py"),
        "LD_LIBRARY_PATH": ":.",
        "FLWR_HOME": str(folder),
        "FLWR_TELEMETRY_ENABLED": "1",
        **{name: nowhere for word in ("http", "https", "all") for name in (f"{word}_proxy", f"{word.upper()}_PROXY")},
    }


def test_nothing_of_the_folder_runs_in_any_process(tmp_path: Path, folder: Path) -> None:
    """Runner, SuperNode, SuperLink, SuperExec, ServerApp, aggregator and gateway start and work; no mark is written."""
    made = ProbedConsortium(tmp_path / "c", ("north",))
    made.root.mkdir()
    made.make_all()
    script = START.format(environment=variables(folder), path=str(made.coordinator.path))
    services = subprocess.Popen([sys.executable, "-P", "-c", script], cwd=folder, stdin=subprocess.DEVNULL)
    home = os.path.relpath(made.site("north").path, folder)
    shell = {name: value for name, value in variables(folder).items() if name != "PYTHONPATH"}  # `dura` itself obeys it
    try:
        wait_until(lambda: status(made.coordinator.run)["ready"], "the coordinator is ready", 90)
        subprocess.run(
            [DURA, "site", "start", "--detach", "--home", home],
            cwd=folder,
            env={**os.environ, **shell},
            stdin=subprocess.DEVNULL,
            check=True,
        )
        where, environment = made.run(ONLINE)  # the ServerApp has run, and the site's node is online
        places = [Path(f"/proc/{process}/cwd").resolve() for process in processes_of(made.root) - {services.pid}]
    finally:
        made.stop()
        services.wait(60)
    assert marks(folder) == []
    assert folder not in {Path(where), *places}
    assert len(places) >= 7
    assert str(folder) not in str(environment)
    assert "127.0.0.1:9" not in str(environment)


def test_nothing_of_the_folder_runs_in_a_worker(tmp_path: Path, folder: Path) -> None:
    """A data manager stands in a folder with data from elsewhere, and prepares them on several cores."""
    site = SiteHome(tmp_path / "site")
    site.path.mkdir(mode=0o700)
    site.settings.write_text('name = "north"\nprepare_processes = 2\n')
    SiteKeys(site).create()
    simulate(tmp_path / "bids", "north", patients=3, trials=2, seed=3)
    register(site, DataSet(name="motor", root=str(tmp_path / "bids"), task=TASK, simulated=True))
    values = study(data={"minimum_patients": 2}).model_dump(mode="json", exclude_none=True)
    (tmp_path / "study.toml").write_text(tomli_w.dumps(values))
    words = ("site", "data", "prepare", "motor", "--study", tmp_path / "study.toml", "--home", site.path)
    done = subprocess.run([DURA, *words], cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert marks(folder) == []
    assert done.returncode == 0, done.stderr

"""The simulated sites, run by Flower's simulation engine: one Ray actor for each core, without a network.

Only this module uses the engine (flwr 1.41.0, pinned exactly). The telemetry of Flower and of Ray is off. Ray listens
on loopback only and asks for a token that is made for one call, because anybody who can speak to Ray can run code as
its user. No process of the engine outlives the call, however the call ends.
"""

from __future__ import annotations

import io
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager, redirect_stdout, suppress
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from dura_common.errors import HostError, StateError, install_with
from dura_common.messages.records import from_records, to_records
from dura_common.messages.rehearsal import GROUP, POINT, Job, check_answer
from dura_server.rounds.ports import Vector

if TYPE_CHECKING:
    from flwr.clientapp import ClientApp
    from flwr.serverapp import Grid

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # elsewhere too it makes Ray listen on loopback instead of everywhere
    "OMP_NUM_THREADS": "1",
}
OBJECT_STORE_BYTES = 128 * 1_048_576
"""Shared memory of Ray; a message of the largest model is far smaller."""
POLL_SECONDS = 0.1
MOST_NODES = 64
"""Number of jobs at a time; more jobs would only wait for a core."""
JOB_SECONDS = 3600.0
MAX_PARAMETERS = 50_000_000


def site_app() -> ClientApp:
    """Return the site's part of a rehearsal, which the site's package contributes.

    Raises:
        StateError: the site's package is not installed here.
    """
    points = [point for point in entry_points(group=GROUP) if point.name == POINT]
    try:
        app: ClientApp = points[0].load()
    except (IndexError, ImportError) as error:
        raise StateError(
            "a rehearsal needs the site's simulator and training engine, which are not installed here",
            hint=install_with("rehearsal"),
        ) from error
    return app


class FlowerCrew:
    """Simulated sites behind Flower's grid. A virtual SuperNode takes one job at a time.

    Args:
        grid: Flower's grid of the running simulation.
        stopped: set when the simulation must end; all waiting then ends too.
    """

    def __init__(self, grid: Grid, stopped: threading.Event) -> None:
        self._grid = grid
        self._stopped = stopped
        self._nodes = sorted(grid.get_node_ids())

    def work(self, jobs: Sequence[tuple[Job, Vector | None]], on_done: Callable[[int], None]) -> list[Vector | None]:
        """Do all jobs, as many at once as there are virtual nodes. Return the answers in the order of the jobs.

        Raises:
            DuraError: a job failed at a simulated site.
            HostError: a simulated site failed without a reason, or the simulation was stopped.
        """
        answers: dict[int, Vector | None] = {}
        waiting: dict[str, tuple[int, int]] = {}
        free, due = list(self._nodes), iter(range(len(jobs)))
        while len(answers) < len(jobs):
            for number in [number for _, number in zip(list(free), due, strict=False)]:
                node = free.pop()
                waiting[self._send(node, *jobs[number])] = (number, node)
            for reply in self._grid.pull_messages(tuple(waiting)):
                number, node = waiting.pop(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    raise HostError("a simulated site failed", hint=f"It said: {str(reply.error.reason)[:500]}")
                body, answers[number] = from_records(reply.content, max_parameters=MAX_PARAMETERS)
                check_answer(body)
                free.append(node)
                on_done(len(answers))
            if self._stopped.wait(POLL_SECONDS):
                raise HostError("the rehearsal was stopped")
        return [answers[number] for number in range(len(jobs))]

    def _send(self, node: int, job: Job, vector: Vector | None) -> str:
        from flwr.app import Message  # noqa: PLC0415  # Flower must not be loaded before its telemetry is off

        kind = {"simulate": "query", "train": "train", "score": "evaluate"}[job.kind]
        records = to_records(job.model_dump_json().encode(), vector)
        (identifier,) = self._grid.push_messages(
            [Message(records, dst_node_id=node, message_type=kind, ttl=JOB_SECONDS)]
        )
        return str(identifier)


def simulate_with(act: Callable[[FlowerCrew], None], *, workers: int) -> None:
    """Run ``act`` with simulated sites. When this function returns or raises, all their processes have ended.

    Args:
        act: the function to run; its errors are raised here.
        workers: how many sites work at the same time, one core each.

    Raises:
        StateError: the site's package or the engine is not installed.
        KeyboardInterrupt: SIGINT or SIGTERM came.
    """
    app = site_app()
    stopped = threading.Event()
    failures: list[BaseException] = []
    with _engine(workers), _interruptible(stopped):
        from flwr.serverapp import ServerApp  # noqa: PLC0415  # see above
        from flwr.simulation import run_simulation  # noqa: PLC0415  # idem

        server = ServerApp()

        @server.main()
        def main(grid: Grid, _context: Any) -> None:
            try:
                act(FlowerCrew(_ready(grid, stopped), stopped))
            except BaseException as error:  # noqa: BLE001  # carried over to the thread that asked
                failures.append(error)
                _end_actors()  # Flower waits for jobs under way

        run_simulation(
            server,
            app,
            num_supernodes=min(4 * workers, MOST_NODES),
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}},
        )
    if failures:
        raise failures[0]


def _ready(grid: Grid, stopped: threading.Event) -> Grid:
    while not list(grid.get_node_ids()) and not stopped.is_set():
        time.sleep(POLL_SECONDS)
    return grid


@contextmanager
def _engine(workers: int) -> Iterator[None]:
    """Start Ray quietly, and remove everything again afterwards. Flower uses a Ray that is already running."""
    settings = {**QUIET, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    before = {name: os.environ.get(name) for name in (*settings, "PYTHONPATH")}
    os.environ.update(settings)
    try:
        import ray  # noqa: PLC0415  # an optional part, heavy, and it reads the environment when it is loaded
    except ImportError as error:
        raise StateError(
            "a rehearsal needs Flower's simulation engine, which is not installed here",
            hint=install_with("rehearsal"),
        ) from error
    scratch = tempfile.mkdtemp(prefix="dura-ray-")
    logging.getLogger("flwr").setLevel(logging.CRITICAL)  # errors come back as errors
    try:
        # Ray says on standard output how it ends, and its processes import from the folder in which it began.
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), chdir(scratch):
            warnings.simplefilter("ignore")
            ray.init(
                num_cpus=workers,
                num_gpus=0,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.CRITICAL,
                _temp_dir=scratch,
                runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
            )
            try:
                yield
            finally:
                ray.shutdown()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _interruptible(stopped: threading.Event) -> Iterator[None]:
    """On SIGINT and SIGTERM, set the event, and raise KeyboardInterrupt when everything has ended.

    An exception in the middle of Flower's engine would leave threads that wait for Ray for ever.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: FrameType | None) -> None:
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if stopped.is_set():
        raise KeyboardInterrupt


def _end_actors() -> None:
    """Kill the processes in which simulated sites compute: children of the raylet that this process started."""
    parents = {int(entry.name): _parent(entry) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    raylets = {
        process
        for process, parent in parents.items()
        if parent == os.getpid() and _read(Path(f"/proc/{process}/comm")).strip() == "raylet"
    }
    for process, parent in parents.items():
        if parent in raylets and _read(Path(f"/proc/{process}/comm")).startswith("ray::"):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _parent(entry: Path) -> int:
    fields = _read(entry / "stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""

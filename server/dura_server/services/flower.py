"""``python -m dura_server.services.flower PART HOME ...``: Flower's processes at the coordinator, as dura starts them.

The parts are Flower's own commands: ``superlink``; ``superexec``, which starts one process for each run; and
``serverapp``, which is this process. They talk to each other over a Unix socket in the coordinator's folder instead of
a port (see :mod:`dura_common.runtime.flower.sockets`).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

from dura_common.runtime.bell import Bell
from dura_common.runtime.environment import module
from dura_common.runtime.flower.sockets import ask_everything_at, serve_at
from dura_common.runtime.flower.waits import override
from dura_common.runtime.processes import how_ended
from dura_server.home import CoordinatorHome

SERVER_APP = "flwr-serverapp"
ASK_SECONDS = 5.0
"""Between two questions for a run to start. Whoever asks for a run rings; a ring may be lost with a process."""
SPARE_SECONDS = 10.0
"""After a run began, until a process is made ready for the next one: the run needs the processors first."""


def _superlink(home: CoordinatorHome) -> None:
    command = import_module("flwr.superlink.cli.flower_superlink")
    serve_at(command, home.superlink_socket)
    command.flower_superlink()


def _superexec(home: CoordinatorHome) -> None:
    spare, bell = Spare(home), Bell(home.runs_bell)

    def start(words: Sequence[str], **_settings: Any) -> subprocess.Popen[bytes]:
        """Start the ServerApp from the installed package."""
        command, *arguments = words
        if command != SERVER_APP:
            raise ValueError(f"expected to start {SERVER_APP}, got {command}")
        process = spare.take(arguments)
        Thread(target=_say_how_it_ends, args=(process,), daemon=True).start()
        return process

    def wait(_seconds: float) -> None:
        spare.keep()
        bell.wait(ASK_SECONDS)

    shortened = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("__")})
    shortened.sleep = wait
    override(import_module("flwr.supercore.superexec.run_superexec"), "time", shortened)
    ask_everything_at(home.superlink_socket)
    executor = import_module("flwr.supercore.superexec.executor.subprocess_executor")
    executor.subprocess = SimpleNamespace(  # type: ignore[attr-defined]  # a namespace in place of the module
        Popen=start, DEVNULL=subprocess.DEVNULL
    )
    import_module("flwr.supercore.cli.flower_superexec").flower_superexec()


class Spare:
    """A ServerApp that has imported Flower, which takes seconds, and waits for its run."""

    def __init__(self, home: CoordinatorHome) -> None:
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None
        self._taken = -SPARE_SECONDS

    def keep(self) -> None:
        """Start a process if none waits, and none has just been taken."""
        alive = self._process is not None and self._process.poll() is None
        if not alive and time.monotonic() - self._taken > SPARE_SECONDS:
            self._process = self._start()

    def take(self, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Give a process its command line. It comes through a pipe: its token stays out of the list of processes.

        Its output goes to the log of this process, where Flower would drop it: the reason of a crash must be found.
        """
        process, self._process, self._taken = self._process, None, time.monotonic()
        if process is None or process.poll() is not None:
            process = self._start()
        with suppress(BrokenPipeError):  # it has just died, and how will be said
            if process.stdin is not None:
                process.stdin.write(json.dumps(list(arguments)).encode())
                process.stdin.close()
        return process

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(module(__spec__.name, "serverapp", str(self._home.path)), stdin=subprocess.PIPE)


def _say_how_it_ends(process: subprocess.Popen[bytes]) -> None:
    """Write into the log how a ServerApp has ended that could not say it itself."""
    code = process.wait()
    if code:
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        print(f"{now} the study's process {process.pid} {how_ended(code)}", flush=True)  # noqa: T201  # this is the log


def _serverapp(home: CoordinatorHome) -> None:
    ask_everything_at(home.superlink_socket)
    command = import_module("flwr.superlink.cli.flwr_serverapp")
    import_module("dura_server.rounds.app")
    arguments = sys.stdin.buffer.read()
    if not arguments:
        return  # who started it has ended
    sys.argv += json.loads(arguments)
    command.flwr_serverapp()


PARTS = {"superlink": _superlink, "superexec": _superexec, "serverapp": _serverapp}


def main(arguments: list[str]) -> None:
    """Run a part until it is stopped: PART HOME, then the words that Flower's command takes."""
    name, home, *rest = arguments
    sys.argv = [f"flower-{name}", *rest]
    PARTS[name](CoordinatorHome(Path(home)))


if __name__ == "__main__":
    main(sys.argv[1:])

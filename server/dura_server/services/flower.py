"""``python -m dura_server.services.flower PART HOME ...``: Flower's processes at the coordinator, as dura starts them.

The parts are Flower's own commands: ``superlink``; ``superexec``, which starts one process for each run; and
``serverapp``, which is this process. They talk to each other over a Unix socket in the coordinator's folder instead of
a port (see :mod:`dura_common.runtime.flower.sockets`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
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

TOKEN = "DURA_TASK_TOKEN"  # noqa: S105  # the name of a variable, not a secret
SERVER_APP = "flwr-serverapp"
ASK_SECONDS = 5.0
"""Between two questions for a run to start. Whoever asks for a run rings; a ring may be lost with a process."""


def _superlink(home: CoordinatorHome) -> None:
    command = import_module("flwr.superlink.cli.flower_superlink")
    serve_at(command, home.superlink_socket)
    command.flower_superlink()


def _superexec(home: CoordinatorHome) -> None:
    def start(words: Sequence[str], **_settings: Any) -> subprocess.Popen[bytes]:
        """Start the ServerApp from the installed package; its token stays out of the list of processes.

        Its output goes to the log of this process, where Flower would drop it: the reason of a crash must be found.
        """
        command, *arguments = words
        at = arguments.index("--token")
        token = arguments[at + 1]
        if command != SERVER_APP:
            raise ValueError(f"expected to start {SERVER_APP}, got {command}")
        line = module(__spec__.name, "serverapp", str(home.path), *arguments[:at], *arguments[at + 2 :])
        process = subprocess.Popen(line, env={**os.environ, TOKEN: token}, stdin=subprocess.DEVNULL)
        Thread(target=_say_how_it_ends, args=(process,), daemon=True).start()
        return process

    bell = Bell(home.runs_bell)
    shortened = SimpleNamespace(**{name: getattr(time, name) for name in dir(time) if not name.startswith("__")})
    shortened.sleep = lambda _seconds: bell.wait(ASK_SECONDS)
    override(import_module("flwr.supercore.superexec.run_superexec"), "time", shortened)
    ask_everything_at(home.superlink_socket)
    executor = import_module("flwr.supercore.superexec.executor.subprocess_executor")
    executor.subprocess = SimpleNamespace(  # type: ignore[attr-defined]  # a namespace in place of the module
        Popen=start, DEVNULL=subprocess.DEVNULL
    )
    import_module("flwr.supercore.cli.flower_superexec").flower_superexec()


def _say_how_it_ends(process: subprocess.Popen[bytes]) -> None:
    """Write into the log how a ServerApp has ended that could not say it itself."""
    code = process.wait()
    if code:
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        print(f"{now} the study's process {process.pid} {how_ended(code)}", flush=True)  # noqa: T201  # this is the log


def _serverapp(home: CoordinatorHome) -> None:
    ask_everything_at(home.superlink_socket)
    sys.argv += ["--token", os.environ.pop(TOKEN)]
    import_module("flwr.superlink.cli.flwr_serverapp").flwr_serverapp()


PARTS = {"superlink": _superlink, "superexec": _superexec, "serverapp": _serverapp}


def main(arguments: list[str]) -> None:
    """Run a part until it is stopped: PART HOME, then the words that Flower's command takes."""
    name, home, *rest = arguments
    sys.argv = [f"flower-{name}", *rest]
    PARTS[name](CoordinatorHome(Path(home)))


if __name__ == "__main__":
    main(sys.argv[1:])

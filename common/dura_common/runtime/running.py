"""A service seen from outside, through its run folder: who holds its lock, what its state is, start it, stop it.

The lock belongs to a live process and vanishes with this process, so a file that was left behind blocks no start.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from dura_common.errors import DuraError, HostError, InputError, StateError
from dura_common.runtime.environment import clean_environment
from dura_common.runtime.files import parse_json, private_folder, read_limited, write_atomic
from dura_common.runtime.processes import mark_of

START_SECONDS = 240.0
STOP_SECONDS = 40.0
TICK_SECONDS = 0.1
LOOK_SECONDS = 1.0
"""A lock is tried again for this long, because another process that looks at it also holds it for a moment."""
MAX_ERROR_BYTES = 20_000
STATE, ENDED, OUTPUT = "state.json", "ended.json", "supervisor.out"
"""Files of a run folder: how the running service stands, why the last one ended by itself, and what it printed."""


class Lock:
    """An exclusive lock on a run folder, held by a live process; it vanishes with the process."""

    def __init__(self, folder: Path) -> None:
        self._path = private_folder(folder) / "lock"
        self._descriptor = -1

    def __enter__(self) -> Self:
        self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + LOOK_SECONDS
        while not self._taken():
            if time.monotonic() > deadline:
                os.close(self._descriptor)
                raise StateError("it is running already", hint="Use `stop` first, or `status` to look.")
            time.sleep(TICK_SECONDS / 10)  # a process that asks for the status holds the lock for a moment
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        return self

    def _taken(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)


def holder(folder: Path) -> int | None:
    """Return the process that holds the lock of a run folder, or None.

    A process that has just taken the lock may not have written its number yet, and the file may still hold an older
    number. So only a process that has the file open is returned.
    """
    path = folder / "lock"
    deadline = time.monotonic() + LOOK_SECONDS
    while path.exists():
        with path.open("rb") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                text = stream.read().strip()
            else:
                return None
        if text.isdigit() and _has_open(int(text), path):
            return int(text)
        if time.monotonic() > deadline:
            return None
        time.sleep(TICK_SECONDS / 10)
    return None


def _has_open(process: int, path: Path) -> bool:
    try:
        mine, links = path.stat(), list(Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False
    return any(_same(link, mine) for link in links)


def _same(link: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(link.stat(), file)
    except OSError:
        return False  # closed meanwhile


def stop(folder: Path) -> bool:
    """Ask the supervisor of a run folder to stop, and wait until it has stopped; False if none is running.

    Raises:
        HostError: the supervisor does not stop.
    """
    process = holder(folder)
    if process is None:
        return False
    os.kill(process, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while holder(folder) is not None:
        if time.monotonic() > deadline:
            raise HostError(f"process {process} does not stop")
        time.sleep(TICK_SECONDS)
    return True


def status(folder: Path) -> dict[str, Any]:
    """Return the state of a run folder: whether it runs, is ready, since when, and its children that live.

    A child without a pid is ``resting`` until there is work, or has just died. If nothing runs, ``ended`` tells why the
    last one ended by itself (when, code, message, hint).
    """
    process = holder(folder)
    if process is None:
        ended = _read(folder / ENDED)
        return {"running": False, "ready": False, "children": [], **({"ended": ended} if ended else {})}
    state = read_state(folder)
    if state.get("pid") != process:  # of one that was killed: the present one has not written its own yet
        return {"running": True, "ready": False, "children": []}
    for child in state["children"]:
        mark = mark_of(child["pid"]) if child["pid"] else None
        if mark is None or mark != child.get("mark"):
            child["pid"] = None  # it has just died, and is about to be started again
        child.pop("mark", None)
    return {"running": True, **state}


@contextmanager
def telling_why(folder: Path) -> Iterator[None]:
    """Keep the error with which a service in a run folder ends, for who asks for its status later."""
    try:
        yield
    except DuraError as error:
        if holder(folder) is None:  # or this was a second start, and the first one runs
            told = {"when": time.time(), "code": error.code, "message": error.message, "hint": error.hint}
            with suppress(HostError):  # a full disk may be the reason
                write_atomic(private_folder(folder) / ENDED, json.dumps(told).encode())
        raise


def read_state(folder: Path) -> dict[str, Any]:
    """Return what the last supervisor of a run folder has written; empty if there is nothing that can be read."""
    return _read(folder / STATE)


def _read(path: Path) -> dict[str, Any]:
    try:
        return parse_json(read_limited(path, what="the state"), what="the state")
    except InputError:
        return {}


def detach(argv: Sequence[str], folder: Path) -> None:
    """Start a supervisor command in the background and return when it is ready.

    ``argv`` must be a dura command with --json: its JSON object says what went wrong. The command runs in ``folder``
    with a clean environment, so every path in it must be absolute.

    Raises:
        StateError: a supervisor is already running.
        HostError: the supervisor did not become ready.
        DuraError: the error that the command itself reported, in its own family.
    """
    if holder(folder) is not None:
        raise StateError("it is running already", hint="Use `stop` first, or `status` to look.")
    output = private_folder(folder) / OUTPUT
    output.unlink(missing_ok=True)
    with output.open("ab") as stream:  # a rotation cuts it off: who appends goes on at the new end
        process = subprocess.Popen(
            argv,
            cwd=folder,
            env=clean_environment(proxies=True),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    deadline = time.monotonic() + START_SECONDS
    while not status(folder)["ready"]:
        if process.poll() is not None:
            raise _why(output)
        if time.monotonic() > deadline:
            process.terminate()
            raise HostError("it did not become ready in time", hint=f"See {output}")
        time.sleep(TICK_SECONDS)


def _why(output: Path) -> DuraError:
    """Return the error that a command wrote as JSON, in its family, so that scripts see one exit code either way."""
    families = {family.code: family for family in DuraError.__subclasses__()}
    try:
        error = json.loads(output.read_bytes()[-MAX_ERROR_BYTES:])["error"]
        return families[error["code"]](f"it did not start: {error['message']}", hint=str(error["hint"]))
    except (ValueError, KeyError, TypeError):
        return HostError(f"it did not start: see {output}")


def require_free_port(host: str, port: int, *, what: str) -> None:
    """Refuse to start if a port is already in use.

    Raises:
        HostError: the port is in use, or this account may not use it.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise HostError(
                f"port {port} for {what} cannot be used: {error.strerror}",
                hint="Another process uses the port, or the port needs more rights. Choose another port.",
            ) from error

"""Processes, ports and folders of this machine: what tests wait for, need, and must not leave behind."""

from __future__ import annotations

import os
import socket
import sys
import time
import venv
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from dura_common.runtime.running import status

REPOSITORY = Path(__file__).resolve().parents[2]
POLL_SECONDS = 0.02
LISTENS = "0A"
"""The state of a socket that accepts connections, in /proc/net/tcp."""


def real_data(sample: str) -> Path | None:
    """Return the folder of the real recordings, or None where a checkout comes without this file of them."""
    folder = Path(os.environ.get("DURA_TEST_DATA", REPOSITORY.parent / "shared" / "data"))
    return folder if (folder / sample).exists() else None


_given: set[int] = set()
"""Ports that were handed out: the system may well name a port twice while nobody listens on it yet."""


def free_port() -> int:
    """Return a port that nobody listens on, and never the same one twice."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port not in _given:
            _given.add(port)
            return port


def wait_until(done: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    """Wait until ``done`` is true, or fail naming what was awaited."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:.0f} s"
        time.sleep(POLL_SECONDS)


def alive(process: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(run: Path) -> dict[str, dict[str, Any]]:
    """Return the supervised children that a run folder tells of, by name."""
    return {child["name"]: child for child in status(run)["children"]}


def processes_of(root: Path) -> set[int]:
    """Return every process whose command line or environment names a folder: nothing may be left of it."""
    mark, found = str(root).encode(), set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark in text and alive(int(entry.name)):
            found.add(int(entry.name))
    return found


def listening(processes: Iterable[int]) -> set[tuple[str, int]]:
    """Return where some processes accept TCP connections: the address as the kernel writes it, and the port."""
    sockets = set()
    for process in processes:
        for link in Path(f"/proc/{process}/fd").glob("*"):
            with suppress(OSError):
                sockets.add(str(link.readlink()))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENS and f"socket:[{fields[9]}]" in sockets:
                address, _, port = fields[1].partition(":")
                found.add((address, int(port, 16)))
    return found


def interpreter(folder: Path, *folders: Path) -> Path:
    """Make a Python that has everything installed that this one has, and the modules in ``folders``; return it.

    dura starts its processes in an environment of its own making, so code of tests must be installed to get into them.
    """
    venv.EnvBuilder(symlinks=True).create(folder)
    (packages,) = folder.glob("lib/python3*/site-packages")
    known = [path for path in sys.path if path.endswith(("site-packages", "common", "client", "server"))]
    (packages / "tests.pth").write_text("\n".join([*map(str, folders), *known]) + "\n")
    for script in Path(sys.executable).parent.glob("fl*w*r-*"):
        copy = folder / "bin" / script.name
        copy.write_text(f"#!{folder}/bin/python\n" + script.read_text().partition("\n")[2])
        copy.chmod(0o755)
    return folder / "bin" / "python"

"""Runs a supervisor with small children in a process of its own, as the commands do."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PROGRAM = """
import os, sys
from pathlib import Path
from dura_common.runtime import supervisor
from dura_common.runtime.supervisor import Child, Supervisor
folder = Path(sys.argv[1])
def child(name, script, ready=None):
    argv = [sys.executable, "-c", script, name, str(folder)]
    return Child(name, argv, os.environ, folder / "log" / f"{name}.log", ready)
"""
SLEEPER = "import sys,time,pathlib\npathlib.Path(sys.argv[2], sys.argv[1] + '.up').touch()\ntime.sleep(600)"
STUBBORN = "import signal,time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(600)"


@contextmanager
def supervised(folder: Path, script: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a supervisor in its own process, as the commands do."""
    text = PROGRAM + f"SLEEPER = {SLEEPER!r}\nSTUBBORN = {STUBBORN!r}\n".replace("\\\n", "\n") + textwrap.dedent(script)
    process = subprocess.Popen([sys.executable, "-c", text, str(folder)], start_new_session=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


TWO = 'Supervisor([child("first", SLEEPER), child("second", SLEEPER)], folder).run()'

"""The demo's folders, and the function that prints and runs each public command."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dura_common.errors import HostError
from dura_common.runtime.console import Output
from dura_common.runtime.environment import module

HOSPITALS = ("north", "east", "south", "west")
PARALLEL = 2


@dataclass
class Stage:
    """The demo's folders and its way to run commands."""

    out: Output
    work: Path
    patients: int
    seed: int
    seconds: dict[str, float] = field(default_factory=dict)
    stopped: bool = False

    @property
    def coordinator(self) -> Path:
        """The coordinator's home."""
        return self.work / "coordinator"

    def site(self, name: str) -> Path:
        """One hospital's home."""
        return self.work / "sites" / name

    def dura(self, *arguments: str | Path) -> dict[str, Any]:
        """Print one public command, run it with --json, and return its output.

        Raises:
            HostError: the command failed; its own message is passed on.
        """
        words = ["dura", *map(str, arguments)]
        self.out.say(f"[cyan]$ {shlex.join(words)}[/cyan]")
        process = subprocess.run(
            module("dura_common", *words[1:], "--json"),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},  # two commands share two cores; more threads only collide
            check=False,
        )
        try:
            answer = json.loads(process.stdout or b"{}")
        except json.JSONDecodeError:
            answer = {}
        if process.returncode != 0:
            fault = answer.get("error", {}).get("message") or process.stderr.decode(errors="replace")[-2000:]
            raise HostError(f"`{shlex.join(words[:3])}` ended with {process.returncode}: {fault}")
        return dict(answer)

    def together(
        self, commands: Sequence[Sequence[str | Path]], title: str, at_once: int = PARALLEL
    ) -> list[dict[str, Any]]:
        """Run commands, ``at_once`` at a time, with a progress bar. Return the outputs in the order of the commands."""
        with self.out.progress() as bar, ThreadPoolExecutor(at_once) as pool:
            task = bar.add_task(title, total=len(commands))

            def one(arguments: Sequence[str | Path]) -> dict[str, Any]:
                answer = self.dura(*arguments)
                bar.advance(task)
                return answer

            return list(pool.map(one, commands))

    def at_each_site(self, act: Callable[[str], object], title: str, *, beside: Callable[[], object]) -> None:
        """Do the same at every hospital, and something else beside it, two at a time, with a progress bar."""
        with self.out.progress() as bar, ThreadPoolExecutor(PARALLEL) as pool:
            task = bar.add_task(title, total=len(HOSPITALS) + 1)

            def one(work: Callable[[], object]) -> None:
                work()
                bar.advance(task)

            list(pool.map(one, [beside, *(partial(act, name) for name in HOSPITALS)]))

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the seconds of a block to the figure ``name``."""
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - begin, 2)

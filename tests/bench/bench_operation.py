"""What a study costs beside computing: waits between rounds, the demo's parts, idle processes.

Everything is real: four hospitals and their coordinator as processes of their own on this machine, started with the
public commands. Seconds depend on what else the machine does, so every line tells the load.
"""

from __future__ import annotations

import ctypes
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.line import Line, seconds
from tests.federation.hospitals import Hospitals, small_study
from tests.support.commands import dura
from tests.support.processes import REPOSITORY, children, wait_until
from tests.support.running import RunningConsortium

from dura_client.node.runner import REST_SECONDS
from dura_common.runtime.running import status
from dura_server.demo.stage import HOSPITALS

ROUNDS = 8
MANY = 50
SETTLE_SECONDS = 20.0
IDLE_SECONDS = 60.0
PR_SET_CHILD_SUBREAPER = 36
TICKS = os.sysconf("SC_CLK_TCK")
BEGUN = re.compile(r"^(\S+ \S+) INFO \S+: session (.+): attempt 1 of")
FINISHED = re.compile(r"^(\S+ \S+) INFO \S+: session (.+): finished$")


@contextmanager
def hospitals() -> Iterator[Hospitals]:
    """Return four running hospitals and their coordinator."""
    with tempfile.TemporaryDirectory(prefix="dura-bench-") as folder:
        made = Hospitals(Path(folder))
        made.make_all()
        try:
            RunningConsortium.start(made)
            yield made
        finally:
            made.stop()


def load() -> float:
    """Return the machine's load of the last minute."""
    return round(os.getloadavg()[0], 1)


def gaps(log: str) -> list[float]:
    """Return the seconds between the last sum of each session and the moment at which all sites attend the next one."""
    found, end = [], None
    for line in log.splitlines():
        begun, finished = BEGUN.match(line), FINISHED.match(line)
        if finished:
            end = _moment(finished[1])
        elif begun and end is not None:
            found.append((_moment(begun[1]) - end).total_seconds())
            end = None
    return found


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f").astimezone()


def round_control() -> Line:
    """Measure what passes between two sums of a study that is not computing: asking, coming, agreeing."""
    with hospitals() as made:
        stored = made.approved(small_study("control", rounds=ROUNDS))
        taken = seconds(lambda: made.run_study(stored))
        found = gaps((made.coordinator.logs / "aggregator.log").read_text())
    assert len(found) >= ROUNDS
    detail = {
        "before_each_sum": [round(value, 2) for value in found],
        "rounds": ROUNDS,
        "sums": "a training and an evaluation a round, without the first one",
        "median_before_a_sum": round(median(found), 2),
        "study_run_seconds": round(taken, 1),
        "share_of_study_run": round(sum(found) / taken, 2),
        "load": load(),
    }
    return Line("round_control_s", round(sum(found) / ROUNDS, 2), "s", detail)


@cache
def demonstrated() -> dict[str, Any]:
    """Run the demo on recordings that are there already, and then the same steps pooled in one process."""
    with tempfile.TemporaryDirectory(prefix="dura-bench-") as folder:
        work, before = Path(folder), load()
        for name in HOSPITALS:
            dura(
                "site",
                "data",
                "simulate",
                work / "seed-1" / "data" / name,
                "--hospital",
                name,
                "--patients",
                40,
                "--seed",
                1,
            )
        adopt_orphans()
        at_first = processor_seconds()
        answer = dura("demo", "--work", work, timeout=1800)
        taken = processor_seconds() - at_first
        home = work / "seed-1" / "sites"
        (digest,) = [path.name for path in (work / "seed-1" / "coordinator" / "studies").iterdir() if path.is_dir()]
        pools = [word for name in HOSPITALS[1:] for word in ("--pool", home / name)]
        pooled = seconds(
            lambda: dura("site", "baseline", digest, *pools, "--data", "motor-imagery", "--home", home / HOSPITALS[0])
        )
    return {"seconds": answer["seconds"], "processor": taken, "pooled": pooled, "load": [before, load()]}


def adopt_orphans() -> None:
    """Become the parent of processes whose own parent ends, such as services, so that their time is known here."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def processor_seconds() -> float:
    """Return the processor time of all children that have ended, with their own children."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def demo_seconds(part: str) -> Line:
    """Measure a part of the demo, or all of it, recordings not counted."""
    found = demonstrated()
    parts = {name: value for name, value in found["seconds"].items() if name != "simulate"}
    value = sum(parts.values()) if part == "all" else parts[part]
    detail = {"parts": parts, "processor_seconds": round(found["processor"], 1), "load": found["load"]}
    return Line(f"demo_seconds.{part}", round(value, 1), "s", detail)


def federated_vs_pooled() -> Line:
    """Compare `dura study run` of four hospitals on this machine with `dura site baseline` on all their patients."""
    found = demonstrated()
    train = found["seconds"]["train"]
    detail = {"study_run_seconds": train, "pooled_seconds": round(found["pooled"], 1), "load": found["load"]}
    return Line("federated_vs_pooled_time", round(train / found["pooled"], 2), "", detail)


@cache
def idle() -> dict[str, dict[str, dict[str, float]]]:
    """Return what each process of a site and of the coordinator takes while nothing happens: percent of a core, MiB."""
    with hospitals() as made:
        homes = {"coordinator": made.coordinator, "site": made.site(made.names[0])}
        wait_until(lambda: children(homes["site"].run)["runner"]["resting"], "the runner rests", REST_SECONDS + 60)
        time.sleep(SETTLE_SECONDS)
        return watched({side: home.run for side, home in homes.items()})


@cache
def many() -> dict[str, dict[str, float]]:
    """Return what the coordinator's processes take while the nodes of many sites wait."""
    with tempfile.TemporaryDirectory(prefix="dura-bench-") as folder:
        made = RunningConsortium(Path(folder), tuple(f"site-{number:02d}" for number in range(MANY)))
        made.make_all()
        nodes = None
        try:
            made.start_coordinator()
            words = [
                sys.executable,
                "-m",
                "tests.bench.parts.many_nodes",
                *(str(made.site(n).path) for n in made.names),
            ]
            nodes = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY)
            assert nodes.stdout is not None
            assert b"signed on" in nodes.stdout.readline()
            time.sleep(SETTLE_SECONDS)
            return watched({"coordinator": made.coordinator.run})["coordinator"]
        finally:
            if nodes is not None:
                nodes.kill()
            made.stop()


def watched(runs: dict[str, Path]) -> dict[str, dict[str, dict[str, float]]]:
    """Watch the processes of some run folders for a while: percent of a core, and MiB at the end."""
    pids = {
        side: {
            "supervisor": int(status(run)["pid"]),
            **{name: int(child["pid"]) for name, child in children(run).items() if not child["resting"]},
        }
        for side, run in runs.items()
    }
    before = {side: {name: _ticks(pid) for name, pid in found.items()} for side, found in pids.items()}
    begin = time.monotonic()
    time.sleep(IDLE_SECONDS)
    taken = time.monotonic() - begin
    return {
        side: {
            name: {"percent": round((_ticks(pid) - before[side][name]) / TICKS / taken * 100, 2), **_memory(pid)}
            for name, pid in found.items()
        }
        for side, found in pids.items()
    }


def _ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def _memory(pid: int) -> dict[str, float]:
    """Return the memory that a process holds (RSS), and its share of it where several use the same pages (PSS)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return {
        f"{name.lower()}_mib": round(int(re.findall(rf"(?m)^{name}:\s+(\d+) kB", text)[0]) / 1024, 1)
        for name in ("Rss", "Pss")
    }


def idle_cpu(side: str) -> Line:
    """Measure the busiest of a side's processes while nothing happens."""
    processes = idle()[side]
    value = max(process["percent"] for process in processes.values())
    return Line(
        f"idle_cpu_percent.{side}", value, "%", {"processes": processes, "seconds": IDLE_SECONDS, "load": load()}
    )


def superlink_of_many() -> Line:
    """Measure the SuperLink while the nodes of many sites wait."""
    processes = many()
    detail = {"processes": processes, "seconds": IDLE_SECONDS, "load": load()}
    return Line(f"idle_cpu_percent.superlink_{MANY}_sites", processes["superlink"]["percent"], "%", detail)


def site_memory() -> Line:
    """Measure the memory of all processes of an idle site."""
    processes = idle()["site"]
    value = sum(process["rss_mib"] for process in processes.values())
    return Line("site_rss_mib", round(value, 1), "MiB", {"processes": processes})


BENCHES = {
    "round_control_s": round_control,
    "demo_seconds.start": lambda: demo_seconds("start"),
    "demo_seconds.train": lambda: demo_seconds("train"),
    "demo_seconds.all": lambda: demo_seconds("all"),
    "federated_vs_pooled_time": federated_vs_pooled,
    "idle_cpu_percent.site": lambda: idle_cpu("site"),
    "idle_cpu_percent.coordinator": lambda: idle_cpu("coordinator"),
    f"idle_cpu_percent.superlink_{MANY}_sites": superlink_of_many,
    "site_rss_mib": site_memory,
}

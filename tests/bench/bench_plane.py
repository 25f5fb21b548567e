"""The aggregation plane: seconds of 300 step sums, bytes of one step, seconds until a lost site is noticed.

Everything is real: the service and every site are processes of their own, with mutual TLS over loopback and all
signatures, and they share the cores of this machine. Loopback has no latency: between hospitals a step sum takes one
round trip more, a round sum three.
"""

from __future__ import annotations

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from tests.bench.line import Line
from tests.support.plane.relays import Relay
from tests.support.plane.service import Plane
from tests.support.processes import REPOSITORY, wait_until

from dura_common.secagg import Kind, SessionParameters
from dura_server.sums.client import RunningSession, SessionFailed, open_session
from dura_server.sums.events import Timing

STEPS = 300
ROUND_SUMS = 60
"""Round sums that are run; the time of 300 is scaled from them."""
REPEATS = 3
NAMES = ("site-a", "site-b", "site-c", "site-d")
PATIENT = Timing(join=60, step=60, rejoin=2)


@contextmanager
def plane() -> Iterator[Plane]:
    """Return a running service of four sites."""
    with tempfile.TemporaryDirectory(prefix="dura-bench-") as folder:
        made = Plane(Path(folder), names=NAMES)
        made.make_all()
        made.start()
        try:
            yield made
        finally:
            made.stop()


def _slowest(made: Plane, params: SessionParameters, sums: int = STEPS, address: str = "") -> float:
    """Run a session between site processes; return the seconds of the slowest, connecting included."""
    path = made.root / "bench-params"
    path.write_bytes(params.encode())
    sites = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.bench.parts.plane_site", str(made.site(name).path), str(path)),
                *(str(sums), address if name == NAMES[0] else ""),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
        )
        for name in NAMES
    ]
    for site in sites:
        assert site.stdout is not None
        assert site.stdout.readline() == "ready\n"
    server = threading.Thread(target=_take, args=(made, params, sums))
    server.start()
    time.sleep(0.2)  # the session is open before the clock starts
    for site in sites:
        assert site.stdin is not None
        site.stdin.write("go\n")
        site.stdin.flush()
    taken = []
    for site in sites:
        output, _ = site.communicate(timeout=300)
        assert site.returncode == 0
        taken.append(float(output.split()[1]))
    server.join()
    return max(taken)


def _take(made: Plane, params: SessionParameters, sums: int) -> None:
    """Be the ServerApp: take every sum."""
    with open_session(made.coordinator, params, PATIENT, sums=sums) as session:
        assert len(list(session)) == sums


def steps_bench(length: int) -> Callable[[], Line]:
    """Return the bench of 300 step sums of a length between four sites."""

    def bench() -> Line:
        with plane() as made:
            runs = [
                _slowest(made, made.params(kind=Kind.STEP, length=length, steps=STEPS, number=1000 * (number + 1)))
                for number in range(REPEATS)
            ]
            rounds = _slowest(made, made.params(kind=Kind.ROUND, length=length, number=10_000), ROUND_SUMS)
        detail = {
            "runs": [round(value, 3) for value in runs],
            "processors": os.cpu_count(),
            "round_safety_seconds_scaled": round(rounds / ROUND_SUMS * STEPS, 2),
            "round_safety_sums_run": ROUND_SUMS,
            "round_safety_note": "fresh keys and shares for every sum, over the same streams",
        }
        return Line(f"plane.300_steps_s.{length}_4", round(statistics.median(runs), 3), "s", detail)

    return bench


def bytes_bench() -> Line:
    """Measure what one site uploads for one step of 40,000 parameters: TLS and HTTP/2 counted, set-up spread."""
    length = 40_000
    with plane() as made, Relay(made.port) as relay:
        _slowest(made, made.params(kind=Kind.STEP, length=length, steps=STEPS), address=relay.address)
        value = relay.uploaded / STEPS
    detail = {"payload": 4 * length, "overhead": round(value - 4 * length), "counted": "TCP payload through a relay"}
    return Line(f"plane.bytes_per_step.{length}_4", round(value), "B", detail)


def notice_bench(word: str, number: signal.Signals) -> Callable[[], Line]:
    """Return the bench of how long the service needs to notice a site that got a signal in a running session."""

    def bench() -> Line:
        with plane() as made:
            taken = [_notice(made, number, 100 + run) for run in range(REPEATS)]
        return Line(f"plane.notice_s.{word}", round(max(taken), 3), "s", {"runs": [round(v, 3) for v in taken]})

    return bench


def _drain(running: RunningSession) -> None:
    with suppress(SessionFailed):  # the bench ends the session when it has seen enough
        for _ in running:
            pass


def _notice(made: Plane, number: signal.Signals, session: int) -> float:
    params, victim = made.params(kind=Kind.STEP, steps=100_000, length=100, number=session), NAMES[-1]
    with open_session(made.coordinator, params, PATIENT) as running:
        threading.Thread(target=_drain, args=(running,), daemon=True).start()
        for name in NAMES:
            (made.root / f"{name}.log").unlink(missing_ok=True)
            made.start_site(name, params, pause=0.02)
        wait_until(lambda: made.progress(victim) > 20, "the session runs", 60)
        seen, when = len(made.log), datetime.now().astimezone()
        os.kill(made.sites[victim].pid, number)
        wait_until(lambda: f"{victim} left" in made.log[seen:], "the loss is noticed", 90)
        noticed = re.findall(rf"(?m)^(\S+ \S+) INFO \S+: session .*: {victim} left$", made.log[seen:])[0]
        for process in made.sites.values():
            process.kill()
            process.wait(20)
    return (datetime.strptime(noticed, "%Y-%m-%d %H:%M:%S,%f").astimezone() - when).total_seconds()


BENCHES: dict[str, Callable[[], Line]] = {
    "plane.300_steps_s.2500_4": steps_bench(2_500),
    "plane.300_steps_s.40000_4": steps_bench(40_000),
    "plane.bytes_per_step.40000_4": bytes_bench,
    "plane.notice_s.frozen": notice_bench("frozen", signal.SIGSTOP),
    "plane.notice_s.killed": notice_bench("killed", signal.SIGKILL),
}

"""Secure sums against Flower's SecAgg+ and against a plain sum, all in one process and in turns.

Ours is a whole round sum: quantising, keys, signatures, shares, masks, the confirmed survivor set, unmasking; one
message after another, as between real sides. Flower's is its own workflow and its own client mod (1.41) over a grid
that hands messages from one to the other in memory, so neither side pays for serialisation or a network. What a
client needs is the mean over the ten, up to its last message; reading the result is in neither figure, since Flower's
clients get it with the next round. Our server takes a site's frame before the next site makes its own: sites share no
memory, and the coordinator keeps one vector for any number of them. The detail also has one step sum of ours, after
the keys, as steps use them.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from tests.bench.flower_secagg import run_flower
from tests.bench.line import Line, interleaved, seconds
from tests.support.secagg import sim

from dura_common.secagg import FixedPoint, Kind, Opened, Progress, Site, open_coordinator, open_site
from dura_common.secagg.arithmetic import masks

SITES = 10
MILLION = 1_000_000
NORM = 1000.0


@cache
def updates(length: int) -> list[NDArray[np.float32]]:
    """Return the sites' float vectors."""
    drawn = np.random.default_rng(1)
    return [drawn.normal(0, 0.1, length).astype(np.float32) for _ in range(SITES)]


class Ours:
    """Sums of all sites, with the time of both sides: a whole round sum, or the second of two step sums.

    Args:
        length: parameters.
        kind: of the session.
    """

    def __init__(self, length: int, kind: Kind) -> None:
        self.length = length
        self.identities = sim.identities(SITES)
        steps = 2 if kind is Kind.STEP else 1
        self.params = sim.parameters(self.identities, kind=kind, length=length, steps=steps)
        self.grid = FixedPoint(NORM, self.params.ring_bits, SITES)

    def run(self) -> tuple[float, float]:
        """Return seconds of one client (mean) and of the server; the server takes a frame as soon as it is made."""
        begin = time.perf_counter()
        sites = {name: open_site(self.params, name, self.identities[name]) for name in self.params.names}
        clients, server = time.perf_counter() - begin, 0.0
        coordinator = open_coordinator(self.params)
        told: Mapping[str, bytes | memoryview | None] = dict.fromkeys(sites)
        while True:
            progress = Progress()
            for name, frame in told.items():
                begin = time.perf_counter()
                answer = self._answer(sites[name], frame)
                middle = time.perf_counter()
                progress = coordinator.receive(name, answer)
                clients, server = clients + middle - begin, server + time.perf_counter() - middle
                del answer
            if progress.opened is not None and coordinator.ended:
                self._check(progress.opened)
                return clients / SITES, server
            if progress.opened is not None:
                clients = server = 0.0  # keys and first sum are not counted
            told = progress.outgoing

    def _answer(self, site: Site, frame: bytes | memoryview | None) -> bytes | memoryview:
        if frame is None:
            return site.advertise()
        reaction = site.receive(frame)
        return reaction.reply or site.mask(self.grid.encode(updates(self.length)[site.index]))

    def _check(self, opened: Opened) -> None:
        true = np.sum(updates(self.length), axis=0, dtype=np.float64)
        if np.abs(self.grid.decode(opened.total) - true).max() > SITES * 2.0**-self.grid.fraction_bits:
            raise AssertionError("the sum is wrong: the comparison would be void")


@cache
def against_flower(repeats: int = 7) -> dict[str, list[float]]:
    """Return seconds of clients and servers of both, in turns."""
    runs = {
        "": Ours(MILLION, Kind.ROUND).run,
        "step_": Ours(MILLION, Kind.STEP).run,
        "flower_": lambda: run_flower(updates(MILLION)),
    }
    times: dict[str, list[float]] = {f"{prefix}{side}": [] for prefix in runs for side in ("client", "server")}
    run_flower(updates(MILLION))
    for _ in range(repeats):
        for prefix, run in runs.items():
            client, server = run()
            times[f"{prefix}client"].append(client)
            times[f"{prefix}server"].append(server)
    return times


def _ratio(side: str) -> Line:
    times = against_flower()
    mine, theirs = times[side], times[f"flower_{side}"]
    detail = {
        "ours_ms": round(1e3 * statistics.median(mine), 2),
        "flower_ms": round(1e3 * statistics.median(theirs), 2),
        "ours_best_ms": round(1e3 * min(mine), 2),
        "flower_best_ms": round(1e3 * min(theirs), 2),
        "step_ms": round(1e3 * statistics.median(times[f"step_{side}"]), 2),
        "parameters": MILLION,
        "sites": SITES,
    }
    value = statistics.median(theirs) / statistics.median(mine)
    return Line(f"secagg.{side}_vs_flower.1m_10", round(value, 1), "times less time", detail)


def client_vs_flower() -> Line:
    """How many times less a client needs than with SecAgg+."""
    return _ratio("client")


def server_vs_flower() -> Line:
    """How many times less the server needs than with SecAgg+."""
    return _ratio("server")


def server_vs_plain() -> Line:
    """How many times more the server needs than for a plain float32 sum of what came, 10 million parameters."""
    length = 10 * MILLION
    received = [vector.tobytes() for vector in updates(length)]

    def plain() -> None:
        total = np.zeros(length, dtype=np.float32)
        for frame in received:
            total += np.frombuffer(frame, dtype=np.float32)

    we = Ours(length, Kind.ROUND)
    mine, plainly = [], []
    for _ in range(5):
        mine.append(we.run()[1])
        plainly.append(seconds(plain))
    updates.cache_clear()
    detail = {
        "ours_ms": round(1e3 * statistics.median(mine), 1),
        "plain_ms": round(1e3 * statistics.median(plainly), 1),
        "ours_best_ms": round(1e3 * min(mine), 1),
        "plain_best_ms": round(1e3 * min(plainly), 1),
    }
    value = statistics.median(mine) / statistics.median(plainly)
    return Line("secagg.server_vs_plain.10m_10", round(value, 2), "times the time", detail)


def mask_vs_memcpy() -> Line:
    """Bytes of keystream made and added a second (ten masks, 10 million words) over bytes copied a second."""
    target = np.zeros(10 * MILLION, dtype="<u4")
    source = np.ones_like(target)
    keys = [bytes([number]) * 32 for number in range(SITES)]
    works: dict[str, Callable[[], object]] = {
        "mask": lambda: masks.add_masks(target, keys, []),
        "copy": lambda: np.copyto(target, source),
    }
    times = interleaved(9, **works)
    speed = {"mask": SITES * target.nbytes / times["mask"] / 1e9, "copy": target.nbytes / times["copy"] / 1e9}
    detail = {f"{name}_gb_per_s": round(value, 2) for name, value in speed.items()}
    return Line("secagg.mask_vs_memcpy", round(speed["mask"] / speed["copy"], 3), "of memcpy", detail)


BENCHES = {
    "secagg.client_vs_flower.1m_10": client_vs_flower,
    "secagg.server_vs_flower.1m_10": server_vs_flower,
    "secagg.server_vs_plain.10m_10": server_vs_plain,
    "secagg.mask_vs_memcpy": mask_vs_memcpy,
}

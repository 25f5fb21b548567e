"""Secure sums against Flower's SecAgg+ and against a plain sum, all in one process and in turns.

Ours is a whole round sum: quantising, keys, signatures, shares, masks, the confirmed survivor set, unmasking; one
message after another, as between real sides. Flower's is its own workflow and its own client mod (1.41) over a grid
that hands messages from one to the other in memory, so neither side pays for serialisation or a network. What a
client needs is the mean over the ten.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from tests.bench.flower_secagg import run_flower
from tests.bench.line import Line, interleaved, seconds

from dura_common.secagg import FixedPoint, Kind, SessionParameters, masks, open_coordinator, open_site, sim

SITES = 10
MILLION = 1_000_000
NORM = 1000.0


@cache
def updates(length: int) -> list[NDArray[np.float32]]:
    """Return the sites' float vectors."""
    drawn = np.random.default_rng(1)
    return [drawn.normal(0, 0.1, length).astype(np.float32) for _ in range(SITES)]


class Ours:
    """One round sum of all sites, with the time of both sides."""

    def __init__(self, length: int, identities: dict[str, Ed25519PrivateKey], params: SessionParameters) -> None:
        self.length, self.identities, self.params = length, identities, params
        self.grid = FixedPoint(NORM, params.ring_bits, SITES)

    def run(self) -> tuple[float, float]:
        """Return seconds of one client (mean) and of the server."""
        clients = server = 0.0
        begin = time.perf_counter()
        sites = {name: open_site(self.params, name, self.identities[name]) for name in self.params.names}
        frames: list[tuple[str, bytes]] = [(name, site.advertise()) for name, site in sites.items()]
        clients += time.perf_counter() - begin
        begin = time.perf_counter()
        coordinator = open_coordinator(self.params)
        server += time.perf_counter() - begin
        opened = None
        while frames:
            begin = time.perf_counter()
            outgoing: dict[str, bytes] = {}
            for name, frame in frames:
                progress = coordinator.receive(name, frame)
                outgoing.update(progress.outgoing)
                opened = progress.opened or opened
            middle = time.perf_counter()
            server += middle - begin
            frames = []
            for name, frame in outgoing.items():
                reaction = sites[name].receive(frame)
                if reaction.reply is not None:
                    frames.append((name, reaction.reply))
                if reaction.ready:
                    vector = self.grid.encode(updates(self.length)[self.params.index(name)])
                    frames.append((name, sites[name].mask(vector)))
            clients += time.perf_counter() - middle
        assert opened is not None
        error = np.abs(self.grid.decode(opened.total) - np.sum(updates(self.length), axis=0, dtype=np.float64)).max()
        assert error < SITES * 2.0**-self.grid.fraction_bits, "the sum is wrong"
        return clients / SITES, server


def ours(length: int) -> Ours:
    """Return a round sum of ten sites."""
    identities = sim.identities(SITES)
    return Ours(length, identities, sim.parameters(identities, kind=Kind.ROUND, length=length))


@cache
def against_flower(repeats: int = 7) -> dict[str, list[float]]:
    """Return seconds of clients and servers of both, in turns."""
    times: dict[str, list[float]] = {"client": [], "server": [], "flower_client": [], "flower_server": []}
    we = ours(MILLION)
    run_flower(updates(MILLION))
    for _ in range(repeats):
        for prefix, run in (("", we.run), ("flower_", lambda: run_flower(updates(MILLION)))):
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

    we = ours(length)
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

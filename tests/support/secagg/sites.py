"""Sessions to vary."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray
from tests.support.secagg import sim

from dura_common.secagg import Coordinator, Heard, Kind, Opened, Progress, SessionParameters, open_site, wire
from dura_common.secagg.arithmetic.masks import Words, word_type
from dura_common.secagg.ring import fill_words

Vectors = Callable[[str, int], NDArray[np.int64]]
POOL = sim.identities(100)
"""Identities are dear to make, so all tests take theirs from here."""


def members(count: int) -> dict[str, Ed25519PrivateKey]:
    """Return the first identities of the pool."""
    return dict(list(POOL.items())[:count])


def session(count: int, kind: Kind, length: int = 5, **changes: int | str) -> SessionParameters:
    """Return the parameters of a session of so many sites."""
    steps = int(changes.pop("steps", 1))
    return sim.parameters(members(count), kind=kind, length=length, steps=steps, **changes)


def vectors(params: SessionParameters, seed: int = 0, limit: int | None = None) -> Vectors:
    """Return vectors that differ by site and step, always the same for the same."""
    top = limit if limit is not None else 10**6

    def vector(site: str, step: int) -> NDArray[np.int64]:
        return np.random.default_rng([seed, params.index(site), step]).integers(-top, top + 1, params.length)

    return vector


def true_sum(vector: Vectors, opened: Opened) -> NDArray[np.int64]:
    """Return the sum over the contributors, added as Python's integers would be."""
    total: NDArray[np.int64] = np.sum([vector(site, opened.step) for site in opened.contributors], axis=0)
    return total


def simulation(params: SessionParameters, vector: Vectors, **hooks: object) -> sim.Simulation:
    """Return a session in memory."""
    return sim.Simulation(params, members(len(params.members)), vector, **hooks)  # type: ignore[arg-type]  # hooks by name


def named(params: SessionParameters, indices: Iterable[int]) -> list[str]:
    """Return the names of members."""
    return [params.names[index] for index in indices]


def assert_true(vector: Vectors, opened: Iterable[Opened], at_sites: Mapping[str, list[Opened]]) -> None:
    """Every sum that anybody was told is the true one, and sites were told what the coordinator opened."""
    totals = {one.step: one for one in opened}
    for one in totals.values():
        assert np.array_equal(one.total, true_sum(vector, one))
    for told in at_sites.values():
        for one in told:
            assert np.array_equal(one.total, totals[one.step].total)
            assert one.contributors == totals[one.step].contributors


class Sites:
    """All sites of a session, spoken to by hand.

    Attributes:
        sites: by name; real ones.
        opened: what each was told.
    """

    def __init__(self, params: SessionParameters, vector: Vectors, heard: Heard | None = None) -> None:
        self.params, self.vector = params, vector
        notes = {name: bytes([number + 1]) * params.note_size for number, name in enumerate(params.names)}
        self.sites = {name: open_site(params, name, POOL[name], notes[name], heard) for name in params.names}
        self.opened: dict[str, list[Opened]] = {name: [] for name in params.names}

    def advertise(self) -> dict[str, bytes]:
        """Return everybody's first frame."""
        return {name: site.advertise() for name, site in self.sites.items()}

    def tell(self, frames: Mapping[str, bytes]) -> dict[str, bytes]:
        """Give each site its frame and return what it answers, vectors included; an abort comes through."""
        answers = {}
        for name, frame in frames.items():
            site = self.sites[name]
            reaction = site.receive(frame)
            if reaction.opened is not None:
                self.opened[name].append(reaction.opened)
            if reaction.reply is not None:
                answers[name] = reaction.reply
            if reaction.ready:
                step = self.params.first_step + len(self.opened[name])
                answers[name] = bytes(site.mask(self.vector(name, step)))
        return answers


def to_words(values: NDArray[np.int64], ring_bits: int, members: int) -> Words:
    """Return a vector (length,) as words (length + check words,), not masked."""
    words = np.empty(values.size + wire.CHECK_WORDS, dtype=word_type(ring_bits))
    fill_words(words, values, members)
    return words


def collect(coordinator: Coordinator, answers: Mapping[str, bytes]) -> Progress:
    """Give a coordinator what sites answered; return what follows from the last answer."""
    progress = Progress()
    for name, frame in answers.items():
        progress = coordinator.receive(name, frame)
    return replace(progress, outgoing={name: bytes(frame) for name, frame in progress.outgoing.items()})

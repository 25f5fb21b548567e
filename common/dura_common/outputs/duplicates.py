"""How many recordings are held by more than one site, from a sum of tables. Pure.

For public data in studies without noise only: a sum without noise may tell of one recording, and that is exactly what
patient-level privacy must hide (docs/decisions/0019-duplicates.md).

Every site enters each of its distinct recordings once into a table, and the coordinator sees the sum of the tables
alone. A recording is known by 40 bits, two parts f and g of 20, hashed from its plain digest under a label that the
study's digest is part of, so the tables of two studies have nothing in common. A hash of the 40 bits says in which bin
of each of three parts of the table it lies. A bin holds

    c = the number of entries, sum f, sum f^2, sum g, sum g^2.

By Cauchy and Schwarz c * sum f^2 >= (sum f)^2, with equality only if all f are equal. So a bin is known to hold one
recording alone, c times, and which: a **pure** bin. It is then taken out of its other two bins, which may become pure
by that (an invertible Bloom lookup table, Goodrich and Mitzenmacher 2011). With c >= 2 several sites hold it.

Nothing is guessed: with n distinct recordings at all sites together the answer is too large with probability below
n^2 / 2^41, if two recordings share all 40 bits (10,000 recordings: 5e-5), and too small where bins stay mixed. Up to
about 10,000 distinct recordings (0.8 of the bins) all are found; beyond, fewer and fewer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dura_common.study import NoNoise, Study
from dura_common.study.validation import Frozen

TABLES = 3
BINS = 4096
WORDS = 5
"""Of a bin: c, sum f, sum f^2, sum g, sum g^2."""
LENGTH = TABLES * BINS * WORDS
PART_BITS = 20
"""Of f and g. With 500 sites each may enter 16,000 recordings into one bin before a word is too large for the ring."""
Identity = tuple[int, int]


class Duplicates(Frozen):
    """What the sum of tables says."""

    recordings: Annotated[int, Field(ge=0)]
    """Recordings that are certain to be held by more than one site: their number is at least this."""
    complete: bool
    """Whether the whole table could be read; otherwise there may be more."""

    @property
    def sentence(self) -> str:
        """What every output says about it."""
        number = f"at least {self.recordings}" if self.recordings else "none known"
        full = "" if self.complete else "; the table was too full to be read to its end"
        return (
            f"Recordings held by more than one site: {number}{full}. The person in such a recording is "
            "counted as several patients. Copies that were cut, filtered or resampled are not found."
        )


def length_in(study: Study, round_number: int) -> int:
    """Return how many words of an evaluation after a round (1-based) are the table: none but after the last round.

    The schema refuses noise together with the table; that is asked again here, where everybody comes by.
    """
    wanted = study.evaluation.duplicates and isinstance(study.privacy, NoNoise)
    return LENGTH if wanted and round_number == study.training.rounds else 0


def tabulate(study: str, contents: Iterable[bytes]) -> NDArray[np.int64]:
    """Return one site's table, int64 (:data:`LENGTH`,).

    Args:
        study: digest of the study, 64 hex digits.
        contents: plain digests of the site's recordings; several of the same one count once.
    """
    table = np.zeros((TABLES, BINS, WORDS), dtype=np.int64)
    for identity in {_identity(study, content) for content in contents}:
        for part, place in enumerate(_places(study, identity)):
            table[part, place] += _entry(identity, 1)
    return table.ravel()


def decode(study: str, total: NDArray[np.int64]) -> Duplicates:
    """Return what a sum of tables (:data:`LENGTH`,) says; values that no sites can have sent make nothing pure."""
    bins = total.reshape(-1, WORDS).tolist()  # Python's integers: products go beyond 64 bits
    waiting = list(range(len(bins)))
    found = 0
    while waiting:
        place = waiting.pop()
        identity = _pure(bins[place])
        if identity is None:
            continue
        places = [part * BINS + found_in for part, found_in in enumerate(_places(study, identity))]
        entry = _entry(identity, bins[place][0])
        if place not in places or any(has < less for at in places for has, less in zip(bins[at], entry, strict=True)):
            continue
        for at in places:  # the number of entries falls with every turn, so the loop ends
            bins[at] = [has - less for has, less in zip(bins[at], entry, strict=True)]
        waiting += places
        found += entry[0] > 1
    return Duplicates(recordings=found, complete=not any(any(words) for words in bins))


def _identity(study: str, content: bytes) -> Identity:
    """Return f and g of a recording in one study."""
    hashed = hashlib.sha256(b"dura duplicates v1\0" + bytes.fromhex(study) + content).digest()
    bits = int.from_bytes(hashed[:5], "big")
    return bits >> PART_BITS, bits & ((1 << PART_BITS) - 1)


def _places(study: str, identity: Identity) -> tuple[int, ...]:
    """Return the bin in each part of the table: a function of f and g: with those two, all three bins are found."""
    bits = identity[0] << PART_BITS | identity[1]
    hashed = hashlib.sha256(b"dura duplicates place v1\0" + bytes.fromhex(study) + bits.to_bytes(5, "big")).digest()
    return tuple(int.from_bytes(hashed[2 * part : 2 * part + 2], "big") % BINS for part in range(TABLES))


def _entry(identity: Identity, count: int) -> list[int]:
    f, g = identity
    return [count, count * f, count * f * f, count * g, count * g * g]


def _pure(words: list[int]) -> Identity | None:
    """Return the recording that a bin holds alone, once or more often."""
    count, *sums = words
    if count < 1:
        return None
    identity = sums[0] // count, sums[2] // count
    # Equal to c * sum f^2 == (sum f)^2 and the same for g, and f and g are whole.
    return identity if words == _entry(identity, count) and _fits(identity) else None


def _fits(identity: Identity) -> bool:
    return all(0 <= part < 1 << PART_BITS for part in identity)

"""How many recordings are held by more than one site, from a sum of tables. Pure.

This is only for public data in studies without noise: a sum without noise may reveal a single recording, and
patient-level privacy must hide exactly that (docs/decisions/0019-duplicates.md).

Every site enters each of its distinct recordings once into a table. The coordinator sees only the sum of the tables. A
recording is identified by 40 bits, in two parts f and g of 20 bits. They are hashed from the recording's plain digest
under a label that contains the study's digest, so the tables of two studies have nothing in common. A hash of the 40
bits gives the recording's bin in each of the three parts of the table. A bin holds

    c = the number of entries, sum f, sum f^2, sum g, sum g^2.

By Cauchy and Schwarz, c * sum f^2 >= (sum f)^2, with equality only if all f are equal. Equality therefore shows that a
bin holds only one recording, c times, and which recording it is: the bin is **pure**. This recording is then removed
from its other two bins, which may then become pure too (an invertible Bloom lookup table, Goodrich and Mitzenmacher
2011). If c >= 2, several sites hold the recording.

Nothing is guessed. With n distinct recordings at all sites together, the answer is too large with probability below
n^2 / 2^41, namely if two recordings share all 40 bits (10,000 recordings: 5e-5). It is too small if bins stay mixed. Up
to about 10,000 distinct recordings (0.8 of the bins), all duplicates are found; with more recordings, fewer are found.
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
"""Numbers in a bin: c, sum f, sum f^2, sum g, sum g^2."""
LENGTH = TABLES * BINS * WORDS
PART_BITS = 20
"""Bits of f and of g. With 500 sites, each may enter 16,000 recordings into one bin before a word exceeds the ring."""
Identity = tuple[int, int]


class Duplicates(Frozen):
    """The result of a sum of tables."""

    recordings: Annotated[int, Field(ge=0)]
    """A lower bound on the number of recordings that more than one site holds."""
    complete: bool
    """Whether the whole table could be read. Otherwise, there may be more such recordings."""

    @property
    def sentence(self) -> str:
        """The sentence for every output about the study."""
        number = f"at least {self.recordings}" if self.recordings else "none known"
        full = "" if self.complete else "; the table was too full to be read to its end"
        return (
            f"Recordings held by more than one site: {number}{full}. The person in such a recording is "
            "counted as several patients. Copies that were cut, filtered or resampled are not found."
        )


def length_in(study: Study, round_number: int) -> int:
    """Return the number of words of the table in the evaluation after a round (1-based); 0 except after the last round.

    The schema refuses the table in studies with noise. This function checks it again, because every caller passes here.
    """
    wanted = study.evaluation.duplicates and isinstance(study.privacy, NoNoise)
    return LENGTH if wanted and round_number == study.training.rounds else 0


def tabulate(study: str, contents: Iterable[bytes]) -> NDArray[np.int64]:
    """Return one site's table, int64 (:data:`LENGTH`,).

    Args:
        study: digest of the study, 64 hex digits.
        contents: plain digests of the site's recordings; equal digests count once.
    """
    table = np.zeros((TABLES, BINS, WORDS), dtype=np.int64)
    for identity in {_identity(study, content) for content in contents}:
        for part, place in enumerate(_places(study, identity)):
            table[part, place] += _entry(identity, 1)
    return table.ravel()


def decode(study: str, total: NDArray[np.int64]) -> Duplicates:
    """Return the result of a sum of tables (:data:`LENGTH`,). A bin with impossible values is never pure."""
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
        for at in places:  # every turn removes entries, so the loop ends
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
    """Return the bin in each part of the table. It depends only on f and g, so these two give all three bins."""
    bits = identity[0] << PART_BITS | identity[1]
    hashed = hashlib.sha256(b"dura duplicates place v1\0" + bytes.fromhex(study) + bits.to_bytes(5, "big")).digest()
    return tuple(int.from_bytes(hashed[2 * part : 2 * part + 2], "big") % BINS for part in range(TABLES))


def _entry(identity: Identity, count: int) -> list[int]:
    f, g = identity
    return [count, count * f, count * f * f, count * g, count * g * g]


def _pure(words: list[int]) -> Identity | None:
    """Return the recording of a pure bin, which holds it once or more often."""
    count, *sums = words
    if count < 1:
        return None
    identity = sums[0] // count, sums[2] // count
    # Equal to c * sum f^2 == (sum f)^2 and the same for g, and f and g are whole.
    return identity if words == _entry(identity, count) and _fits(identity) else None


def _fits(identity: Identity) -> bool:
    return all(0 <= part < 1 << PART_BITS for part in identity)
